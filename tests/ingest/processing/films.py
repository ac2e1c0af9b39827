"""Films for tests, made by real encoders: four coloured quarters, so that one sees which way up they are."""

import math
import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from heapq import merge
from pathlib import Path
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from ingest.processing.steps import Ceilings, Result, Source
from ingest.processing.video import steps

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 30, 220), (235, 235, 235)
QUARTERS = (RED, GREEN, BLUE, WHITE)
"""The colours of the quarters: above left, above right, below left, below right."""

MILLISECOND = Fraction(1, 1000)
SECRET = "+52.5200+013.4050/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """A tone from one moment to another."""

    encoder: str = "aac"
    rate: int = 44100  # samples per second
    channels: int = 2
    begin: float = 0.0
    end: float = 2.0
    hertz: float = 440.0
    default: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """How a film is made; a picture is shown at each of the times, in milliseconds."""

    suffix: str = ".mp4"
    muxer: str = "mp4"
    encoder: str = "libx264"
    size: tuple[int, int] = (160, 120)
    times: Sequence[int] = tuple(range(0, 2000, 40))
    pixel_format: str = "yuv420p"
    bit_rate: int = 0
    matrix: Sequence[int] | None = None
    pixel_ratio: Fraction | None = None
    sounds: tuple[Sound, ...] = ()
    cover: bool = False
    colours: Callable[[int], Sequence[tuple[int, int, int]]] = lambda time: QUARTERS
    noise: int = 8
    muxer_options: dict[str, str] = field(default_factory=dict)


_QUICK = {
    "libx264": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}
_WHOLE_FRAMES = frozenset({"mpeg4", "h263", "mjpeg"})  # encoders whose times count frames of a fixed rate


def shoot(path: Path, film: Film) -> Path:
    """Write a film; it has a title and a place."""
    with av.open(str(path), "w", film.muxer, container_options=film.muxer_options) as container:
        container.metadata.update(title="Secret title", location=SECRET)
        tracks: list[Iterator[Any]] = [_pictures(container, film)] if film.times else []
        tracks += [_sound(container, sound) for sound in film.sounds]
        if film.cover:
            _add_cover(container)
        for packet in merge(*tracks, key=lambda packet: (packet.dts or 0) * packet.time_base):
            container.mux(packet)
    return path


def source_of(path: Path, content_type: str = "video/mp4") -> Source:
    """Return a file as steps get it."""
    return Source(path=path, content_type=content_type, size=path.stat().st_size)


def run(source: Source, *names: str, ceilings: Ceilings | None = None, folder: Path | None = None) -> dict[str, Result]:
    """Run steps in one folder, beside the film unless one is given; all of them, if none is named."""
    target = folder or source.path.with_suffix(".made")
    target.mkdir(exist_ok=True)
    offered = steps(source, ceilings or Ceilings())
    return {step.name: step.run(target) for step in offered if step.name in names or not names}


def quarters_of(frame: VideoFrame) -> list[tuple[int, int, int]]:
    """Return which of the four colours the middle of each quarter of a frame is nearest to."""
    return corners(frame.to_image())  # type: ignore[no-untyped-call]  # PyAV gives it no types


def corners(image: Image.Image) -> list[tuple[int, int, int]]:
    """Return which of the four colours the middle of each quarter of a picture is nearest to."""
    width, height = image.size
    points = [(width * x // 4, height * y // 4) for y in (1, 3) for x in (1, 3)]
    return [_nearest(image.convert("RGB").getpixel(point)) for point in points]  # type: ignore[arg-type]  # of RGB


def pictures(path: Path) -> list[VideoFrame]:
    """Decode all pictures of a small film."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def loudness(path: Path, begin: float, end: float) -> float:
    """Return the mean of the absolute samples, from 0 to 1, between two moments."""
    resampler = av.AudioResampler("s16", "mono", 8000)
    with av.open(str(path)) as container:
        samples = [
            ((part.pts or 0) / 8000 + index / 8000, value)
            for frame in container.decode(audio=0)
            for part in resampler.resample(frame)
            for index, value in enumerate(array("h", bytes(part.planes[0])[: part.samples * 2]))
        ]
    heard = [abs(value) for time, value in samples if begin <= time < end]
    return sum(heard) / max(len(heard), 1) / 32768


