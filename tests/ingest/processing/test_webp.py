import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from ingest.processing.steps import Ceilings, Unprocessable
from tests.ingest.processing.pictures_made import (
    GREEN,
    RED,
    Originals,
    Processed,
    moving,
    near,
    pixel,
    profile_with_red_and_green_exchanged,
    quadrants,
    with_png_chunk,
)

WHITE = (255, 255, 255)


@pytest.fixture
def originals(tmp_path: Path) -> Originals:
    return Originals(tmp_path)


def frames_of(picture: Processed) -> list[tuple[Image.Image, int]]:
    """The frames of the variant ``webp``, and how long each is shown, in milliseconds."""
    with Image.open(picture.made("webp").path) as file:
        assert file.format == "WEBP"
        frames = []
        for number in range(getattr(file, "n_frames", 1)):
            file.seek(number)
            file.load()
            frames.append((file.convert("RGBA"), file.info["duration"]))
        return frames


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF"])
def test_an_animation_stays_one(form: str, originals: Originals) -> None:
    picture = originals.animate(moving(3), form, duration=[100, 250, 40])
    assert picture.facts["frames"] == 3
    frames = frames_of(picture)
    assert [duration for _, duration in frames] == [100, 250, 40]
    for number, (frame, _) in enumerate(frames):
        assert near(pixel(frame, (number + 1, 15))[:3], WHITE, 40), number
        assert near(pixel(frame, (number + 15, 15))[:3], RED, 40), number


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF"])
def test_squares_show_the_first_frame(form: str, originals: Originals) -> None:
    frames = [Image.new("RGB", (30, 30), GREEN), *moving(2, (30, 30))]
    assert near(pixel(originals.animate(frames, form, duration=50).opened("small"), (50, 50)), GREEN, 30)


@pytest.mark.parametrize("form", ["PNG", "AVIF"])
def test_an_animation_is_not_compressed_into_a_still(form: str, originals: Originals) -> None:
    assert originals.animate(moving(2), form, duration=50).run("compressed").made == ()


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_a_still_of_a_format_that_can_move_is_a_still(form: str, originals: Originals) -> None:
    picture = originals.save(quadrants(), form)
    assert "frames" not in picture.facts
    assert not getattr(picture.opened("webp"), "is_animated", False)


@pytest.mark.parametrize(
    ("form", "loop", "plays"),
    [
        pytest.param("GIF", {"loop": 0}, 0, id="GIF: for ever"),
        pytest.param("GIF", {"loop": 4}, 5, id="GIF: 4 repetitions are 5 plays"),
        pytest.param("GIF", {}, 1, id="GIF: once, where nothing is said"),
        pytest.param("PNG", {"loop": 0}, 0, id="APNG: for ever"),
        pytest.param("PNG", {"loop": 4}, 4, id="APNG: counts plays"),
        pytest.param("WEBP", {"loop": 0}, 0, id="WebP: for ever"),
        pytest.param("WEBP", {"loop": 4}, 4, id="WebP: counts plays"),
    ],
)
def test_an_animation_is_played_as_often(form: str, loop: dict[str, Any], plays: int, originals: Originals) -> None:
    webp = originals.animate(moving(2), form, duration=50, **loop).opened("webp")
    assert webp.info["loop"] == plays


@pytest.mark.parametrize(
    ("form", "disposal"),
    [
        pytest.param("GIF", {"disposal": 2}, id="GIF: to the background"),
        pytest.param("PNG", {"disposal": 1}, id="APNG: to the background"),
        pytest.param("WEBP", {}, id="WebP"),
    ],
)
def test_an_animation_keeps_its_transparency(form: str, disposal: dict[str, Any], originals: Originals) -> None:
    frames = [Image.new("RGBA", (60, 20), (0, 0, 0, 0)) for _ in range(2)]
    for number, frame in enumerate(frames):
        ImageDraw.Draw(frame).ellipse((number * 20, 0, number * 20 + 19, 19), fill=RED)
    shown = frames_of(originals.animate(frames, form, duration=50, **disposal))
    assert [[pixel(frame, (x, 10))[3] for x in (10, 30, 50)] for frame, _ in shown] == [[255, 0, 0], [0, 255, 0]]


