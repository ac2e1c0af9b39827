"""Encodes a film anew as H.264 and AAC in MP4, in one or several sizes from one decode."""

from collections.abc import Hashable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from math import inf
from pathlib import Path
from types import MappingProxyType

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ingest.processing.clock import timed
from ingest.processing.containers import THREADS, frames, opened, pictures_of, sound_of
from ingest.processing.film import Film, Sound
from ingest.processing.frames import TIME_BASE, Scaler
from ingest.processing.steps import Ceilings, Source

# "superfast" with the macroblock tree: what "veryfast" gives at the same size, in two thirds of its time. The keys are
# the clock's alone: a cut between them gets an intra frame that is none.
_X264 = MappingProxyType(
    {
        "preset": "superfast",
        "crf": "28",
        "forced-idr": "1",
        "x264-params": "mbtree=1:rc-lookahead=20:keyint=600:min-keyint=301",
    }
)
_LEAST_BIT_RATE = 64_000  # bits per second
_SHARE = 0.9  # of the film's own bit rate: what is hard to code comes out smaller all the same
_MOST_BITS_PER_PIXEL = 6  # and second: what CRF 28 reaches only with noise, and small phones' decoders are made for
_BUFFER_SECONDS = 2  # over which no more bits come than the rate allows

_AAC_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})  # samples per second
_USUAL_AAC_RATE = 48000
_AAC_FRAME = 1024  # samples
_CHANNEL_BIT_RATES = (24_000, 64_000)  # bits per second; at least and at most

# bitexact: no name and version of the muxer.
_MUXER_OPTIONS = MappingProxyType({"movflags": "+faststart", "fflags": "+bitexact"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """A file to be made of a film."""

    path: Path
    short_side: int  # pixels, at most
    sound: bool = False


def transcode(source: Source, ceilings: Ceilings, film: Film, *renditions: Rendition, until: float = inf) -> None:
    """Write renditions of a film: upright, in square pixels and even sizes, with 8 bits, and without metadata.

    The pictures keep their times, and get fewer bits than they have in the film, however hard they are to code.
    A file has its name when it is whole; of a damaged film it holds what can be decoded.

    Args:
        source: The film.
        ceilings: Beyond which it is given up.
        film: What it is like.
        renditions: Largest first: each is scaled from the one before.
        until: When to stop, in seconds of the film's time.

    Raises:
        Unprocessable: ``too-long``, whatever the header said.
    """
    with ExitStack() as stack:
        container = stack.enter_context(opened(source.path, ceilings))
        streams: list[VideoStream | AudioStream] = [pictures_of(container, ceilings)]
        sound = sound_of(container)
        if sound is not None and until == inf:  # even where nobody hears it, it tells how long the pictures stay
            streams.append(sound)
        writers = [stack.enter_context(_writing(rendition, film)) for rendition in renditions]
        scalers = _scalers(film, renditions)
        times = timed(frames(container, *streams), start=film.start, ceiling=ceilings.seconds)
        for frame in takewhile(lambda frame: (frame.time or 0) < until, times):
            shown = frame
            for writer, scaler in zip(writers, scalers, strict=True):
                shown = scaler.scale(shown) if isinstance(shown, VideoFrame) else shown
                writer.write(shown)


def _scalers(film: Film, renditions: tuple[Rendition, ...]) -> list[Scaler]:
    """Turn only once: what the first has scaled is upright."""
    sizes = [film.fitted(rendition.short_side) for rendition in renditions]
    return [Scaler(sizes[0], turn=film.turn), *map(Scaler, sizes[1:])]


@contextmanager
def _writing(rendition: Rendition, film: Film) -> Iterator["_Writer"]:
    part = rendition.path.with_suffix(".part")
    with av.open(f"file:{part}", "w", "mp4", container_options=dict(_MUXER_OPTIONS)) as container:
        writer = _Writer(container, film, rendition)
        yield writer
        writer.finish()
    part.replace(rendition.path)


class _Writer:
    def __init__(self, container: OutputContainer, film: Film, rendition: Rendition) -> None:
        self._pictures = _PictureTrack(container, film, film.fitted(rendition.short_side))
        self._sound = _SoundTrack(container, film.sound) if rendition.sound and film.sound else None

    def write(self, frame: VideoFrame | AudioFrame) -> None:
        if isinstance(frame, VideoFrame):
            self._pictures.write(frame)
        elif self._sound is not None:
            self._sound.write(frame)

    def finish(self) -> None:
        self._pictures.write(None)
        if self._sound is not None:
            self._sound.finish()


class _PictureTrack:
    def __init__(self, container: OutputContainer, film: Film, size: tuple[int, int]) -> None:
        width, height = size
        bit_rate = max(_LEAST_BIT_RATE, min(int(film.bit_rate * _SHARE), width * height * _MOST_BITS_PER_PIXEL))
        limits = {"maxrate": str(bit_rate), "bufsize": str(bit_rate * _BUFFER_SECONDS)}
        self._container = container
        self._stream = container.add_stream("libx264", film.rate, {**_X264, **limits}, width=width, height=height)
        encoder = self._stream.codec_context
        encoder.time_base = TIME_BASE
        encoder.thread_count, encoder.thread_type = THREADS, "FRAME"
        encoder.colorspace = film.colours.matrix
        encoder.color_primaries = film.colours.primaries
        encoder.color_trc = film.colours.transfer
        encoder.flags |= Flags.bitexact

    def write(self, frame: VideoFrame | None) -> None:
        self._container.mux(self._stream.encode(frame))


class _SoundTrack:
    def __init__(self, container: OutputContainer, sound: Sound) -> None:
        self._rate = sound.rate if sound.rate in _AAC_RATES else _USUAL_AAC_RATE
        self._layout = "mono" if sound.channels == 1 else "stereo"
        self._container = container
        self._stream = container.add_stream("aac", self._rate, layout=self._layout, bit_rate=_bit_rate(sound))
        self._stream.codec_context.flags |= Flags.bitexact
        self._samples = 0
        self._shape: Hashable = None
        self._resampler: AudioResampler | None = None

    def write(self, frame: AudioFrame) -> None:
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or shape != self._shape:
            self._drain()
            self._resampler, self._shape = self._new_resampler(frame.sample_rate), shape
        self._encode(self._resampler.resample(frame))

    def finish(self) -> None:
        self._drain()
        self._container.mux(self._stream.encode(None))

    def _drain(self) -> None:
        if self._resampler is not None:
            self._encode(self._resampler.resample(None))

    def _encode(self, frames: list[AudioFrame]) -> None:
        for frame in frames:
            frame.pts, frame.time_base = self._samples, Fraction(1, self._rate)
            self._samples += frame.samples
            self._container.mux(self._stream.encode(frame))

    def _new_resampler(self, rate: int) -> AudioResampler:
        """Fill gaps with silence: at the beginning, and between what was heard so far and what comes."""
        heard = round(self._samples * rate / self._rate)  # the option counts samples of what comes in
        options = {"async": "1", "first_pts": str(heard)}
        # 16 bits, so that no NaN that damaged floats decode to stops the encoder. A frame size, so that no frame passes
        # untouched, with the gap before it.
        return AudioResampler("s16", self._layout, self._rate, _AAC_FRAME, options)


def _bit_rate(sound: Sound) -> int:
    """Return bits per second: no more than the film's own sound has, as far as that is enough for AAC."""
    least, most = _CHANNEL_BIT_RATES
    channels = min(sound.channels, 2)
    return channels * min(most, max(least, (sound.bit_rate or most * channels) // channels))
