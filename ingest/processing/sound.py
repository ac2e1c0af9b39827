"""Reads recordings that strangers sent: opens them safely and decodes as much as can be heard."""

from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, groupby
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from ingest.processing.steps import Ceilings, Unprocessable

# Playlists and the like name further files and hosts, which FFmpeg would open: only containers of sound are probed.
_OPTIONS = {
    "format_whitelist": "aac,aiff,amr,amrnb,amrwb,caf,flac,matroska,mov,mp3,ogg,wav",
    "protocol_whitelist": "file",
}
# Streams without an index: FFmpeg extrapolates their duration from the first bit rates, often by a multiple.
_UNINDEXED = frozenset({"aac", "amr", "amrnb", "amrwb", "mp3"})
_MICROSECONDS = av.time_base


class Recording:
    """The first audio stream of an open file; cover art and video beside it are passed over."""

    def __init__(self, container: InputContainer, stream: AudioStream, ceiling: float) -> None:
        self._container = container
        self._ceiling = ceiling
        self.codec = stream.codec_context.codec.canonical_name
        self.sample_rate = stream.sample_rate
        self.channels = stream.channels
        self.bit_rate = stream.bit_rate or container.bit_rate
        """As the header says, or guessed from the first packets; in bits per second."""
        self.seconds = 0.0
        """How much sound `frames` has decoded so far."""
        self.octets = 0
        """How many encoded bytes that took."""
        self._stream = stream

    def frames(self) -> Iterator[AudioFrame]:
        """Decode from the beginning, once; what is damaged is left out, what was cut off ends early.

        Frames bear no timestamp: one sample follows the other, so that no false timestamp makes a long silence.

        Raises:
            Unprocessable: ``too-long``, whatever the header said, or ``undecodable`` if there is not one sample.
        """
        for packet in self._packets():
            self.octets += packet.size
            for frame in _decode(packet):
                self.seconds += frame.samples / frame.sample_rate
                if self.seconds > self._ceiling:
                    raise Unprocessable("too-long", f"over {self._ceiling:g} s of sound")
                frame.pts = None
                yield frame
        if not self.seconds:
            raise Unprocessable("undecodable", "not one sample in it")

    def _packets(self) -> Iterator["Packet[AudioStream]"]:
        with suppress(av.error.InvalidDataError):  # the demuxer lost its way: what it read before is sound
            yield from self._container.demux(self._stream)


@contextmanager
def recording(path: Path, ceilings: Ceilings) -> Iterator[Recording]:
    """Open a file of sound.

    Raises:
        Unprocessable: ``undecodable``, ``no-audio``, or ``too-long`` where the header claims it.
    """
    with _opened(path) as container:
        if not container.streams.audio:
            raise Unprocessable("no-audio", f"no audio stream in {container.format.name}")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise Unprocessable("undecodable", "no decoder for the audio stream")
        claimed = 0 if container.format.name in _UNINDEXED else (container.duration or 0) / _MICROSECONDS
        if claimed > ceilings.seconds:
            raise Unprocessable("too-long", f"its header claims {claimed:.0f} s")
        stream.codec_context.thread_count = 1  # one child per core decodes already
        yield Recording(container, stream, ceilings.seconds)


def resampled(frames: Iterable[AudioFrame], *, layout: str, rate: int, size: int | None = None) -> Iterator[AudioFrame]:
    """Bring frames to 16-bit samples of one layout and rate, even where the source changes on its way.

    Args:
        frames: As `Recording.frames` gives them.
        layout: ``mono`` or ``stereo``.
        rate: Samples per second.
        size: Samples of every frame but the last; None leaves it to the source.
    """
    for _, alike in groupby(frames, key=_shape):
        resampler = AudioResampler("s16", layout, rate, size)
        for frame in chain(alike, (None,)):
            # Where there is nothing to convert, it hands the closing None through as if it were a frame.
            yield from filter(None, resampler.resample(frame))


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    try:
        # Tags come in any encoding; `file:` keeps a colon in the name from being taken for a protocol.
        container = av.open(f"file:{path}", "r", options=_OPTIONS, metadata_errors="replace")
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise Unprocessable("undecodable", type(error).__name__) from error
    with container:
        yield container


def _decode(packet: "Packet[AudioStream]") -> list[AudioFrame]:
    try:
        return [frame for frame in packet.decode() if frame.samples and frame.sample_rate]
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError:  # of any kind: decoders answer damage with EINVAL and EPERM too
        return []


def _shape(frame: AudioFrame) -> Hashable:
    return frame.format.name, frame.layout.name, frame.sample_rate
