import random
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFile

from ingest.processing import image
from ingest.processing.steps import Ceilings, Source, Unprocessable
from tests.ingest.processing.pictures_made import (
    BLUE,
    RED,
    Originals,
    Processed,
    gradient,
    moving,
    near,
    pixel,
    png_chunk,
    quadrants,
    with_png_chunk,
)

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF"]
TYPES = [f"image/{form.lower()}" for form in FORMATS]


@pytest.fixture
def originals(tmp_path: Path) -> Originals:
    return Originals(tmp_path)


def bytes_of(picture: Image.Image, form: str, originals: Originals, **options: Any) -> bytes:
    originals.save(picture, form, **options)
    return (originals.folder / "original").read_bytes()


def outcomes(picture: Processed) -> dict[str, str]:
    """Run all steps; ``made``, or the code of what stops one. Anything but `Unprocessable` fails the test."""
    codes = {}
    for step in picture.steps:
        try:
            picture.run(step)
        except Unprocessable as error:
            codes[step] = error.code
        else:
            codes[step] = "made"
    return codes


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="zero bytes"),
        pytest.param(b"\0", id="one byte"),
        pytest.param(b"<!DOCTYPE html><script>alert(1)</script>", id="HTML"),
        pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', id="SVG"),
        pytest.param(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", id="PostScript: Pillow would run Ghostscript"
        ),
        pytest.param(random.Random(1).randbytes(5000), id="noise"),
    ],
)
@pytest.mark.parametrize("content_type", TYPES)
def test_what_is_no_picture_is_undecodable(data: bytes, content_type: str, originals: Originals) -> None:
    assert set(outcomes(originals.of(data, content_type)).values()) == {"undecodable"}


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_is_decoded_as_what_it_was_sniffed_to_be_and_as_nothing_else(form: str, originals: Originals) -> None:
    data = bytes_of(quadrants(), form, originals)
    other = "image/png" if form != "PNG" else "image/jpeg"
    assert set(outcomes(originals.of(data, other)).values()) == {"undecodable"}


@pytest.mark.parametrize("content_type", ["image/heic", "image/svg+xml", "image/vnd.adobe.photoshop", "image/x-icon"])
def test_types_without_a_decoder_say_so(content_type: str, originals: Originals) -> None:
    picture = originals.of(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", content_type)
    assert set(outcomes(picture).values()) == {"unsupported-type"}


def test_heic_in_a_general_container_is_undecodable(originals: Originals) -> None:
    picture = originals.of(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(500), "image/heif")
    assert set(outcomes(picture).values()) == {"undecodable"}


@pytest.mark.parametrize("form", FORMATS)
def test_one_pixel_is_a_picture(form: str, originals: Originals) -> None:
    picture = originals.save(Image.new("RGB", (1, 1), RED), form)
    assert set(outcomes(picture).values()) == {"made"}
    assert (picture.facts["width"], picture.facts["height"]) == (1, 1)
    assert near(pixel(picture.opened("large"), (400, 400)), RED)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF"])
def test_a_truncated_picture_is_undecodable(form: str, share: float, originals: Originals) -> None:
    data = bytes_of(gradient((300, 200)), form, originals)
    picture = originals.of(data[: int(len(data) * share)], f"image/{form.lower()}")
    assert set(outcomes(picture).values()) == {"undecodable"}


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_shown_as_far_as_it_goes_but_not_made_anew(progressive: bool, originals: Originals) -> None:  # noqa: FBT001
    source = Image.new("RGB", (900, 900), RED)
    source.paste(BLUE, (0, 800, 900, 900))
    data = bytes_of(source, "JPEG", originals, progressive=progressive, quality=95)
    picture = originals.of(data[: len(data) * 9 // 10], "image/jpeg")
    assert outcomes(picture) == {
        "facts": "made",
        "squares": "made",
        "compressed": "undecodable",
        "webp": "undecodable",
    }
    assert picture.facts["width"] == 900
    assert near(pixel(picture.opened("large"), (400, 100)), RED)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_jpeg_without_pixels_is_undecodable(originals: Originals) -> None:
    data = bytes_of(quadrants(), "JPEG", originals)
    picture = originals.of(data[: data.index(b"\xff\xc0")], "image/jpeg")
    assert set(outcomes(picture).values()) == {"undecodable"}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("form", [*FORMATS, "moving GIF", "moving PNG", "moving WEBP"])
def test_flipped_bits_never_end_in_anything_but_a_picture_or_a_reason(
    form: str, seed: int, originals: Originals
) -> None:
    form, frames = form.removeprefix("moving "), moving(3, (24, 18)) if "moving" in form else [gradient((24, 18))]
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:]} if frames[1:] else {}
    data = bytearray(bytes_of(frames[0], form, originals, **options))
    chance = random.Random(f"{form} {seed}")
    for _ in range(chance.choice((1, 4, 16))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    outcomes(originals.of(bytes(data), f"image/{form.lower()}", Ceilings(pixels=1_000_000)))


def test_a_png_of_2_kb_that_is_50_000_pixels_wide_and_high_is_not_decoded(originals: Originals) -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(2_000_000), 9))
    data = b"\x89PNG\r\n\x1a\n" + header + pixels + png_chunk(b"IEND", b"")
    assert len(data) < 2_100
    assert set(outcomes(originals.of(data, "image/png")).values()) == {"too-many-pixels"}


