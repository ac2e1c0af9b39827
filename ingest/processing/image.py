"""Makes pictures ready to show: squares and placeholders, a compressed copy, and WebP that still moves."""

import sys
from dataclasses import replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

from PIL import Image

from ingest.processing import decoding, webp
from ingest.processing.decoding import Still
from ingest.processing.pictures import SQUARES, covering, flat, placeholders, squares
from ingest.processing.steps import Ceilings, Made, Result, Source, Step, Unprocessable

_JPEG_QUALITY = 75
_PALETTE = 256  # colours
_GREYS_IN_PALETTE = 16
_LONGEST_OF_JPEG = 65_500  # pixels per side, libjpeg

_STAYS_AS_IT_IS = frozenset({"image/webp", "image/gif"})


def steps(source: Source, ceilings: Ceilings) -> list[Step]:
    """Return what is done with a picture; each step raises `Unprocessable` where it cannot be done.

    WebP and GIF have no step ``compressed``: they stay as they are. So do other animations, of which it makes nothing.
    """
    picture = _Picture(source, ceilings)
    compressed = Step("compressed", ("compressed",), picture.compressed)
    return [
        Step("facts", (), picture.facts),
        Step("squares", tuple(SQUARES), picture.squares),
        *([] if source.content_type.partition(";")[0] in _STAYS_AS_IT_IS else [compressed]),
        Step("webp", ("webp",), picture.webp),
    ]


class _Picture:
    """One original, decoded twice at most: a JPEG in less detail for what is small, and once in full."""

    def __init__(self, source: Source, ceilings: Ceilings) -> None:
        self._source = source
        self._content_type = source.content_type.partition(";")[0]
        self._ceilings = ceilings

    @cached_property
    def _whole(self) -> Still:
        return decoding.whole(self._source, self._ceilings)

    @cached_property
    def _small(self) -> Still:
        side = max(SQUARES.values())
        if self._content_type == "image/jpeg":
            return decoding.reduced(self._source, self._ceilings, side)
        return replace(self._whole, picture=covering(self._whole.picture, side))

    @cached_property
    def _frames(self) -> int:
        with decoding.opened(self._source, self._ceilings) as image:
            return image.frames

    def facts(self, _folder: Path) -> Result:
        still = self._small
        width, height = still.size
        facts: dict[str, Any] = {"width": width, "height": height, "codec": still.codec, "exif": dict(still.exif)}
        if self._frames > 1:
            facts["frames"] = self._frames
        return Result(facts=facts | placeholders(still.picture))

    def squares(self, folder: Path) -> Result:
        return Result(made=squares(self._small.picture, folder))

    def compressed(self, folder: Path) -> Result:
        if self._frames > 1:
            return Result()
        still = self._whole
        write = _write_png if still.codec == "png" else _write_jpeg
        return Result(made=(write(still.picture, folder),))

    def webp(self, folder: Path) -> Result:
        path = folder / "webp.webp"
        if self._frames > 1:
            self._write_animation(path)
        else:
            webp.write(self._whole.picture, path)
        return Result(made=(Made("webp", path, "image/webp"),))

    def _write_animation(self, path: Path) -> None:
        if self._frames > self._ceilings.frames:
            raise Unprocessable("too-many-frames", f"{self._frames}, over {self._ceilings.frames}")
        with decoding.opened(self._source, self._ceilings) as image:
            webp.write_animation(image, path)


def _write_jpeg(picture: Image.Image, folder: Path) -> Made:
    if max(picture.size) > _LONGEST_OF_JPEG:
        raise Unprocessable("too-long-a-side", f"{max(picture.size)} pixels, JPEG has room for {_LONGEST_OF_JPEG}")
    path = folder / "compressed.jpg"
    shown = picture if picture.mode == "L" else flat(picture)
    shown.save(path, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return Made("compressed", path, "image/jpeg")


def _write_png(picture: Image.Image, folder: Path) -> Made:
    path = folder / "compressed.png"
    colours = picture.getcolors(_GREYS_IN_PALETTE if picture.mode == "L" else _PALETTE)
    if colours is None:
        picture.save(path, "PNG", optimize=True)
    else:
        _write_palette(picture if picture.mode == "RGBA" else picture.convert("RGBA"), path)
    return Made("compressed", path, "image/png")


def _write_palette(picture: Image.Image, path: Path) -> None:
    """Write a picture of few colours with a palette of exactly these; Pillow's own reduction is but close to them."""
    counted = cast("list[tuple[int, tuple[int, int, int, int]]]", picture.getcolors(_PALETTE))
    colours = sorted((bytes(rgba) for _, rgba in counted), key=itemgetter(3))  # opaque ones last
    indices = {int.from_bytes(rgba, sys.byteorder): index for index, rgba in enumerate(colours)}
    pixels = memoryview(picture.tobytes()).cast("I")
    paletted = Image.frombytes("P", picture.size, bytes(map(indices.__getitem__, pixels)))
    paletted.putpalette(b"".join(rgba[:3] for rgba in colours))
    alphas = bytes(rgba[3] for rgba in colours).rstrip(b"\xff")
    paletted.save(path, "PNG", optimize=True, **({"transparency": alphas} if alphas else {}))
