"""Makes media as phones make them: large, grainy, with metadata; all from the demo's photographs and its voice."""

import heapq
import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import TypeAlias

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.filter import Graph
from av.packet import Packet
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageOps

from gateway.demo.samples import PHOTOS, VOICE_NOTE

TWELVE_MEGAPIXELS = (4000, 3000)
_TEXTURES = ((8, 12), (4, 8), (2, 5), (1, 3))  # pixels wide, and how strong: finer detail is fainter, as in nature
_FULL_HD = (1920, 1080)
_FRAME_RATE = 30
_CLIP_SECONDS = 10
_SAMPLE_RATE = 48_000
_NOISE = "c0s=3:c0f=t"  # another grain in every frame, as of a sensor in the evening
_REPEATED = 4  # times: a voice note of half a minute

_Encoded: TypeAlias = "Packet[VideoStream] | Packet[AudioStream]"


def photograph(name: str, path: Path, *, quality: int = 95, size: tuple[int, int] = TWELVE_MEGAPIXELS) -> Path:
    """Write one of the demo's photographs as a camera would have: in all its pixels, sharp down to the grain."""
    picture = _photo(name, size)
    for width, strength in _TEXTURES:
        picture = _textured(picture, width, strength)
    picture.save(path, "JPEG", quality=quality, exif=_exif())
    return path


def clip(name: str, path: Path) -> Path:
    """Write ten seconds of Full HD with a grain that never repeats, H.264 at CRF 18 and AAC."""
    with av.open(path, "w", format="mp4") as container:
        options = {"preset": "superfast", "crf": "18"}
        video = container.add_stream("libx264", _FRAME_RATE, options, width=_FULL_HD[0], height=_FULL_HD[1])
        audio = container.add_stream("aac", _SAMPLE_RATE, layout="stereo", bit_rate=192_000)
        packets = heapq.merge(_filmed(video, name), _heard(audio), key=_decoding_time)
        for packet in packets:
            container.mux(packet)
    return path


def voice_note(path: Path, *, bit_rate: int) -> Path:
    """Write half a minute of speech as Ogg Opus."""
    with av.open(path, "w", format="ogg") as container:
        stream = container.add_stream("libopus", _SAMPLE_RATE, {"application": "voip"}, layout="mono")
        stream.bit_rate = bit_rate
        for number, frame in enumerate(_speech(stream.codec_context.frame_size or 960)):
            frame.pts, frame.time_base = number * frame.samples, Fraction(1, _SAMPLE_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def screenshot(name: str, path: Path) -> Path:
    """Write what a phone's screen shows of a chat, as PNG: flat areas, text, and a photograph."""
    screen = Image.new("RGB", (1080, 2340), "#efe7dd")
    pen, font = ImageDraw.Draw(screen), ImageFont.load_default(40)
    pen.rectangle((0, 0, 1080, 190), fill="#075e54")
    pen.text((60, 110), "Launch day", font=font, fill="white")
    for number in range(14):
        top, left = 230 + 96 * number, 40 if number % 3 else 420
        pen.rounded_rectangle((left, top, left + 620, top + 80), 24, fill="#ffffff" if number % 3 else "#dcf8c6")
        pen.text(
            (left + 24, top + 14), f"We leave at {6 + number}:{number * 4:02}, do not be late", font=font, fill="#222"
        )
    screen.paste(_photo(name, (900, 640)), (90, 1620))
    screen.save(path, "PNG")
    return path


def animation(name: str, path: Path) -> Path:
    """Write two seconds of a view that moves, as GIF."""
    view = _photo(name, (640, 480))
    frames = [view.crop((step * 4, step * 3, step * 4 + 480, step * 3 + 360)).quantize(128) for step in range(25)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:], duration=80, loop=0)
    return path


def _photo(name: str, size: tuple[int, int]) -> Image.Image:
    with Image.open(PHOTOS / f"{name}.jpg") as image:
        return ImageOps.fit(image.convert("RGB"), size, Image.Resampling.BICUBIC)


def _textured(picture: Image.Image, width: int, strength: float) -> Image.Image:
    """Lay noise over the picture whose grains are so many pixels wide."""
    small = tuple(math.ceil(length / width) for length in picture.size)
    noise = Image.merge("RGB", [Image.effect_noise((small[0], small[1]), strength) for _ in range(3)])
    grain = noise if width == 1 else noise.resize(picture.size, Image.Resampling.BICUBIC)
    return ImageChops.add(picture, grain, offset=-128)


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Samples", "Phone 12", 1  # make, model, upright
    exif.get_ifd(0x8769).update({0x829A: 0.01, 0x829D: 1.8, 0x8827: 200, 0x9003: "2026:11:14 16:30:00"})
    exif.get_ifd(0x8825).update({1: "N", 2: (28.0, 31.0, 27.0), 3: "W", 4: (80.0, 39.0, 3.0)})  # a place
    return exif


def _decoding_time(packet: _Encoded) -> Fraction:
    return (packet.dts or 0) * packet.time_base


def _filmed(stream: VideoStream, name: str) -> Iterator[_Encoded]:
    """Pan over a photograph, by whole pixels."""
    width, height = _FULL_HD
    count = _CLIP_SECONDS * _FRAME_RATE
    view = _textured(_photo(name, (width + 2 * count, height + count)), 3, 10)
    grain = _Grain()
    for number in range(count):
        window = view.crop((2 * number, number, 2 * number + width, number + height))
        frame = grain.over(VideoFrame.from_image(window).reformat(format="yuv420p"))  # type: ignore[no-untyped-call]
        frame.pts, frame.time_base = number, Fraction(1, _FRAME_RATE)
        yield from stream.encode(frame)
    yield from stream.encode(None)


class _Grain:
    """FFmpeg's own noise."""

    def __init__(self) -> None:
        width, height = _FULL_HD
        self._graph = Graph()
        form, time_base = VideoFormat("yuv420p"), Fraction(1, _FRAME_RATE)
        source = self._graph.add_buffer(width=width, height=height, format=form, time_base=time_base)
        self._graph.link_nodes(source, self._graph.add("noise", _NOISE), self._graph.add("buffersink")).configure()

    def over(self, frame: VideoFrame) -> VideoFrame:
        self._graph.vpush(frame)
        return self._graph.vpull()


def _heard(stream: AudioStream) -> Iterator[_Encoded]:
    """Encode wind and a bell."""
    sound = "0.1*(random(0)-0.5)+0.2*sin(2*PI*660*t)*exp(-3*mod(t\\,1))"
    graph = Graph()
    source = graph.add("aevalsrc", f"exprs={sound}|{sound}:sample_rate={_SAMPLE_RATE}:duration={_CLIP_SECONDS}")
    graph.link_nodes(source, graph.add("aformat", "sample_fmts=fltp"), graph.add("abuffersink")).configure()
    while True:
        try:
            frame = graph.pull()
        except av.error.EOFError:
            break
        assert isinstance(frame, AudioFrame)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _speech(samples: int) -> Iterator[AudioFrame]:
    """Decode the demo's voice note a few times over, in frames of so many samples."""
    resampler = av.AudioResampler("s16", "mono", _SAMPLE_RATE, samples)
    for path in repeat(VOICE_NOTE, _REPEATED):
        with av.open(path) as container:
            for heard in container.decode(audio=0):
                heard.pts = None
                yield from (frame for frame in resampler.resample(heard) if frame.samples == samples)
