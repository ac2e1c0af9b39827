"""Makes the demo's video from its photographs, with a running clock that shows where a seek has landed."""

import heapq
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.filter import Graph
from av.packet import Packet
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageFont, ImageOps

Encoded: TypeAlias = "Packet[VideoStream] | Packet[AudioStream]"

WIDTH, HEIGHT = 640, 360
FRAME_RATE = 20
SECONDS = 12
SAMPLE_RATE = 24_000
FADE = 10  # frames that two photographs share
PAN = 2  # pixels to the side in a frame; downwards it is one

# A chord that swells with the tone of a bell on every second, so that a seek can be heard too.
MUSIC = (
    "0.05*(sin(2*PI*220*t)+sin(2*PI*277.18*t)+sin(2*PI*329.63*t))*(0.6-0.4*cos(2*PI*t/4))"
    r"+0.12*sin(2*PI*1318.5*t)*exp(-9*mod(t\,1))"
)


def make_film(photos: Sequence[Path], target: Path) -> None:
    """Encode H.264 and AAC into an MP4 that starts to play before it has arrived whole.

    The index precedes the frames, and every second begins with a key frame: a player may seek by range requests.
    """
    with av.open(target, "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as film:
        video, audio = _video_stream(film), _audio_stream(film)
        packets = heapq.merge(_encode_pictures(video, photos), _encode_music(audio), key=_decoding_time)
        for packet in packets:
            film.mux(packet)


def _video_stream(film: av.container.OutputContainer) -> VideoStream:
    # The same bytes on every machine: x264 decides by the number of its threads, which follows the cores otherwise.
    options = {"preset": "superfast", "crf": "25", "threads": "1", "sc_threshold": "0", "flags": "+bitexact"}
    stream = film.add_stream("libx264", rate=FRAME_RATE, options=options)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    stream.gop_size = FRAME_RATE
    return stream


def _audio_stream(film: av.container.OutputContainer) -> AudioStream:
    return film.add_stream("aac", rate=SAMPLE_RATE, layout="mono", bit_rate=64_000, options={"flags": "+bitexact"})


def _decoding_time(packet: Encoded) -> Fraction:
    return (packet.dts or 0) * packet.time_base


def _encode_pictures(stream: VideoStream, photos: Sequence[Path]) -> Iterator[Encoded]:
    share = SECONDS * FRAME_RATE // len(photos)
    views = [_view(photo, share + FADE) for photo in photos]
    for number in range(SECONDS * FRAME_RATE):
        picture = _picture(views, number)
        frame = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]  # untyped in its stub
        frame.pts, frame.time_base = number, Fraction(1, FRAME_RATE)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _encode_music(stream: AudioStream) -> Iterator[Encoded]:
    for frame in _music():
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _music() -> Iterator[AudioFrame]:
    graph = Graph()
    source = graph.add("aevalsrc", f"exprs={MUSIC}:sample_rate={SAMPLE_RATE}:duration={SECONDS}")
    fade = graph.add("afade", f"type=out:start_time={SECONDS - 1}:duration=1")
    layout = graph.add("aformat", "sample_fmts=fltp:channel_layouts=mono")
    graph.link_nodes(source, fade, layout, graph.add("abuffersink")).configure()
    while True:
        try:
            frame = graph.pull()
        except av.error.EOFError:
            return
        if isinstance(frame, AudioFrame):
            yield frame


def _view(photo: Path, frames: int) -> Image.Image:
    """Return the photograph upright and larger than a frame by what a window moves in ``frames``."""
    with Image.open(photo) as image:
        image.draft("RGB", (WIDTH, HEIGHT))
        upright = ImageOps.exif_transpose(image)
    return ImageOps.fit(upright, (WIDTH + PAN * frames, HEIGHT + frames), centering=(0.5, 0.25))


def _picture(views: Sequence[Image.Image], number: int) -> Image.Image:
    share = SECONDS * FRAME_RATE // len(views)
    index, elapsed = divmod(number, share)
    picture = _window(views[index], elapsed + FADE, backwards=index % 2 == 1)
    overlap = elapsed - (share - FADE)
    if overlap > 0 and index + 1 < len(views):
        following = _window(views[index + 1], overlap, backwards=index % 2 == 0)
        picture = Image.blend(picture, following, overlap / FADE)
    _draw_clock(picture, number / FRAME_RATE)
    return picture


def _window(view: Image.Image, step: int, *, backwards: bool) -> Image.Image:
    """Return what a window sees that moves over the view by whole pixels: smooth without resampling."""
    left, top = PAN * step, step
    if backwards:
        left = view.width - WIDTH - left
    return view.crop((left, top, left + WIDTH, top + HEIGHT))


def _draw_clock(picture: Image.Image, seconds: float) -> None:
    pen = ImageDraw.Draw(picture)
    pen.rounded_rectangle((16, 16, 118, 54), radius=19, fill=(12, 18, 28))
    pen.text((67, 35), f"{seconds:04.1f} s", font=_CLOCK_FONT, fill="white", anchor="mm")
    pen.rectangle((0, HEIGHT - 5, WIDTH * seconds / SECONDS, HEIGHT), fill=(255, 184, 77))


_CLOCK_FONT = ImageFont.load_default(22)
