"""Makes a film a stream: HLS (RFC 8216) in up to three qualities, each a file whose byte ranges are the segments."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from heapq import merge
from itertools import pairwise
from math import ceil
from pathlib import Path
from struct import unpack
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from ingest.processing.clock import SEGMENT_SECONDS
from ingest.processing.film import Film, look_whole
from ingest.processing.steps import Ceilings, Made, Source, Unprocessable
from ingest.processing.transcode import Rendition, transcode

_PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
_LOW, _SHARED, _HIGH = 360, 720, 1080  # pixels of the short side
_PREAMBLE = ("#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS")

# FFmpeg's own muxer of HLS puts the first picture of a segment at a wrong time where the frame rate varies.
_FRAGMENTED = MappingProxyType(
    {
        "movflags": "+frag_keyframe+empty_moov+default_base_moof+frag_discont+skip_trailer",
        "use_editlist": "0",  # players differ in what they make of one
        "avoid_negative_ts": "disabled",  # as the times are, in all tracks and qualities
        "fflags": "+bitexact",
    }
)
_LEAD_SECONDS = 1  # so that what must be decoded before the first picture is shown has no time below zero

_Range = tuple[int, int]  # where it starts, and its size, in bytes
_Segment = tuple[float, _Range]  # seconds first


@dataclass(frozen=True, slots=True)
class _Form:
    """How one quality is coded."""

    width: int
    height: int
    rate: Fraction  # frames per second
    codecs: str  # RFC 6381


@dataclass(frozen=True, slots=True)
class _Rung:
    """One quality of a stream."""

    media: Path
    playlist: Path
    form: _Form
    segments: Sequence[_Segment]

    def described(self) -> str:
        """Return the rung's lines of the master playlist (RFC 8216 §4.3.4.2)."""
        return (
            f"#EXT-X-STREAM-INF:BANDWIDTH={_peak_bit_rate(self.segments)},"
            f'AVERAGE-BANDWIDTH={_bit_rate(self.segments)},CODECS="{self.form.codecs}",'
            f"RESOLUTION={self.form.width}x{self.form.height},FRAME-RATE={float(self.form.rate):.3f}\n"
            f"{self.playlist.name}"
        )


def make_stream(source: Source, ceilings: Ceilings, folder: Path, compressed: Path) -> tuple[Made, ...]:
    """Write a master playlist, and a playlist and a file of segments for each quality.

    No quality is larger in bytes than the film itself.

    Args:
        source: The film.
        ceilings: Beyond which it is given up.
        folder: Gets ``hls/master.m3u8``, ``hls/360p.m3u8``, ``hls/360p.mp4`` ...
        compressed: The film at 720 pixels at most, which is taken into the stream as it is; made if it is not there.

    Raises:
        Unprocessable: ``too-long``, ``larger-than-original``, or as for `film.look`.
    """
    film, target = look_whole(source, ceilings), folder / "hls"
    target.mkdir()
    with TemporaryDirectory(dir=folder, prefix="rungs-") as work:
        files = _encode(source, ceilings, film, compressed, Path(work))
        rungs = [_package(side, file, files[_shared(film)], target) for side, file in sorted(files.items())]
    kept = [rung for rung in rungs if rung.media.stat().st_size <= source.size]
    if not kept:
        raise Unprocessable("larger-than-original", f"at {len(rungs)} qualities")
    master = target / "master.m3u8"
    master.write_text("\n".join([*_PREAMBLE, *(rung.described() for rung in kept), ""]))
    return (Made("hls", master, _PLAYLIST_TYPE), *(made for rung in kept for made in _made(rung)))


def _sides(film: Film) -> list[int]:
    """Return the qualities a film is worth, by the most pixels of the short side, the largest first.

    What has more than 360 of them also gets what ``compressed`` is, which costs no encoding.
    """
    short = min(film.width, film.height)
    return [side for side, least in ((_HIGH, _HIGH), (_SHARED, _LOW + 1), (_LOW, 0)) if short >= least]


def _shared(film: Film) -> int:
    return min(_SHARED, _sides(film)[0])


def _encode(source: Source, ceilings: Ceilings, film: Film, compressed: Path, work: Path) -> dict[int, Path]:
    """Return a file for each quality; only the one that is shared has the sound."""
    shared = _shared(film)
    files = {side: work / f"{side}.mp4" for side in _sides(film)}
    if compressed.exists():
        files[shared] = compressed
    renditions = [
        Rendition(path=file, short_side=side, sound=side == shared)
        for side, file in files.items()
        if file != compressed
    ]
    if renditions:
        transcode(source, ceilings, film, *renditions)
    return files


