"""The times of a film's frames: from zero, in order, no more than a screen shows, with key frames on one grid."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import overload

from av.audio.frame import AudioFrame
from av.frame import Frame
from av.video.frame import PictureType, VideoFrame

from ingest.processing.frames import TIME_BASE
from ingest.processing.steps import Unprocessable

SEGMENT_SECONDS = 4
"""The grid of key frames: the first picture at, or after, each multiple can begin a segment."""

_GRID = round(SEGMENT_SECONDS / TIME_BASE)
_STILL = round(Fraction(1, 4) / TIME_BASE)  # a picture that stays for longer is shown again, and again
_CLOSEST = round(Fraction(1, 75) / TIME_BASE)  # 60 frames per second pass, however their times are rounded


@overload
def timed(frames: Iterable[VideoFrame], *, start: Fraction, ceiling: float) -> Iterator[VideoFrame]: ...
@overload
def timed(
    frames: Iterable[VideoFrame | AudioFrame], *, start: Fraction, ceiling: float
) -> Iterator[VideoFrame | AudioFrame]: ...
def timed(
    frames: Iterable[VideoFrame | AudioFrame], *, start: Fraction, ceiling: float
) -> Iterator[VideoFrame | AudioFrame]:
    """Give frames their times: pictures in units of `TIME_BASE`, sound in its own.

    Where nothing moves, and where the sound outlasts the pictures, the last picture comes again, on the grid too: so
    that a stream can be cut there, and that encoders and muxers, which hold back some pictures, hold back little time.
    Pictures closer to each other than a 75th of a second, and those whose times go back, are left out.

    Args:
        frames: As they are decoded.
        start: Where the film's times begin, in seconds.
        ceiling: When the film is too long, in seconds.

    Raises:
        Unprocessable: ``too-long``, whatever the header said.
    """
    clock = _Clock(start, ceiling)
    for frame in frames:
        if isinstance(frame, AudioFrame):
            yield clock.hear(frame)
        else:
            yield from clock.show(frame)
    yield from clock.end()


class _Clock:
    def __init__(self, start: Fraction, ceiling: float) -> None:
        self._start = start
        self._ceiling = round(ceiling / TIME_BASE)
        self._picture: VideoFrame | None = None
        self._shown = -_CLOSEST
        self._next_key = 0
        self._heard = 0

    def hear(self, frame: AudioFrame) -> AudioFrame:
        """Return a frame of sound with its time; without one it follows the frame before it."""
        seconds = _seconds(frame)
        if seconds is not None:
            time = seconds - self._start
            self._heard = max(self._heard, self._checked(time + Fraction(frame.samples, frame.sample_rate)))
            frame.pts, frame.time_base = round(time * frame.sample_rate), Fraction(1, frame.sample_rate)
        return frame

    def show(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """Yield a picture with its time, after as many repeated ones as are missing before it."""
        time = self._time_of(frame)
        if time - self._shown < _CLOSEST:
            return
        yield from self._repeat(until=time)
        self._picture = frame
        yield self._stamped(frame, time)

    def end(self) -> Iterator[VideoFrame]:
        """Yield the last picture again until the sound has ended."""
        yield from self._repeat(until=self._heard)

    def _repeat(self, *, until: int) -> Iterator[VideoFrame]:
        """Yield the last picture again, on the grid among others, for as long as there is none."""
        while self._picture is not None and until - self._shown > _STILL:
            yield self._stamped(self._picture, min(self._shown + _STILL, self._next_key))

    def _time_of(self, frame: VideoFrame) -> int:
        """Return when a picture is shown; the first one from the beginning, for there is nothing else to be seen."""
        if self._picture is None:
            return 0
        seconds = _seconds(frame)
        return self._shown + _CLOSEST if seconds is None else self._checked(seconds - self._start)

    def _checked(self, seconds: Fraction) -> int:
        time = round(seconds / TIME_BASE)
        if time > self._ceiling:
            raise Unprocessable("too-long", f"over {float(self._ceiling * TIME_BASE):g} s")
        return time

    def _stamped(self, frame: VideoFrame, time: int) -> VideoFrame:
        frame.pts, frame.time_base, self._shown = time, TIME_BASE, time
        frame.pict_type = PictureType.I if time >= self._next_key else PictureType.NONE
        if time >= self._next_key:
            self._next_key = (time // _GRID + 1) * _GRID
        return frame


def _seconds(frame: Frame) -> Fraction | None:
    time = frame.pts if frame.pts is not None else frame.dts
    return None if time is None or frame.time_base is None else time * frame.time_base
