"""The colours of frames, as a screen shows them."""

from typing import cast

import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from PIL import Image

from ingest.processing.frames import TIME_BASE, Colours, Scaler, colours_of
from tests.ingest.processing.films import GREEN

BT709, UNSPECIFIED, BT601, BT2020 = 1, 2, 5, 9  # ITU-T H.273, matrix coefficients
HLG = 18  # and transfer characteristics


def filmed(size: tuple[int, int], matrix: Colorspace, *, tag: int, pixel_format: str = "yuv420p") -> VideoFrame:
    """Return a green frame, coded by a matrix, that says that it was coded by another, or nothing."""
    picture: VideoFrame = VideoFrame.from_image(Image.new("RGB", size, GREEN))  # type: ignore[no-untyped-call]  # PyAV
    frame = picture.reformat(format=pixel_format, dst_colorspace=matrix, dst_color_range=ColorRange.MPEG)
    frame.colorspace, frame.pts, frame.time_base = tag, 0, TIME_BASE
    frame.color_trc, frame.color_primaries = ColorTrc.UNSPECIFIED, ColorPrimaries.UNSPECIFIED
    return frame


def seen(frame: VideoFrame) -> tuple[int, int, int]:
    image = cast("Image.Image", frame.to_image())  # type: ignore[no-untyped-call]  # PyAV
    return cast("tuple[int, int, int]", image.getpixel((3, 3)))


@pytest.mark.parametrize(
    ("size", "matrix", "tag"),
    [
        ((64, 48), Colorspace.ITU709, BT709),
        ((1280, 720), Colorspace.ITU709, UNSPECIFIED),
        ((64, 48), Colorspace.ITU601, BT601),
        ((64, 48), Colorspace.ITU601, UNSPECIFIED),
        ((64, 48), Colorspace.BT2020, BT2020),
    ],
    ids=["BT.709", "untagged and large", "BT.601", "untagged and small", "BT.2020"],
)
def test_green_stays_green(size: tuple[int, int], matrix: Colorspace, tag: int) -> None:
    frame = filmed(size, matrix, tag=tag)
    assert seen(Scaler((32, 24), pixel_format="rgb24").scale(frame)) == pytest.approx(GREEN, abs=4)


@pytest.mark.parametrize(
    ("size", "tag", "expected"),
    [((64, 48), BT709, BT709), ((64, 48), UNSPECIFIED, BT601), ((1280, 720), UNSPECIFIED, BT709)],
    ids=["tagged", "untagged and small", "untagged and large"],
)
def test_what_is_made_smaller_says_how_it_is_coded(size: tuple[int, int], tag: int, expected: int) -> None:
    """Players go by the size where nothing is said: what was large enough for BT.709 would be taken for BT.601."""
    frame = filmed(size, Colorspace.ITU709, tag=tag)
    assert colours_of(frame) == Colours(expected, UNSPECIFIED, UNSPECIFIED)
    scaled = Scaler((32, 24)).scale(frame)
    assert (scaled.colorspace, scaled.color_range, scaled.format.name) == (expected, ColorRange.MPEG, "yuv420p")


def test_hdr_becomes_what_every_screen_shows() -> None:
    """In HLG three quarters of the signal are white (ITU-R BT.2408: 75 % HLG, 203 cd/m²)."""
    frame = filmed((64, 48), Colorspace.BT2020, tag=BT2020, pixel_format="yuv420p10le")
    frame.planes[0].update((round(64 + 0.75 * 876)).to_bytes(2, "little") * (frame.planes[0].buffer_size // 2))
    for plane in frame.planes[1:]:
        plane.update((512).to_bytes(2, "little") * (plane.buffer_size // 2))
    frame.color_trc, frame.color_primaries = HLG, BT2020
    assert colours_of(frame) == Colours(BT709, BT709, BT709)
    assert min(seen(Scaler((32, 24), pixel_format="rgb24").scale(frame))) > 225


def test_a_frame_that_fits_is_not_copied() -> None:
    frame = filmed((64, 48), Colorspace.ITU601, tag=BT601)
    assert Scaler((64, 48)).scale(frame) is frame
