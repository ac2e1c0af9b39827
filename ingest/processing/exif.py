"""What a camera wrote about a picture: which side is up, and what may be told of how it was taken."""

import math
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from PIL import Image
from PIL.ExifTags import IFD, Base

_TEXT_LENGTH = 64  # characters
_DIGITS = 6  # significant ones: f/1.7 is stored as a quotient
_LARGEST = 1e9
_ORIENTATIONS = range(1, 9)

# What Pillow raises for tags that a broken or hostile file has made up.
_BROKEN = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)

_T = TypeVar("_T")
_Tags = Mapping[int, Any]


@dataclass(frozen=True, slots=True)
class Exif:
    """What is known of a picture from its EXIF data."""

    orientation: int = 1
    """1 to 8, as in EXIF 2.32, tag Orientation."""
    details: Mapping[str, str | float] = field(default_factory=dict)
    """By readable names, in seconds, millimetres and EV."""


def read(image: Image.Image) -> Exif:
    """Return what a picture's EXIF data says; what is broken in it is left out.

    The details are those of a short list. Whatever may lead to a person is not on it: places, serial numbers, names,
    comments, and maker notes, which hold all of these.

    Args:
        image: Has been decoded: a PNG may have this behind its pixels.
    """
    camera: _Tags = _unless_broken(image.getexif, Image.Exif())
    shot: _Tags = _unless_broken(lambda: image.getexif().get_ifd(IFD.Exif), {})
    orientation = _value(camera, Base.Orientation)
    known = {name: value for name, value in _details(camera, shot).items() if value is not None}
    return Exif(orientation if orientation in _ORIENTATIONS else 1, known)


def _details(camera: _Tags, shot: _Tags) -> dict[str, str | float | None]:
    iso = _value(shot, Base.ISOSpeedRatings)
    return {
        "camera_make": _text(_value(camera, Base.Make)),
        "camera_model": _text(_value(camera, Base.Model)),
        "lens_make": _text(_value(shot, Base.LensMake)),
        "lens_model": _text(_value(shot, Base.LensModel)),
        "exposure_time": _number(_value(shot, Base.ExposureTime)),
        "exposure_bias": _number(_value(shot, Base.ExposureBiasValue)),
        "f_number": _number(_value(shot, Base.FNumber)),
        "iso": _number(iso[0] if isinstance(iso, tuple) and iso else iso),
        "focal_length": _number(_value(shot, Base.FocalLength)),
        "focal_length_35mm": _number(_value(shot, Base.FocalLengthIn35mmFilm)),
        "taken_at": _time(_value(shot, Base.DateTimeOriginal), _value(shot, Base.OffsetTimeOriginal)),
    }


def _unless_broken(read_it: Callable[[], _T], otherwise: _T) -> _T:
    try:
        return read_it()
    except _BROKEN:
        return otherwise


def _value(tags: _Tags, tag: int) -> Any:
    return _unless_broken(lambda: tags.get(tag), None)


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return "".join(filter(str.isprintable, value)).strip()[:_TEXT_LENGTH] or None


def _number(value: Any) -> float | None:
    number = _unless_broken(lambda: float(value), math.nan)
    if not abs(number) < _LARGEST:  # NaN is not less, either
        return None
    rounded = float(f"{number:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded


def _time(clock: object, offset: object) -> str | None:
    """Write a camera's time as ISO 8601; without an offset, as most cameras have it, it is that of the place."""
    for text, form in ((f"{clock}{offset}", "%Y:%m:%d %H:%M:%S%z"), (f"{clock}", "%Y:%m:%d %H:%M:%S")):
        with suppress(ValueError):
            return datetime.strptime(text, form).isoformat()  # noqa: DTZ007 - the zone is not always known
    return None
