"""Makes of a recording what every phone plays, and what a chat shows of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Literal

import av
from av.audio.frame import AudioFrame
from av.codec.context import Flags

from ingest.processing import waveform
from ingest.processing.sound import Recording, recording, resampled
from ingest.processing.steps import Ceilings, Made, Result, Source, Step, Unprocessable


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    """How a rendition is coded."""

    suffix: str
    content_type: str
    muxer: str
    encoder: Literal["aac", "libmp3lame", "libopus"]
    rates: tuple[int, ...]  # samples per second, ascending


# From 24 kHz a frame of AAC lasts no longer than 43 ms: no player that ignores its padding is further off.
_COMMON_RATES = (24000, 32000, 44100, 48000)
_M4A = _Format(suffix=".m4a", content_type="audio/mp4", muxer="ipod", encoder="aac", rates=_COMMON_RATES)
_MP3 = _Format(suffix=".mp3", content_type="audio/mpeg", muxer="mp3", encoder="libmp3lame", rates=_COMMON_RATES)
_OPUS = _Format(
    suffix=".ogg",
    content_type="audio/ogg",
    muxer="ogg",
    encoder="libopus",
    rates=(8000, 12000, 16000, 24000, 48000),  # RFC 6716 §2
)

_VOICE_BIT_RATE = 64_000  # bits per second; of a mono `aac` too
_MUSIC_BIT_RATE = 128_000
_WORTH_IT = 1.1  # times its bit rate: a smaller gain does not pay for encoding a second time
_UNPLAYABLE = frozenset({"amr_nb", "amr_wb"})  # in browsers: made playable, however small it is

# bitexact: no name and version of the encoder, no random serial number; the same sound gives the same bytes.
_MUXER_OPTIONS = {"movflags": "+faststart", "fflags": "+bitexact"}


def steps(source: Source, ceilings: Ceilings) -> list[Step]:
    """Return what is done with a recording; the facts first, the encoding of what is rarely asked for last.

    ``compressed`` makes nothing where the original is small enough as it is, and is no step at all for Ogg Opus.
    """
    offered = [
        Step("facts", (), partial(_facts, source, ceilings)),
        Step("waveform", ("waveform",), partial(_waveform, source, ceilings)),
        Step("aac", ("aac",), partial(_aac, source, ceilings)),
        Step("compressed", ("compressed",), partial(_compressed, source, ceilings)),
    ]
    return offered[:-1] if _is_ogg_opus(source.path) else offered


def _facts(source: Source, ceilings: Ceilings, folder: Path) -> Result:  # noqa: ARG001 - every step is given a folder
    """Decode it all: only then is the duration known of what has no index, was cut off, or lies."""
    with recording(source.path, ceilings) as sound:
        for _ in sound.frames():
            pass
    return Result(
        facts={
            "duration": round(sound.seconds, 3),
            "codec": sound.codec,
            "bitrate": round(8 * sound.octets / sound.seconds),
            "channels": sound.channels,
            "sample_rate": sound.sample_rate,
        },
    )


def _waveform(source: Source, ceilings: Ceilings, folder: Path) -> Result:
    with recording(source.path, ceilings) as sound:
        peaks = waveform.peaks(sound.frames())
    path = folder / "waveform.png"
    waveform.picture(peaks).save(path, optimize=True, bits=1)
    return Result(made=(Made("waveform", path, "image/png"),), facts={"waveform": peaks})


def _aac(source: Source, ceilings: Ceilings, folder: Path) -> Result:
    with recording(source.path, ceilings) as sound:
        bit_rate = _VOICE_BIT_RATE if sound.channels == 1 else _MUSIC_BIT_RATE
        return Result(made=(_encode(sound, "aac", folder, _M4A, bit_rate),))


def _compressed(source: Source, ceilings: Ceilings, folder: Path) -> Result:
    with recording(source.path, ceilings) as sound:
        if sound.codec in _UNPLAYABLE:
            return Result(made=(_encode(sound, "compressed", folder, _OPUS, _VOICE_BIT_RATE),))
        if sound.bit_rate and sound.bit_rate <= _WORTH_IT * _MUSIC_BIT_RATE:
            return Result()
        wanted = _MP3 if sound.codec == "mp3" else _M4A
        return Result(made=(_encode(sound, "compressed", folder, wanted, _MUSIC_BIT_RATE),))


def _encode(sound: Recording, name: str, folder: Path, wanted: _Format, bit_rate: int) -> Made:
    """Write a rendition: without tags and cover art, mono as mono, more than two channels as two."""
    path = folder / f"{name}{wanted.suffix}"
    layout = "mono" if sound.channels == 1 else "stereo"
    rate = next((rate for rate in wanted.rates if rate >= sound.sample_rate), wanted.rates[-1])
    with av.open(f"file:{path}", "w", wanted.muxer, container_options=_MUXER_OPTIONS) as container:
        stream = container.add_stream(wanted.encoder, rate, layout=layout, bit_rate=bit_rate)
        stream.codec_context.flags |= Flags.bitexact
        # Through 16 bits, so that no NaN that damaged floats decode to stops an encoder.
        for frame in _timed(resampled(sound.frames(), layout=layout, rate=rate), rate):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if not path.exists():  # nothing reached the muxer: the resampler found less than one sample of the new rate
        raise Unprocessable("undecodable", "too little sound to encode")
    return Made(name, path, wanted.content_type)


def _timed(frames: Iterable[AudioFrame], rate: int) -> Iterator[AudioFrame]:
    """Number the samples: muxers write the encoder's delay and the exact end from that."""
    position = 0
    for frame in frames:
        frame.pts, frame.time_base = position, Fraction(1, rate)
        position += frame.samples
        yield frame


def _is_ogg_opus(path: Path) -> bool:
    """Tell by the first page, which holds the identification header and nothing else (RFC 7845 §3)."""
    with path.open("rb") as file:
        header = file.read(36)
    return header.startswith(b"OggS") and header.endswith(b"OpusHead")