def test_a_picture_for_those_who_cannot_play_an_apng_is_no_frame_of_it(originals: Originals) -> None:
    picture = originals.animate([Image.new("RGB", (40, 30), GREEN), *moving(2)], "PNG", duration=50, default_image=True)
    assert picture.facts["frames"] == 2
    assert [near(pixel(frame, (30, 15))[:3], RED, 40) for frame, _ in frames_of(picture)] == [True, True]


def test_frames_are_converted_to_srgb(originals: Originals) -> None:
    picture = originals.animate(moving(2), "WEBP", duration=50, icc_profile=profile_with_red_and_green_exchanged())
    seen = (RED[1], RED[0], RED[2])
    assert [near(pixel(frame, (30, 15))[:3], seen, 40) for frame, _ in frames_of(picture)] == [True, True]


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF"])
def test_more_frames_than_the_ceiling_cost_the_animation_alone(form: str, originals: Originals) -> None:
    picture = originals.animate(moving(4), form, Ceilings(frames=3), duration=50)
    assert picture.facts["frames"] == 4
    assert picture.opened("small").size == (100, 100)
    with pytest.raises(Unprocessable) as raised:
        picture.run("webp")
    assert raised.value.code == "too-many-frames"


def test_an_animation_wider_than_webp_can_be_has_none(originals: Originals) -> None:
    with pytest.raises(Unprocessable, match="too-long-a-side"):
        originals.animate(moving(2, (16_384, 1)), "GIF", duration=50).run("webp")


def test_as_many_frames_as_the_ceiling_are_not_too_many(originals: Originals) -> None:
    assert len(frames_of(originals.animate(moving(3), "GIF", Ceilings(frames=3), duration=50))) == 3


def gif_of(frames: int) -> bytes:
    """A GIF of 1 x 1 pixel (GIF89a §17 and following)."""
    header = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return header + frame * frames + b"\x3b"


def test_a_gif_of_10_000_frames_is_shown_but_not_converted(originals: Originals) -> None:
    picture = originals.of(gif_of(10_000), "image/gif")
    assert picture.facts["frames"] == 10_000
    assert picture.opened("thumbnail").size == (150, 150)
    with pytest.raises(Unprocessable, match="too-many-frames"):
        picture.run("webp")


def test_a_header_that_claims_frames_which_are_not_there_is_believed_before_they_are_decoded(
    originals: Originals,
) -> None:
    original = originals.save(quadrants(), "PNG")
    data = with_png_chunk((original.folder / "original").read_bytes(), b"acTL", struct.pack(">II", 2_000_000_000, 0))
    with pytest.raises(Unprocessable, match="too-many-frames"):
        originals.of(data, "image/png").run("webp")


def test_an_animation_that_ends_too_early_is_not_converted(originals: Originals) -> None:
    original = originals.animate([picture.resize((200, 200)) for picture in moving(9)], "WEBP", duration=50)
    data = (original.folder / "original").read_bytes()
    with pytest.raises(Unprocessable, match="undecodable"):
        originals.of(data[: len(data) * 2 // 3], "image/webp").run("webp")


def test_a_late_frame_cannot_enlarge_a_gif_beyond_the_ceiling(originals: Originals) -> None:
    frame = b"\x2c" + struct.pack("<HHHHB", 60_000, 60_000, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    picture = originals.of(gif_of(2)[:-1] + frame + b"\x3b", "image/gif")
    assert picture.opened("small").size == (100, 100)
    with pytest.raises(Unprocessable, match="too-many-pixels"):
        picture.run("webp")


def test_frames_of_many_sizes_and_disposals_look_as_in_the_original(originals: Originals) -> None:
    # Two frames of which the second is a small part: the rest of the first one stays.
    first, second = Image.new("RGB", (40, 30), GREEN), Image.new("RGB", (40, 30), GREEN)
    second.paste(RED, (10, 10, 20, 20))
    frames = frames_of(originals.animate([first, second], "GIF", duration=50))
    assert [near(pixel(frames[1][0], place)[:3], colour, 40) for place, colour in (((15, 15), RED), ((30, 5), GREEN))]
