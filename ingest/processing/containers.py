"""Opens films that strangers sent, finds what is to be seen and heard in them, and decodes it past the damage."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast, overload

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import CodecContext, ThreadType
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ingest.processing.steps import Ceilings, Unprocessable

THREADS = 2
"""Of a decoder or encoder: what a film of its own gains, a full machine does not lose (docs/decisions.md)."""

# Playlists and the like name further files and hosts, which FFmpeg would open: only containers of film are probed.
_FORMATS = "asf,avi,flv,matroska,mov,mpeg,mpegts,ogg"
_MAX_STREAMS = 32
_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image

_Track = TypeVar("_Track", VideoStream, AudioStream)


@contextmanager
def opened(path: Path, ceilings: Ceilings) -> Iterator[InputContainer]:
    """Open a film of which nothing but the header is read yet; its decoders refuse frames above the ceiling.

    Raises:
        Unprocessable: ``undecodable``, or ``too-many-streams``.
    """
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", "max_pixels": str(ceilings.pixels)}
    try:
        # Tags come in any encoding; `file:` keeps a colon in the name from being taken for a protocol.
        container = av.open(f"file:{path}", "r", options=options, metadata_errors="replace")
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise Unprocessable("undecodable", type(error).__name__) from error
    with container:
        if not len(container.streams):
            raise Unprocessable("undecodable", f"no stream in {container.format.name}")
        if len(container.streams) > _MAX_STREAMS:
            raise Unprocessable("too-many-streams", f"{len(container.streams)} of them")
        for stream in container.streams:
            _prepare(stream, ceilings)
        yield container


def pictures_of(container: InputContainer, ceilings: Ceilings) -> VideoStream:
    """Return the video stream to show; cover art is none.

    Raises:
        Unprocessable: ``no-video``, or ``too-many-pixels`` in its header.
    """
    films = [stream for stream in container.streams.video if not stream.disposition & _COVERS]
    if not films:
        raise Unprocessable("no-video", f"no video stream in {container.format.name}")
    stream = _preferred(_decodable(films))
    if stream is None:
        raise Unprocessable("undecodable", "no decoder for the video stream")
    if stream.width * stream.height > ceilings.pixels:
        raise Unprocessable("too-many-pixels", f"{stream.width} x {stream.height}")
    return stream


def sound_of(container: InputContainer) -> AudioStream | None:
    """Return the audio stream to play, None where there is none that can be decoded."""
    heard = _decodable(list(container.streams.audio))
    return _preferred([stream for stream in heard if stream.sample_rate and stream.channels])


def seconds_claimed(container: InputContainer) -> float:
    """Return how long the header says that the film lasts; 0 where it does not."""
    return max(0.0, (container.duration or 0) / av.time_base)


@overload
def frames(container: InputContainer, stream: VideoStream, /) -> Iterator[VideoFrame]: ...
@overload
def frames(container: InputContainer, /, *streams: VideoStream | AudioStream) -> Iterator[VideoFrame | AudioFrame]: ...
def frames(container: InputContainer, /, *streams: VideoStream | AudioStream) -> Iterator[VideoFrame | AudioFrame]:
    """Decode from the beginning, in the order of the file: what is damaged is left out, what was cut off ends early."""
    for packet in packets(container, *streams):
        yield from _decode(packet)


def packets(container: InputContainer, *streams: VideoStream | AudioStream) -> Iterator["Packet[Stream]"]:
    """Read from the beginning as far as the file goes; then one empty packet per stream, which drains its decoder."""
    try:
        yield from container.demux(*streams)
    except av.error.MemoryError:
        raise
    except (av.error.FFmpegError, IndexError):  # the demuxer lost its way, or PyAV count of streams that came late
        for stream in streams:
            last: Packet[Stream] = Packet()
            last.stream = stream
            yield last


def _prepare(stream: Stream, ceilings: Ceilings) -> None:
    decoder = _decoder(stream)
    if decoder is None:
        return
    decoder.options["max_pixels"] = str(ceilings.pixels)
    decoder.thread_count = THREADS if isinstance(stream, VideoStream) else 1
    decoder.thread_type = ThreadType.FRAME


def _preferred(streams: list[_Track]) -> _Track | None:
    """Choose the first that is marked as default, else the first."""
    return next(iter(sorted(streams, key=lambda stream: not stream.disposition & Disposition.default)), None)


def _decodable(streams: list[_Track]) -> list[_Track]:
    return [stream for stream in streams if _decoder(stream) is not None]


def _decoder(stream: Stream) -> CodecContext | None:
    return stream.codec_context  # None where FFmpeg has none, whatever the type stubs say


def _decode(packet: "Packet[Stream]") -> list[VideoFrame | AudioFrame]:
    stream = cast("VideoStream | AudioStream", packet.stream)
    try:
        found = [*stream.decode(packet)]
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError:  # of any kind: decoders answer damage with EINVAL and EPERM too
        return []
    for frame in found:
        frame.time_base = stream.time_base  # PyAV forgets it where the decoder is drained
    return found
