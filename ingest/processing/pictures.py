"""Makes of a decoded picture what a chat shows first: four squares, and placeholders until they have arrived."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import blurhash  # type: ignore[import-untyped]  # it has no types
from PIL import Image

from ingest.processing.steps import Made

SQUARES: Mapping[str, int] = MappingProxyType({"small": 100, "thumbnail": 150, "medium": 400, "large": 800})
"""The square variants, and the length of their sides in pixels."""

_SQUARE_QUALITY = 80
_LQIP_SIDE = 20  # pixels, the longer side
_LQIP_QUALITY = 50
_SAMPLE_SIDE = 32  # pixels, the longer side: more make blurhash, which is pure Python, slower and no better
_DOMINANT_OF = 8  # colours that a picture is reduced to

_PLAIN = frozenset({"L", "RGB", "RGBA"})
_DEEP = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})


def plain(image: Image.Image) -> Image.Image:
    """Return the picture with 8 bits per channel, as ``L``, ``RGB`` or, where any of it is transparent, ``RGBA``."""
    if image.mode in _DEEP:
        return _shallow(image)
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode in _PLAIN:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def flat(image: Image.Image) -> Image.Image:
    """Return the picture in RGB; what is transparent lies over white."""
    picture = plain(image)
    if picture.mode == "RGBA":
        paper = Image.new("RGB", picture.size, "white")
        paper.paste(picture, mask=picture)
        return paper
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def covering(image: Image.Image, side: int) -> Image.Image:
    """Return the whole picture with a shorter side of that many pixels; a smaller one as it is."""
    scale = side / min(image.size)
    return _scaled(image, scale) if scale < 1 else image


def square(image: Image.Image, side: int) -> Image.Image:
    """Return the middle of the picture, as much of it as a square holds, exactly ``side`` pixels wide and high."""
    width, height = image.size
    length = min(width, height)
    left, top = (width - length) / 2, (height - length) / 2
    return _resampled(image, (side, side), (left, top, left + length, top + length))


def squares(image: Image.Image, folder: Path) -> tuple[Made, ...]:
    """Write the four square variants into the folder, as JPEG files without metadata.

    A picture smaller than a square is enlarged: a front end's layout can rely on the size.

    Args:
        image: Upright and in sRGB; any mode.
        folder: Exists, and gets ``{name}.jpg`` of every name in `SQUARES`.
    """
    large = flat(square(image, SQUARES["large"]))
    medium = square(large, SQUARES["medium"])
    # The two smallest come from a picture more than twice their size: what is resampled at 3:2 blurs.
    sources = {"small": medium, "thumbnail": medium, "medium": medium, "large": large}
    return tuple(_write_square(sources[name], name, side, folder) for name, side in SQUARES.items())


def placeholders(image: Image.Image) -> dict[str, Any]:
    """Describe the picture in a few bytes, to be shown before anything of it has loaded.

    Returns:
        ``lqip``, a data URI of a picture at most 20 pixels wide and high; ``blurhash``; and ``dominant_color``, the
        one of which there is most, as ``#rrggbb``.
    """
    sample = flat(_within(image, _SAMPLE_SIDE))
    return {"lqip": _lqip(sample), "blurhash": _blurhash(sample), "dominant_color": _dominant_color(sample)}


def _shallow(image: Image.Image) -> Image.Image:
    """Reduce to 8 bits: 16 of them by their upper half, and what has no fixed range by the range that it uses."""
    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    lowest, highest = cast("tuple[float, float]", image.getextrema())  # these modes have one channel
    span = (highest - lowest) or 1
    return image.point(lambda value: value * (255 / span) + -lowest * 255 / span).convert("L")


def _resampled(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    source = image if image.mode in {*_PLAIN, "CMYK"} else plain(image)
    left, top, right, bottom = box
    if (right - left, bottom - top) == size:
        return source.crop((int(left), int(top), int(left) + size[0], int(top) + size[1]))
    # Hamming reduces as well as bicubic does in half the time, but is no better than nearest neighbour for enlarging.
    shrinks = right - left > size[0] or bottom - top > size[1]
    method = Image.Resampling.HAMMING if shrinks else Image.Resampling.BICUBIC
    return source.resize(size, method, box=box, reducing_gap=3.0)


def _within(image: Image.Image, side: int) -> Image.Image:
    """Reduce the picture so that neither of its sides is longer; one that is small enough keeps its size."""
    return _scaled(image, min(1.0, side / max(image.size)))


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    width, height = (max(1, round(length * scale)) for length in image.size)
    return _resampled(image, (width, height), (0, 0, *image.size))


def _write_square(image: Image.Image, name: str, side: int, folder: Path) -> Made:
    picture, path = square(image, side), folder / f"{name}.jpg"
    picture.info.clear()
    picture.save(path, "JPEG", quality=_SQUARE_QUALITY, optimize=True)
    return Made(name, path, "image/jpeg")


def _lqip(sample: Image.Image) -> str:
    """Encode as WebP: at this size a JPEG's tables alone are longer."""
    file = io.BytesIO()
    picture = _within(sample, _LQIP_SIDE)
    picture.info.clear()
    picture.save(file, "WEBP", quality=_LQIP_QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _blurhash(sample: Image.Image) -> str:
    width, height = sample.size
    data, stride = sample.tobytes(), width * 3
    rows = [[data[start : start + 3] for start in range(top, top + stride, 3)] for top in range(0, len(data), stride)]
    across, down = (4, 3) if width >= height else (3, 4)
    return str(blurhash.encode(rows, components_x=across, components_y=down))


def _dominant_color(sample: Image.Image) -> str:
    reduced = sample.quantize(_DOMINANT_OF, kmeans=1)
    _, index = max(cast("list[tuple[int, int]]", reduced.getcolors()))
    palette = reduced.getpalette() or [0, 0, 0]
    return "#" + bytes(palette[index * 3 : index * 3 + 3]).hex()
