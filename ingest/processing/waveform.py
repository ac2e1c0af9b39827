"""Shows how loud a recording is from its beginning to its end: as numbers, and as a picture of bars."""

from array import array
from collections.abc import Iterable, Sequence

from av.audio.frame import AudioFrame
from PIL import Image, ImageDraw

from ingest.processing.sound import resampled

BARS = 64
SIZE = (640, 96)
"""Pixels: twice what a chat shows, for dense screens."""

_PITCH = SIZE[0] // BARS
_THICKNESS = 6  # pixels of a bar, of its pitch of ten
_TRANSPARENT, _GREY = 0, 1
_PALETTE = (0, 0, 0, 134, 142, 150)  # a grey that is seen on light and on dark

_RATE = 8000  # samples per second: a third of the cost of the full rate, and the same to the eye
_WINDOW = 80  # samples of which only the peak is kept: 10 ms, or 360 kB for half an hour
_WINDOWS_PER_FRAME = 100
_SILENCE = 33  # of 32,768: -60 dBFS; the noise that a codec makes of silence stays below it


def peaks(frames: Iterable[AudioFrame]) -> list[int]:
    """Return the peak of each of `BARS` equal parts, in hundredths of the loudest; zeros for silence.

    Memory grows by two bytes per 10 ms of sound.

    Args:
        frames: At least one, of any format.
    """
    windows = array("H")
    for frame in resampled(frames, layout="mono", rate=_RATE, size=_WINDOW * _WINDOWS_PER_FRAME):
        samples = memoryview(frame.planes[0]).cast("h")[: frame.samples]
        windows.extend(_peak(samples[start : start + _WINDOW]) for start in range(0, len(samples), _WINDOW))
    parts = [_loudest_of_part(windows, part) for part in range(BARS)]
    loudest = max(parts)
    return [round(100 * part / loudest) if loudest >= _SILENCE else 0 for part in parts]


def picture(heights: Sequence[int]) -> Image.Image:
    """Draw `BARS` heights, 0 to 100, as grey bars about the middle line on nothing; a zero is a dot."""
    image = Image.new("P", SIZE, _TRANSPARENT)
    image.putpalette(_PALETTE)
    image.info["transparency"] = _TRANSPARENT
    pen = ImageDraw.Draw(image)
    for place, height in enumerate(heights):
        left, middle = place * _PITCH + (_PITCH - _THICKNESS) // 2, SIZE[1] // 2
        reach = max(_THICKNESS // 2, middle * height // 100)
        pen.rectangle((left, middle - reach, left + _THICKNESS - 1, middle + reach - 1), fill=_GREY)
    return image


def _peak(samples: "memoryview[int]") -> int:
    highest, lowest = max(samples), min(samples)
    return max(highest, -lowest)


def _loudest_of_part(windows: Sequence[int], part: int) -> int:
    start, stop = (len(windows) * edge // BARS for edge in (part, part + 1))
    return max(windows[start : max(stop, start + 1)])