def claims(form: str, data: bytes) -> bytes:
    """The same file, but its header says that it is about 16,000 pixels wide and high."""
    patched, side = bytearray(data), 16_000
    if form == "JPEG":
        struct.pack_into(">HH", patched, data.index(b"\xff\xc0") + 5, side, side)
    elif form == "GIF":
        struct.pack_into("<HH", patched, 6, side, side)
    elif form == "BMP":
        struct.pack_into("<ii", patched, 18, side, side)
    elif form == "AVIF":
        struct.pack_into(">II", patched, data.index(b"ispe") + 8, side, side)
    elif form == "WEBP":  # the simple format becomes the extended one (WebP container specification)
        extended = b"VP8X" + struct.pack("<IB3x", 10, 0) + struct.pack("<I", side - 1)[:3] * 2
        patched = bytearray(b"RIFF" + struct.pack("<I", len(data) - 8 + len(extended)) + b"WEBP" + extended + data[12:])
    return bytes(patched)


@pytest.mark.parametrize("form", ["JPEG", "GIF", "BMP", "WEBP", "AVIF"])
def test_a_header_that_claims_too_many_pixels_is_believed(form: str, originals: Originals) -> None:
    data = bytes_of(quadrants(), form, originals)
    assert set(outcomes(originals.of(data, f"image/{form.lower()}")).values()) == {"made"}
    assert set(outcomes(originals.of(claims(form, data), f"image/{form.lower()}")).values()) == {"too-many-pixels"}


@pytest.mark.parametrize(
    ("pixels", "code"), [(96 * 64, "made"), (96 * 64 - 1, "too-many-pixels"), (1, "too-many-pixels")]
)
@pytest.mark.parametrize("form", FORMATS)
def test_the_ceiling_is_the_largest_that_is_decoded(form: str, pixels: int, code: str, originals: Originals) -> None:
    before = Image.MAX_IMAGE_PIXELS
    assert set(outcomes(originals.save(quadrants(), form, Ceilings(pixels=pixels))).values()) == {code}
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("kind", "before"),
    [
        pytest.param(b"zTXt", b"Comment\0\0", id="compressed text"),
        pytest.param(b"iTXt", b"Comment\0\x01\0\0\0", id="international text"),
        pytest.param(b"iCCP", b"ICC Profile\0\0", id="profile"),
    ],
)
def test_a_png_whose_metadata_decompress_without_end_is_undecodable(
    kind: bytes, before: bytes, originals: Originals
) -> None:
    bomb = before + zlib.compress(bytes(3_000_000), 9)
    data = with_png_chunk(bytes_of(quadrants(), "PNG", originals), kind, bomb)
    assert len(data) < 10_000
    assert set(outcomes(originals.of(data, "image/png")).values()) == {"undecodable"}


def test_exif_entries_that_all_point_to_the_same_bytes_cost_nothing(originals: Originals) -> None:
    entries = b"".join(struct.pack(">HHLL", 1000 + number, 7, 64_000, 8) for number in range(5_000))
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 5_000) + entries
    picture = originals.save(quadrants(), "JPEG", exif=exif.ljust(65_500, b"\0"))
    assert set(outcomes(picture).values()) == {"made"}


def test_a_picture_wider_than_webp_can_be_has_no_webp(originals: Originals) -> None:
    picture = originals.save(Image.new("RGB", (16_384, 2)), "JPEG")
    assert outcomes(picture) == {"facts": "made", "squares": "made", "compressed": "made", "webp": "too-long-a-side"}


def test_a_picture_wider_than_jpeg_can_be_has_squares(originals: Originals) -> None:
    picture = originals.save(Image.new("RGB", (65_501, 1), RED), "BMP")
    assert outcomes(picture) == {
        "facts": "made",
        "squares": "made",
        "compressed": "too-long-a-side",
        "webp": "too-long-a-side",
    }
    assert near(pixel(picture.opened("small"), (50, 50)), RED)


def test_a_file_that_is_gone_is_no_fault_of_the_picture(tmp_path: Path) -> None:
    for step in image.steps(Source(path=tmp_path / "gone", content_type="image/png", size=1), Ceilings()):
        with pytest.raises(FileNotFoundError):
            step.run(tmp_path)


def test_a_full_disk_is_no_fault_of_the_picture(originals: Originals) -> None:
    picture = originals.save(quadrants(), "PNG")
    for step in ("squares", "compressed", "webp"):
        with pytest.raises(FileNotFoundError):
            picture.steps[step].run(originals.folder / "gone")
