"""Brings frames upright, to one size and to colours that every screen shows, however a camera recorded them."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from struct import unpack
from types import MappingProxyType
from typing import cast

from av.buffer import Buffer
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

TIME_BASE = Fraction(1, 90_000)  # seconds; every usual frame rate is a whole number of them

Turn = tuple[tuple[str, str | None], ...]
"""Filters that bring a frame upright, each with its argument."""

# By the signs of a display matrix's a, b, c, d: x' = ax + cy, y' = bx + dy (ISO/IEC 14496-12 §8.3.2).
_TURNS: Mapping[tuple[int, int, int, int], Turn] = MappingProxyType(
    {
        (0, 1, -1, 0): (("transpose", "clock"),),
        (-1, 0, 0, -1): (("hflip", None), ("vflip", None)),
        (0, -1, 1, 0): (("transpose", "cclock"),),
        (-1, 0, 0, 1): (("hflip", None),),
        (1, 0, 0, -1): (("vflip", None),),
        (0, 1, 1, 0): (("transpose", "cclock_flip"),),
        (0, -1, -1, 0): (("transpose", "clock_flip"),),
    }
)
_HALF = 1 << 15  # in the 16.16 fixed point numbers of the matrix

# ITU-T H.273, as numbers and as the scale filter calls them.
_BT709, _BT601 = 1, 5
_MATRICES: Mapping[int, str] = MappingProxyType({_BT709: "bt709", _BT601: "bt470", 6: "smpte170m", 9: "bt2020"})
_FULL = 2  # the color_range of FFmpeg that is not what video has
_HDR = frozenset({16, 18})  # transfer characteristics: PQ and HLG
_HD_SIDE = 720  # pixels; players take untagged colours for BT.709 from here on


@dataclass(frozen=True, slots=True)
class Colours:
    """How scaled frames code their colours, by the numbers of ITU-T H.273."""

    matrix: int
    primaries: int
    transfer: int


def turn_of(frame: VideoFrame) -> Turn:
    """Return how a frame is brought upright; arbitrary angles, which no camera writes, are left as they are."""
    matrix = cast("Mapping[Type, Buffer]", frame.side_data).get(Type.DISPLAYMATRIX)
    if matrix is None:
        return ()
    a, b, _, c, d = unpack("=5i", bytes(matrix)[:20])
    return _TURNS.get((_sign(a), _sign(b), _sign(c), _sign(d)), ())


def is_sideways(turn: Turn) -> bool:
    """Whether width and height change places."""
    return any(name == "transpose" for name, _ in turn)


def colours_of(frame: VideoFrame) -> Colours:
    """Return the colours that a frame has after it was scaled: HDR becomes BT.709, all else stays as it is."""
    if frame.color_trc in _HDR:
        return Colours(_BT709, _BT709, _BT709)
    return Colours(_matrix_of(frame), frame.color_primaries, frame.color_trc)


class Scaler:
    """Brings frames upright and to one size and form, whatever form the next of them has.

    Args:
        size: Width and height of the frames that come out, in pixels.
        turn: How frames are brought upright.
        pixel_format: ``yuv420p`` (limited range) or ``rgb24``.
    """

    def __init__(self, size: tuple[int, int], *, turn: Turn = (), pixel_format: str = "yuv420p") -> None:
        self._size = size[::-1] if is_sideways(turn) else size
        self._turn = turn
        self._pixel_format = pixel_format
        self._form: Hashable = None
        self._graph = Graph()

    def scale(self, frame: VideoFrame) -> VideoFrame:
        """Return a frame as it is shown, at the same time."""
        if self._fits(frame):
            return frame
        form = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, frame.color_trc)
        if form != self._form:
            self._form, self._graph = form, self._build(frame)
        self._graph.vpush(frame)
        return self._graph.vpull()

    def _fits(self, frame: VideoFrame) -> bool:
        """Whether there is nothing to do; the graph would copy it all the same."""
        form = (frame.width, frame.height, frame.format.name)
        plain = not self._turn and frame.color_range != _FULL and frame.color_trc not in _HDR
        return plain and form == (*self._size, self._pixel_format)

    def _build(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = 1
        nodes = [graph.add("buffer", **_form_arguments(frame)), graph.add("scale", **self._scale_arguments(frame))]
        nodes += [graph.add(name, argument) for name, argument in self._turn]
        nodes += [graph.add("format", self._pixel_format), graph.add("setsar", "1"), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        return graph

    def _scale_arguments(self, frame: VideoFrame) -> dict[str, str]:
        arguments = {"size": "{}x{}".format(*self._size), "flags": "bicubic"}
        if frame.format.name.startswith("yuv"):
            arguments["in_color_matrix"] = _MATRICES[_matrix_of(frame)]
        if frame.color_trc in _HDR:
            arguments |= {"out_primaries": "bt709", "out_transfer": "bt709"}
        if self._pixel_format == "yuv420p":
            arguments |= {"out_color_matrix": _MATRICES[colours_of(frame).matrix], "out_range": "limited"}
        return arguments


def _form_arguments(frame: VideoFrame) -> dict[str, str]:
    return {
        "video_size": f"{frame.width}x{frame.height}",
        "pix_fmt": frame.format.name,
        "time_base": str(TIME_BASE),
        "colorspace": str(frame.colorspace),
        "range": str(frame.color_range),
    }


def _matrix_of(frame: VideoFrame) -> int:
    """Return what the frame says, or what players assume where it says nothing."""
    if frame.colorspace in _MATRICES:
        return frame.colorspace
    return _BT709 if min(frame.width, frame.height) >= _HD_SIDE else _BT601


def _sign(number: int) -> int:
    return (number > _HALF) - (number < -_HALF)