def _nearest(pixel: tuple[int, int, int]) -> tuple[int, int, int]:
    return min(QUARTERS, key=lambda colour: math.dist(colour, pixel))


def _pictures(container: OutputContainer, film: Film) -> Iterator["Packet[VideoStream]"]:
    width, height = film.size
    options = _QUICK.get(film.encoder)
    stream = container.add_stream(film.encoder, 25, options, width=width, height=height, pix_fmt=film.pixel_format)
    assert isinstance(stream, VideoStream)
    encoder = stream.codec_context
    encoder.time_base = Fraction(1, 25) if film.encoder in _WHOLE_FRAMES else MILLISECOND
    encoder.bit_rate = film.bit_rate
    if film.pixel_ratio is not None:
        encoder.sample_aspect_ratio = film.pixel_ratio
    if film.matrix is not None:
        stream.set_display_matrix(film.matrix)
    return _encoded(stream, film)


def _encoded(stream: VideoStream, film: Film) -> Iterator["Packet[VideoStream]"]:
    grain = random.Random(1)
    for time in film.times:
        frame = _frame(_picture(film, time, grain), film.pixel_format)
        frame.time_base = stream.codec_context.time_base
        frame.pts = round(time * MILLISECOND / frame.time_base)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _picture(film: Film, time: int, grain: random.Random) -> Image.Image:
    flag = Image.new("RGB", (2, 2))
    flag.putdata(list(film.colours(time)))
    picture = flag.resize(film.size, Image.Resampling.NEAREST)
    if not film.noise:
        return picture
    small = (max(1, film.size[0] // 2), max(1, film.size[1] // 2))
    noise = Image.frombytes("L", small, grain.randbytes(small[0] * small[1])).resize(film.size)
    return Image.blend(picture, noise.convert("RGB"), film.noise / 100)


def _frame(picture: Image.Image, pixel_format: str) -> VideoFrame:
    frame: VideoFrame = VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]  # PyAV gives it no types
    return frame.reformat(format=pixel_format)


def _sound(container: OutputContainer, sound: Sound) -> Iterator["Packet[AudioStream]"]:
    layout = "mono" if sound.channels == 1 else "stereo"
    stream = container.add_stream(sound.encoder, sound.rate, layout=layout)
    assert isinstance(stream, AudioStream)
    stream.disposition = Disposition.default if sound.default else Disposition(0)
    return _heard(stream, sound, layout)


def _heard(stream: AudioStream, sound: Sound, layout: str) -> Iterator["Packet[AudioStream]"]:
    position, last = round(sound.begin * sound.rate), round(sound.end * sound.rate)
    while position < last:
        length = min(1000, last - position)
        wave = (round(12000 * math.sin(math.tau * sound.hertz * (position + n) / sound.rate)) for n in range(length))
        samples = array("h", wave).tobytes()
        frame = AudioFrame("s16p", layout, length)
        for plane in frame.planes:
            plane.update(samples.ljust(plane.buffer_size, b"\0"))
        frame.rate, frame.time_base, frame.pts = sound.rate, Fraction(1, sound.rate), position
        position += length
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _add_cover(container: OutputContainer) -> None:
    stream = container.add_stream("mjpeg", 1, width=64, height=64, pix_fmt="yuvj420p")
    assert isinstance(stream, VideoStream)
    stream.disposition = Disposition.attached_pic
    stream.codec_context.time_base = Fraction(1, 25)
    container.mux(stream.encode(_frame(Image.new("RGB", (64, 64), GREEN), "yuvj420p")))
    container.mux(stream.encode(None))
