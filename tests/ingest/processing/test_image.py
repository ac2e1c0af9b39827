from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.ExifTags import Base

from ingest.processing import image
from ingest.processing.steps import Ceilings, Source
from tests.ingest.processing.pictures_made import (
    BLUE,
    GREEN,
    RED,
    SIZE,
    YELLOW,
    Originals,
    corners,
    gradient,
    near,
    pixel,
    profile_with_red_and_green_exchanged,
    quadrants,
)

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF"]


@pytest.fixture
def originals(tmp_path: Path) -> Originals:
    return Originals(tmp_path)


@pytest.mark.parametrize(
    ("content_type", "compressed"),
    [
        ("image/jpeg", [("compressed",)]),
        ("image/png", [("compressed",)]),
        ("image/avif", [("compressed",)]),
        pytest.param("image/webp", [], id="image/webp stays as it is"),
        pytest.param("image/gif", [], id="image/gif stays as it is"),
    ],
)
def test_the_steps_are_known_before_the_file_is_opened(content_type: str, compressed: list[tuple[str]]) -> None:
    steps = image.steps(Source(path=Path("/nowhere"), content_type=content_type, size=1), Ceilings())
    assert [step.name for step in steps] == ["facts", "squares", *["compressed" for _ in compressed], "webp"]
    squares = ("small", "thumbnail", "medium", "large")
    assert [step.makes for step in steps] == [(), squares, *compressed, ("webp",)]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_shown(form: str, originals: Originals) -> None:
    picture = originals.save(quadrants(), form)
    assert {"width": 96, "height": 64, "codec": form.lower(), "exif": {}}.items() <= picture.facts.items()
    assert set(picture.facts) == {"width", "height", "codec", "exif", "lqip", "blurhash", "dominant_color"}
    for name in ("small", "thumbnail", "medium", "large"):
        assert picture.made(name).content_type == "image/jpeg"
    assert all(near(*pair) for pair in zip(corners(picture.opened("large")), (RED, GREEN, BLUE, YELLOW), strict=True))
    webp = picture.opened("webp")
    assert (webp.format, webp.size) == ("WEBP", SIZE)
    assert all(near(*pair, 40) for pair in zip(corners(webp), (RED, GREEN, BLUE, YELLOW), strict=True))


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "1"),
        ("PNG", "L"),
        ("PNG", "LA"),
        ("PNG", "I;16"),
        ("TIFF", "F"),
        ("TIFF", "CMYK"),
    ],
)
def test_unusual_modes_are_shown(form: str, mode: str, originals: Originals) -> None:
    white = {"CMYK": (0, 0, 0, 0), "I;16": 65535, "F": 1.0, "LA": (255, 255)}.get(mode, 255)
    source = Image.new(mode, (40, 20))
    source.paste(white, (20, 0, 40, 20))  # type: ignore[arg-type]  # each mode has its own
    picture = originals.save(source, form)
    left, right = ((0, 0, 0), (255, 255, 255)) if mode not in {"CMYK", "LA"} else ((255,) * 3, (255,) * 3)
    for name in ("large", "compressed", "webp"):
        shown = picture.opened(name).convert("RGBA")
        paper = Image.new("RGBA", shown.size, "white")
        paper.alpha_composite(shown)
        width, height = paper.size
        assert near(pixel(paper, (width // 8, height // 2))[:3], left), name
        assert near(pixel(paper, (width * 7 // 8, height // 2))[:3], right), name


TURNED = {  # EXIF 2.32: where the row and column 0 of the file are, as it is shown
    1: (RED, GREEN, BLUE, YELLOW),
    2: (GREEN, RED, YELLOW, BLUE),
    3: (YELLOW, BLUE, GREEN, RED),
    4: (BLUE, YELLOW, RED, GREEN),
    5: (RED, BLUE, GREEN, YELLOW),
    6: (BLUE, RED, YELLOW, GREEN),
    7: (YELLOW, GREEN, BLUE, RED),
    8: (GREEN, YELLOW, RED, BLUE),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_exif_orientation_is_applied(form: str, orientation: int, originals: Originals) -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    picture = originals.save(quadrants(), form, exif=exif)
    size = SIZE if orientation < 5 else SIZE[::-1]
    assert (picture.facts["width"], picture.facts["height"]) == size
    for name in ("large", "webp", *(["compressed"] if "compressed" in picture.steps else [])):
        shown = picture.opened(name)
        assert shown.size == ((800, 800) if name == "large" else size)
        assert all(near(*pair, 40) for pair in zip(corners(shown), TURNED[orientation], strict=True)), name


@pytest.mark.parametrize(
    ("form", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("WEBP", "RGB")]
)
def test_the_colours_are_converted_to_srgb(form: str, mode: str, originals: Originals) -> None:
    picture = originals.save(quadrants(mode=mode), form, icc_profile=profile_with_red_and_green_exchanged(), quality=95)
    seen = [(green, red, blue) for red, green, blue in (RED, GREEN, BLUE, YELLOW)]
    for name in ("large", "webp", *(["compressed"] if "compressed" in picture.steps else [])):
        shown = picture.opened(name)
        assert all(near(*pair, 40) for pair in zip(corners(shown), seen, strict=True)), name
        assert "icc_profile" not in shown.info


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param(b"nonsense", id="no profile"),
        pytest.param(profile_with_red_and_green_exchanged()[:200], id="truncated"),
        pytest.param(profile_with_red_and_green_exchanged().replace(b"rXYZ", b"none"), id="without a primary"),
        pytest.param(profile_with_red_and_green_exchanged().replace(b"RGB ", b"CMYK"), id="of other channels"),
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_broken_profile_is_ignored(form: str, profile: bytes, originals: Originals) -> None:
    picture = originals.save(quadrants(), form, icc_profile=profile, quality=95)
    for name in ("large", "compressed", "webp"):
        assert all(
            near(*pair, 40) for pair in zip(corners(picture.opened(name)), (RED, GREEN, BLUE, YELLOW), strict=True)
        )


@pytest.mark.parametrize("form", ["JPEG", "AVIF", "BMP", "TIFF"])
def test_compressed_is_jpeg_of_quality_75(form: str, originals: Originals) -> None:
    picture = originals.save(gradient(), form)
    assert picture.made("compressed").content_type == "image/jpeg"
    compressed = picture.opened("compressed")
    assert (compressed.format, compressed.size) == ("JPEG", SIZE)
    # ITU T.81 table K.1 begins with 16; libjpeg scales it by 200 - 2 * 75 per cent.
    assert compressed.quantization[0][0] == 8  # type: ignore[attr-defined]


def test_a_grey_jpeg_stays_grey(originals: Originals) -> None:
    assert originals.save(gradient().convert("L"), "JPEG").opened("compressed").mode == "L"


def translucent(colours: int) -> Image.Image:
    """A picture of so many colours, of which half are translucent."""
    picture = Image.new("RGBA", (colours, 7))
    for x in range(colours):
        picture.paste((x % 256, 255 - x % 256, x // 256, 255 if x % 2 else x % 256), (x, 0, x + 1, 7))
    return picture


@pytest.mark.parametrize(
    ("source", "mode"),
    [
        pytest.param(quadrants(), "P", id="4 colours"),
        pytest.param(quadrants(mode="P"), "P", id="a palette already"),
        pytest.param(quadrants(mode="RGBA"), "P", id="alpha that is not used"),
        pytest.param(translucent(2), "P", id="2 colours, translucent"),
        pytest.param(translucent(256), "P", id="256 colours, translucent"),
        pytest.param(translucent(257), "RGBA", id="257 colours, translucent"),
        pytest.param(gradient(), "RGB", id="thousands of colours"),
        pytest.param(gradient().convert("L"), "L", id="many greys"),
        pytest.param(quadrants(mode="1"), "P", id="black and white"),
    ],
)
def test_png_gets_a_palette_up_to_256_colours_and_stays_exactly_as_it_was(
    source: Image.Image, mode: str, originals: Originals
) -> None:
    picture = originals.save(source, "PNG")
    assert picture.made("compressed").content_type == "image/png"
    compressed = picture.opened("compressed")
    assert (compressed.format, compressed.mode) == ("PNG", mode)
    assert compressed.convert("RGBA").tobytes() == source.convert("RGBA").tobytes()


def test_webp_keeps_the_transparency(originals: Originals) -> None:
    source = quadrants(mode="RGBA")
    source.paste((0, 0, 0, 0), (0, 0, 48, 32))
    webp = originals.save(source, "PNG").opened("webp")
    assert webp.mode == "RGBA"
    assert [pixel(webp, place)[3] for place in ((20, 15), (70, 15))] == [0, 255]


def test_squares_lie_over_white(originals: Originals) -> None:
    source = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    assert near(pixel(originals.save(source, "PNG").opened("small"), (50, 50)), (255, 255, 255))


def test_a_picture_of_a_camera_that_has_further_ones_behind_it_is_a_jpeg(originals: Originals) -> None:
    picture = originals.save(quadrants(), "MPO", save_all=True, append_images=[gradient()])
    picture = originals.of((originals.folder / "original").read_bytes(), "image/jpeg")
    assert picture.facts["codec"] == "jpeg"
    assert "frames" not in picture.facts
    assert picture.opened("webp").size == SIZE


def test_pages_are_no_frames(originals: Originals) -> None:
    picture = originals.animate([quadrants(), gradient()], "TIFF")
    assert "frames" not in picture.facts
    assert picture.opened("webp").size == SIZE


def test_a_large_jpeg_is_shown_as_sharp_as_a_small_one(originals: Originals) -> None:
    # Black and white lines of two pixels each, in a square of 800: one decoded in too little detail is grey.
    source = Image.new("L", (1600, 1200), 255)
    for x in range(0, 1600, 6):
        source.paste(0, (x, 0, x + 3, 1200))
    shown = originals.save(source, "JPEG", quality=95).opened("large").convert("L")
    darkest, lightest = shown.crop((100, 100, 700, 700)).getextrema()
    assert (darkest < 60, lightest > 195) == (True, True)  # type: ignore[operator]  # one channel


@pytest.mark.parametrize("content_type", ["image/jpeg; foo=bar", "image/jpeg"])
def test_parameters_of_the_type_do_not_matter(content_type: str, originals: Originals) -> None:
    originals.save(quadrants(), "JPEG")
    picture = originals.of((originals.folder / "original").read_bytes(), content_type)
    assert picture.facts["codec"] == "jpeg"


def test_each_step_works_alone(originals: Originals) -> None:
    made: dict[str, Any] = {}
    for step in ("webp", "compressed", "squares", "facts"):
        result = originals.save(gradient(), "JPEG").run(step)
        made |= {one.name: one.path.name for one in result.made}
    assert made == {
        "webp": "webp.webp",
        "compressed": "compressed.jpg",
        **{name: f"{name}.jpg" for name in ("small", "thumbnail", "medium", "large")},
    }