def _package(side: int, pictures: Path, sound: Path, folder: Path) -> _Rung:
    """Copy a quality into one file of fragments, each a segment that begins with a key frame."""
    media, playlist = folder / f"{side}p.mp4", folder / f"{side}p.m3u8"
    with ExitStack() as stack:
        seen, heard = (stack.enter_context(av.open(f"file:{path}", "r")) for path in (pictures, sound))
        video = seen.streams.video[0]
        tracks: list[VideoStream | AudioStream] = [video, *heard.streams.audio[:1]]
        container = stack.enter_context(av.open(f"file:{media}", "w", "mp4", container_options=dict(_FRAGMENTED)))
        times = _copy(tracks, container)
        form = _Form(video.width, video.height, _rate(video), ",".join(map(_codec, tracks)))
    header, *fragments = _fragments(media)
    durations = [float(later - earlier) for earlier, later in pairwise(times)]
    segments = list(zip(durations, fragments, strict=True))
    playlist.write_text(_media_playlist(media.name, header, segments))
    return _Rung(media, playlist, form, segments)


def _copy(tracks: list[VideoStream | AudioStream], container: OutputContainer) -> list[Fraction]:
    """Copy tracks, and return the times of the key frames, and when the last track ends, in seconds."""
    video, *_ = copies = [container.add_stream_from_template(track) for track in tracks]
    keys, end, picture = [], Fraction(0), 1 / _rate(tracks[0])
    for packet in merge(*map(_copied, tracks, copies), key=lambda packet: (packet.dts or 0) * packet.time_base):
        time, is_picture = (packet.pts or 0) * packet.time_base, packet.stream is video
        # A picture's duration in MP4 is that of its decoding, which is another one where frames are reordered.
        end = max(end, time + (picture if is_picture else (packet.duration or 0) * packet.time_base))
        if is_picture and packet.is_keyframe:
            keys.append(time)
        container.mux(packet)
    return [*keys, end]


def _copied(track: VideoStream | AudioStream, copy: Stream) -> Iterator["Packet[Stream]"]:
    for packet in cast("InputContainer", track.container).demux(track):
        if packet.pts is None or packet.dts is None:  # the last one, which is empty
            return
        lead = round(_LEAD_SECONDS / packet.time_base)
        packet.pts, packet.dts, packet.stream = packet.pts + lead, packet.dts + lead, copy
        yield packet


def _fragments(media: Path) -> list[_Range]:
    """Return the byte ranges of an MP4's header and fragments (ISO/IEC 14496-12 §4.2, 8.8.4)."""
    starts, position, size = [0], 0, media.stat().st_size
    with media.open("rb") as file:
        while position < size:
            file.seek(position)
            length, kind = unpack(">I4s", file.read(8))
            if kind == b"moof":
                starts.append(position)
            position += length
    return [(start, stop - start) for start, stop in pairwise([*starts, size])]


def _media_playlist(uri: str, header: _Range, segments: Sequence[_Segment]) -> str:
    """Write the playlist of one quality (RFC 8216 §4.3)."""
    longest = max(round(duration) for duration, _ in segments)
    lines = [
        *_PREAMBLE,
        f"#EXT-X-TARGETDURATION:{max(longest, 1)}",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        f'#EXT-X-MAP:URI="{uri}",BYTERANGE="{header[1]}@{header[0]}"',
    ]
    for duration, (start, size) in segments:
        lines += [f"#EXTINF:{duration:.6f},", f"#EXT-X-BYTERANGE:{size}@{start}", uri]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def _rate(video: Stream) -> Fraction:
    return video.average_rate or Fraction(1)


def _codec(track: VideoStream | AudioStream) -> str:
    """Name a codec by what its decoder is configured with (RFC 6381 §3.3; ISO/IEC 14496-15 §5.4.1; 14496-3 §1.6.2)."""
    configuration = track.codec_context.extradata or b""
    if isinstance(track, VideoStream):
        return f"avc1.{configuration[1:4].hex()}"
    return f"mp4a.40.{configuration[0] >> 3}"


def _peak_bit_rate(segments: Sequence[_Segment]) -> int:
    """Return the largest bit rate of neighbours that last 0.5 to 1.5 times a segment together (RFC 8216 §4.1)."""
    neighbours = [*((segment,) for segment in segments), *pairwise(segments)]
    shortest, longest = SEGMENT_SECONDS * 0.5, SEGMENT_SECONDS * 1.5
    counted = [each for each in neighbours if shortest <= sum(seconds for seconds, _ in each) <= longest]
    return max(map(_bit_rate, counted), default=_bit_rate(segments))


def _bit_rate(segments: Sequence[_Segment]) -> int:
    return ceil(8 * sum(size for _, (_, size) in segments) / sum(seconds for seconds, _ in segments))


def _made(rung: _Rung) -> tuple[Made, Made]:
    return (
        Made(f"hls/{rung.playlist.name}", rung.playlist, _PLAYLIST_TYPE),
        Made(f"hls/{rung.media.name}", rung.media, "video/mp4"),
    )
