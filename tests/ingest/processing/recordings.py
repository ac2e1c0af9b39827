"""Recordings for tests, made by real encoders."""

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.stream import Disposition

SECONDS = 2.0
_SAMPLES_PER_FRAME = 1000


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to record: what a phone or a program writes."""

    suffix: str
    muxer: str
    encoder: str
    codec: str
    content_type: str
    rate: int  # samples per second
    channels: int
    bit_rate: int = 0
    heard_rate: int = 0
    """The rate it decodes to, where that is another one."""


KINDS = {
    "voice note": Kind(".ogg", "ogg", "libopus", "opus", "audio/ogg", 16000, 1, 24_000, heard_rate=48000),
    "MP3": Kind(".mp3", "mp3", "libmp3lame", "mp3", "audio/mpeg", 44100, 2, 256_000),
    "mono MP3": Kind(".mp3", "mp3", "libmp3lame", "mp3", "audio/mpeg", 44100, 1, 192_000),
    "M4A": Kind(".m4a", "ipod", "aac", "aac", "audio/mp4", 44100, 2, 256_000),
    "ADTS": Kind(".aac", "adts", "aac", "aac", "audio/aac", 44100, 2, 256_000),
    "AMR": Kind(".amr", "amr", "libopencore_amrnb", "amr_nb", "audio/amr", 8000, 1, 12_200),
    "AMR in 3GP": Kind(".3gp", "3gp", "libopencore_amrnb", "amr_nb", "audio/3gpp", 8000, 1, 12_200),
    "WAV": Kind(".wav", "wav", "pcm_s16le", "pcm_s16le", "audio/wav", 22050, 1),
    "FLAC": Kind(".flac", "flac", "flac", "flac", "audio/flac", 48000, 2),
    "Opus in WebM": Kind(".webm", "webm", "libopus", "opus", "audio/webm", 48000, 2, 160_000),
}


def record(path: Path, kind: Kind, *, seconds: float = SECONDS, cover: bool = False) -> Path:
    """Write a chord with noise in it; it has a title and a place, and on request cover art."""
    with av.open(str(path), "w", kind.muxer) as container:
        container.metadata.update(title="Secret title", location="+52.5200+013.4050/")
        stream = container.add_stream(kind.encoder, kind.rate, layout=_layout(kind.channels), bit_rate=kind.bit_rate)
        assert isinstance(stream, av.AudioStream)
        if cover:
            _add_cover(container)
        for frame in frames(_chord(seconds, kind.rate), kind.rate, kind.channels):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def frames(samples: "array[int]", rate: int, channels: int = 1) -> Iterator[AudioFrame]:
    """Cut samples into frames, the same in every channel."""
    for start in range(0, len(samples), _SAMPLES_PER_FRAME):
        part = samples[start : start + _SAMPLES_PER_FRAME]
        frame = AudioFrame("s16p", _layout(channels), len(part))
        for plane in frame.planes:
            plane.update(part.tobytes().ljust(plane.buffer_size, b"\0"))
        frame.rate, frame.time_base, frame.pts = rate, Fraction(1, rate), start
        yield frame


def film(path: Path) -> Path:
    """Write a film without sound."""
    with av.open(str(path), "w", "mp4") as container:
        stream = container.add_stream("mpeg4", 10, width=32, height=32)
        for _ in range(3):
            container.mux(stream.encode(_black()))
        container.mux(stream.encode(None))
    return path


def wav(samples: bytes, *, rate: int = 8000, channels: int = 1, floats: bool = False, tags: bytes = b"") -> bytes:
    """Return a RIFF file with whatever a header may claim."""
    depth = 4 if floats else 2  # bytes of a sample
    block = depth * channels
    numbers = ((3 if floats else 1, 2), (channels, 2), (rate, 4), (rate * block, 4), (block, 2), (8 * depth, 2))
    header = b"".join(number.to_bytes(width, "little") for number, width in numbers)
    chunks = _chunk(b"fmt ", header) + (_chunk(b"LIST", tags) if tags else b"") + _chunk(b"data", samples)
    return _chunk(b"RIFF", b"WAVE" + chunks)


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)


def _chord(seconds: float, rate: int) -> "array[int]":
    return array("h", (_chord_at(position / rate, position) for position in range(round(seconds * rate))))


def _chord_at(time: float, position: int) -> int:
    noise = (position * 7919 % 1009) / 1009 - 0.5
    return round(6000 * math.sin(440 * math.tau * time) + 6000 * math.sin(660 * math.tau * time) + 2000 * noise)


def _add_cover(container: OutputContainer) -> None:
    stream = container.add_stream("png", 1, width=32, height=32, pix_fmt="rgb24")
    assert isinstance(stream, av.VideoStream)
    stream.disposition = Disposition.attached_pic
    container.mux(stream.encode(_black().reformat(format="rgb24")))
    container.mux(stream.encode(None))


def _black() -> av.VideoFrame:
    frame = av.VideoFrame(32, 32, "yuv420p")
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    return frame


def _layout(channels: int) -> str:
    return "mono" if channels == 1 else "stereo"
