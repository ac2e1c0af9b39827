"""What a film is like, by its header and its first picture: what every step must know before it begins."""

from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ingest.processing.containers import frames, opened, packets, pictures_of, seconds_claimed, sound_of
from ingest.processing.frames import Colours, Turn, colours_of, is_sideways, turn_of
from ingest.processing.steps import Ceilings, Source, Unprocessable

_SLIMMEST = 4  # times the short side that is asked for; and the narrowest pixels that any camera has
_RATES = (Fraction(1), Fraction(60))  # of what a header may claim, in frames per second
_USUAL_RATE = Fraction(30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """The sound of a film."""

    codec: str
    rate: int  # samples per second
    channels: int
    bit_rate: int  # bits per second, 0 where it is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A film as it is shown: upright, with square pixels."""

    width: int
    height: int
    turn: Turn
    colours: Colours
    codec: str
    start: Fraction  # seconds; where its times begin
    seconds_claimed: float
    rate: Fraction  # frames per second, roughly
    bit_rate: int  # of its pictures, in bits per second
    sound: Sound | None

    def fitted(self, short_side: int) -> tuple[int, int]:
        """Return width and height of a rendition: both even, as 4:2:0 needs them, and never larger than the film.

        Args:
            short_side: What the shorter of the two is at most; the longer one may have four times as much.
        """
        short, long = sorted((self.width, self.height))
        scale = min(Fraction(1), Fraction(short_side, short), Fraction(short_side * _SLIMMEST, long))
        return _even(self.width * scale), _even(self.height * scale)


def look(source: Source, ceilings: Ceilings) -> Film:
    """Read a film's header, and decode its first picture.

    Raises:
        Unprocessable: ``undecodable``, ``no-video``, ``too-many-streams`` or ``too-many-pixels``.
    """
    with opened(source.path, ceilings) as container:
        stream = pictures_of(container, ceilings)
        picture = next(frames(container, stream), None)
        if picture is None:
            raise Unprocessable("undecodable", "not one picture in it")
        return _film(source, container, stream, picture)


def look_whole(source: Source, ceilings: Ceilings) -> Film:
    """Do as `look` does for a film that will be decoded from beginning to end.

    Raises:
        Unprocessable: As for `look`; and ``too-long``, if the header claims so.
    """
    film = look(source, ceilings)
    if film.seconds_claimed > ceilings.seconds:
        raise Unprocessable("too-long", f"its header claims {film.seconds_claimed:.0f} s")
    return film


def seconds_of(source: Source, ceilings: Ceilings) -> float:
    """Return how long a film lasts, by all that is in it: headers lie, are missing, or tell of what was cut off."""
    with opened(source.path, ceilings) as container:
        streams = [stream for stream in (pictures_of(container, ceilings), sound_of(container)) if stream is not None]
        ends = (
            (packet.pts + (packet.duration or 0)) * packet.time_base
            for packet in packets(container, *streams)
            if packet.pts is not None
        )
        return max(0.0, float(max(ends, default=Fraction(0)) - _start(container)))


def _film(source: Source, container: InputContainer, stream: VideoStream, picture: VideoFrame) -> Film:
    turn, seconds = turn_of(picture), seconds_claimed(container)
    width = round(picture.width * _pixel_ratio(stream))
    return Film(
        width=picture.height if is_sideways(turn) else width,
        height=width if is_sideways(turn) else picture.height,
        turn=turn,
        colours=colours_of(picture),
        codec=stream.codec_context.codec.canonical_name,
        start=_start(container),
        seconds_claimed=seconds,
        rate=_rate(stream),
        bit_rate=stream.bit_rate or round(8 * source.size / max(seconds, 1)),
        sound=_sound(container),
    )


def _sound(container: InputContainer) -> Sound | None:
    stream = sound_of(container)
    if stream is None:
        return None
    return Sound(
        codec=stream.codec_context.codec.canonical_name,
        rate=stream.sample_rate,
        channels=stream.channels,
        bit_rate=stream.bit_rate or 0,
    )


def _start(container: InputContainer) -> Fraction:
    return Fraction(container.start_time or 0, av.time_base)


def _rate(stream: VideoStream) -> Fraction:
    slowest, fastest = _RATES
    return min(max(stream.average_rate or _USUAL_RATE, slowest), fastest)


def _pixel_ratio(stream: VideoStream) -> Fraction:
    """Return the width of a pixel by its height; what no camera has is a mistake."""
    ratio = stream.sample_aspect_ratio or Fraction(1)
    return ratio if Fraction(1, _SLIMMEST) <= ratio <= _SLIMMEST else Fraction(1)


def _even(length: Fraction) -> int:
    return max(2, int(length) // 2 * 2)
