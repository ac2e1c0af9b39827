"""Writes pictures as WebP, those that move one frame after the other."""

from pathlib import Path

from PIL import Image, _webp

from ingest.processing.decoding import Opened
from ingest.processing.steps import Unprocessable

_QUALITY = 80
_METHOD = 2  # takes half the CPU time of 4, libwebp's default, for files that are 2 to 4 % larger
_LONGEST = 16_383  # pixels per side, WebP container specification

_MIXED = True  # a frame is lossless where that is smaller: of a drawn animation a quarter, for a third more time
_LOSSLESS = _SMALLEST = _VERBOSE = False
_ALPHA_QUALITY = 100.0
_KEY_FRAMES = (3, 5)  # at least and at most so many frames apart, as gif2webp has them
_ONCE, _FOR_EVER = 1, 0


def write(picture: Image.Image, path: Path) -> None:
    """Write a picture that does not move.

    Raises:
        Unprocessable: ``too-long-a-side``.
    """
    _check(picture)
    picture.save(path, "WEBP", quality=_QUALITY, method=_METHOD)


def write_animation(image: Opened, path: Path) -> None:
    """Write all frames of an animation, with their durations and as many repetitions.

    Only one frame is held at a time, beside what is encoded already. That is why Pillow's encoder is driven by hand:
    its ``save`` wants all frames at hand, and their durations before it has decoded them.

    Raises:
        Unprocessable: ``too-long-a-side``.
    """
    encoder, elapsed = None, 0.0
    for number in range(image.first_frame, image.first_frame + image.frames):
        image.file.seek(number)
        image.file.load()
        frame = image.shown(image.file).convert("RGBA")
        if encoder is None:
            _check(frame)
            encoder = _webp.WebPAnimEncoder(frame.size, 0, _plays(image), _SMALLEST, *_KEY_FRAMES, _MIXED, _VERBOSE)
        encoder.add(frame.getim(), round(elapsed), _LOSSLESS, float(_QUALITY), _ALPHA_QUALITY, _METHOD)
        elapsed += image.file.info.get("duration") or 0  # milliseconds
    if encoder is not None:
        encoder.add(None, round(elapsed), _LOSSLESS, float(_QUALITY), _ALPHA_QUALITY, _METHOD)
        path.write_bytes(encoder.assemble("", b"", b""))


def _plays(image: Opened) -> int:
    """Return how often the animation is played, 0 for ever: GIF counts the repetitions, and has none by default."""
    if image.codec != "gif":
        return int(image.file.info.get("loop", _FOR_EVER))
    repetitions = image.file.info.get("loop")
    if repetitions is None:
        return _ONCE
    return int(repetitions) + 1 if repetitions else _FOR_EVER


def _check(picture: Image.Image) -> None:
    if max(picture.size) > _LONGEST:
        raise Unprocessable("too-long-a-side", f"{max(picture.size)} pixels, WebP has room for {_LONGEST}")
