import base64
import io
import math
from pathlib import Path

import blurhash  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ingest.processing.pictures import SQUARES, flat, placeholders, square, squares
from tests.ingest.processing.pictures_made import GREEN, RED, corners, decoded, gradient, near, pixel, quadrants

WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (128, 128, 128)
PINK = (255, 127, 127)


def palette_with_alpha() -> Image.Image:
    picture = Image.new("P", (2, 1))
    picture.putpalette([*RED, 0, 0, 0])
    picture.putpixel((1, 0), 1)
    picture.info["transparency"] = bytes([255, 0])
    return picture


def filled(mode: str, *values: object) -> Image.Image:
    picture = Image.new(mode, (len(values), 1))
    for place, value in enumerate(values):
        picture.putpixel((place, 0), value)  # type: ignore[arg-type]  # each mode has its own
    return picture


@pytest.mark.parametrize(
    ("picture", "colours"),
    [
        pytest.param(filled("1", 0, 1), [BLACK, WHITE], id="1 bit"),
        pytest.param(filled("L", 0, 128), [BLACK, GREY], id="grey"),
        pytest.param(filled("LA", (0, 255), (0, 127)), [BLACK, GREY], id="grey with alpha"),
        pytest.param(filled("RGB", RED, GREEN), [RED, GREEN], id="RGB"),
        pytest.param(filled("RGBA", (255, 0, 0, 128), (9, 9, 9, 0)), [PINK, WHITE], id="RGB with alpha"),
        pytest.param(palette_with_alpha(), [RED, WHITE], id="palette with alpha"),
        pytest.param(filled("CMYK", (0, 0, 0, 0), (0, 0, 0, 255)), [WHITE, BLACK], id="CMYK"),
        pytest.param(filled("YCbCr", (255, 128, 128), (0, 128, 128)), [WHITE, BLACK], id="YCbCr"),
        pytest.param(filled("I;16", 65535, 32896), [WHITE, GREY], id="16 bits"),
        pytest.param(filled("I;16B", 65535, 32896), [WHITE, GREY], id="16 bits, big-endian"),
        pytest.param(filled("I", -1000, 2_000_000), [BLACK, WHITE], id="32 bits: black to white, whatever the range"),
        pytest.param(filled("F", 0.25, 0.75), [BLACK, WHITE], id="floating point: likewise"),
        pytest.param(filled("F", 7.0, 7.0), [BLACK, BLACK], id="floating point: one value has no range"),
    ],
)
def test_every_mode_is_shown_in_rgb_over_white(picture: Image.Image, colours: list[tuple[int, int, int]]) -> None:
    shown = flat(picture)
    assert shown.mode == "RGB"
    assert all(near(pixel(shown, (x, 0)), colour, 1) for x, colour in enumerate(colours))


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((1, 1), id="one pixel"),
        pytest.param((3, 2), id="smaller than any square"),
        pytest.param((800, 800), id="the largest square itself"),
        pytest.param((801, 1200), id="odd"),
        pytest.param((3000, 5), id="a line"),
        pytest.param((5, 3000), id="an upright line"),
    ],
)
def test_squares_have_exactly_their_size_whatever_the_picture_is(size: tuple[int, int], tmp_path: Path) -> None:
    made = squares(gradient(size), tmp_path)
    assert [(one.name, one.path, one.content_type) for one in made] == [
        (name, tmp_path / f"{name}.jpg", "image/jpeg") for name in ("small", "thumbnail", "medium", "large")
    ]
    assert [decoded(one.path).size for one in made] == [(100, 100), (150, 150), (400, 400), (800, 800)]


@given(
    width=st.integers(1, 120), height=st.integers(1, 120), side=st.integers(1, 90), mode=st.sampled_from(["RGB", "P"])
)
def test_a_square_is_a_square(width: int, height: int, side: int, mode: str) -> None:
    assert square(Image.new(mode, (width, height)), side).size == (side, side)


@pytest.mark.parametrize("upright", [False, True], ids=["wide", "high"])
def test_squares_show_the_middle_of_the_picture(upright: bool, tmp_path: Path) -> None:  # noqa: FBT001
    picture = Image.new("RGB", (900, 300), RED)
    picture.paste(quadrants((300, 300)), (300, 0))
    if upright:
        picture = picture.transpose(Image.Transpose.TRANSPOSE)
    middle = corners(quadrants((300, 300)).transpose(Image.Transpose.TRANSPOSE) if upright else quadrants((300, 300)))
    for made in squares(picture, tmp_path):
        assert all(near(*pair) for pair in zip(corners(decoded(made.path)), middle, strict=True)), made.name


def test_squares_are_jpeg_of_quality_80_without_metadata(tmp_path: Path) -> None:
    picture = gradient((900, 900))
    picture.info |= {"comment": b"taken at home", "exif": b"Exif\0\0 home", "icc_profile": b"any", "xmp": b"home"}
    for made in squares(picture, tmp_path):
        with Image.open(made.path) as file:
            assert file.format == "JPEG"
            # ITU T.81 table K.1 begins with 16; libjpeg scales it by 200 - 2 * 80 per cent.
            assert file.quantization[0][0] == 6  # type: ignore[attr-defined]
            assert set(file.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"}
        assert b"home" not in made.path.read_bytes()


@pytest.mark.parametrize(
    ("size", "placeholder"),
    [((400, 200), (20, 10)), ((150, 600), (5, 20)), ((5000, 3), (20, 1)), ((8, 6), (8, 6)), ((1, 1), (1, 1))],
)
def test_the_lqip_is_a_data_uri_of_at_most_20_pixels(size: tuple[int, int], placeholder: tuple[int, int]) -> None:
    kind, _, data = placeholders(quadrants(size))["lqip"].partition(",")
    assert kind == "data:image/webp;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == placeholder
    assert len(data) < 400


@pytest.mark.parametrize(("size", "components"), [((300, 200), (4, 3)), ((200, 300), (3, 4)), ((1, 1), (4, 3))])
def test_the_blurhash_has_more_components_on_the_longer_side(
    size: tuple[int, int], components: tuple[int, int]
) -> None:
    assert blurhash.components(placeholders(Image.new("RGB", size, RED))["blurhash"]) == components


def test_the_blurhash_shows_the_picture() -> None:
    rows = blurhash.decode(placeholders(quadrants((300, 200)))["blurhash"], 30, 20)
    blurred = Image.frombytes("RGB", (30, 20), bytes(value for row in rows for rgb in row for value in rgb))
    sharp = corners(quadrants())
    nearest = [min(sharp, key=lambda colour: math.dist(colour, seen)) for seen in corners(blurred)]
    assert nearest == sharp


def test_the_dominant_colour_is_the_one_of_which_there_is_most_and_no_average() -> None:
    picture = Image.new("RGB", (300, 200), (255, 255, 255))
    picture.paste(RED, (0, 0, 200, 200))
    colour = placeholders(picture)["dominant_color"]
    assert colour.startswith("#")
    assert near(tuple(bytes.fromhex(colour[1:])), RED, 2)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_placeholders_and_squares_are_made_of_every_mode(mode: str, tmp_path: Path) -> None:
    picture = Image.new(mode, (30, 20))
    assert set(placeholders(picture)) == {"lqip", "blurhash", "dominant_color"}
    assert len(squares(picture, tmp_path)) == len(SQUARES)
