"""Streams as a player sees them: what the playlists promise (RFC 8216), and what the files keep of it."""

import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import av
import pytest

from ingest.processing.steps import Made, Unprocessable
from tests.ingest.processing.films import QUARTERS, Film, Sound, loudness, quarters_of, run, shoot, source_of

MASTER_TYPE = "application/vnd.apple.mpegurl"
LEAD = 1  # seconds, when the first picture of a stream is shown
TIMES = tuple(range(0, 5000, 250))


@dataclass(frozen=True, slots=True)
class Segment:
    seconds: float
    size: int
    begin: int
    uri: str


def names(made: tuple[Made, ...]) -> list[str]:
    return [each.name for each in made]


def segments(playlist: Path) -> list[Segment]:
    found = re.findall(r"#EXTINF:([\d.]+),\n#EXT-X-BYTERANGE:(\d+)@(\d+)\n(\S+)\n", playlist.read_text())
    return [Segment(float(seconds), int(size), int(begin), uri) for seconds, size, begin, uri in found]


def qualities(master: Path) -> dict[str, dict[str, str]]:
    found = re.findall(r"#EXT-X-STREAM-INF:(.+)\n(\S+)\n", master.read_text())
    pairs = partial(re.findall, r'([A-Z-]+)=("[^"]*"|[^,]*)')
    return {uri: dict(pairs(attributes)) for attributes, uri in found}


def boxes(content: bytes) -> list[str]:
    kinds, position = [], 0
    while position < len(content):
        kinds.append(content[position + 4 : position + 8].decode())
        position += int.from_bytes(content[position : position + 4], "big")
    return kinds


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stream of a film that has all three qualities, and sound."""
    folder = tmp_path_factory.mktemp("stream")
    film = Film(size=(1080, 1080), times=TIMES, sounds=(Sound(end=4.9),))
    result = run(source_of(shoot(folder / "film.mp4", film)), "compressed", "hls", folder=folder)["hls"]
    assert result.made == (
        Made("hls", folder / "hls/master.m3u8", MASTER_TYPE),
        Made("hls/360p.m3u8", folder / "hls/360p.m3u8", MASTER_TYPE),
        Made("hls/360p.mp4", folder / "hls/360p.mp4", "video/mp4"),
        Made("hls/720p.m3u8", folder / "hls/720p.m3u8", MASTER_TYPE),
        Made("hls/720p.mp4", folder / "hls/720p.mp4", "video/mp4"),
        Made("hls/1080p.m3u8", folder / "hls/1080p.m3u8", MASTER_TYPE),
        Made("hls/1080p.mp4", folder / "hls/1080p.mp4", "video/mp4"),
    )
    return folder / "hls"


def test_nothing_else_is_left_of_the_work(stream: Path) -> None:
    assert {path.name for path in stream.parent.iterdir()} == {"film.mp4", "compressed.mp4", "hls"}
    assert len(list(stream.iterdir())) == 7


def test_the_master_playlist_describes_each_quality(stream: Path) -> None:
    assert (stream / "master.m3u8").read_text().startswith("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n")
    offered = qualities(stream / "master.m3u8")
    assert {uri: quality["RESOLUTION"] for uri, quality in offered.items()} == {
        "360p.m3u8": "360x360",
        "720p.m3u8": "720x720",
        "1080p.m3u8": "1080x1080",
    }
    assert [float(quality["FRAME-RATE"]) for quality in offered.values()] == [pytest.approx(4, abs=0.1)] * 3


@pytest.mark.parametrize("name", ["360p", "720p", "1080p"])
def test_bandwidths_are_those_of_the_segments(name: str, stream: Path) -> None:
    quality, parts = qualities(stream / "master.m3u8")[f"{name}.m3u8"], segments(stream / f"{name}.m3u8")
    total = 8 * sum(part.size for part in parts) / sum(part.seconds for part in parts)
    assert int(quality["AVERAGE-BANDWIDTH"]) == pytest.approx(total, abs=1)
    full = [8 * part.size / part.seconds for part in parts if part.seconds >= 2]
    assert int(quality["BANDWIDTH"]) >= max(full)  # RFC 8216 §4.1; the last second counts with its neighbour


@pytest.mark.parametrize("name", ["360p", "720p", "1080p"])
def test_codecs_are_named_as_the_decoders_are_configured(name: str, stream: Path) -> None:
    video, sound = qualities(stream / "master.m3u8")[f"{name}.m3u8"]["CODECS"].strip('"').split(",")
    content = (stream / f"{name}.mp4").read_bytes()
    profile = content[content.index(b"avcC") + 5 :][:3]  # ISO/IEC 14496-15 §5.3.3.1: after the version
    assert video == f"avc1.{profile.hex()}"
    assert profile[0] == 100, "High profile"
    assert sound == "mp4a.40.2", "AAC LC"


def test_the_level_suits_the_size_of_the_pictures(stream: Path) -> None:
    """ITU-T H.264 table A-1, by size and rate: what a phone takes for its decision whether it can decode."""
    levels = {uri: quality["CODECS"][10:12] for uri, quality in qualities(stream / "master.m3u8").items()}
    assert {uri: int(level, 16) for uri, level in levels.items() if int(level, 16) > 40} == {}
    assert int(levels["360p.m3u8"], 16) <= 30


@pytest.mark.parametrize("name", ["360p", "720p", "1080p"])
def test_a_quality_is_one_file_of_segments_of_four_seconds(name: str, stream: Path) -> None:
    text, parts = (stream / f"{name}.m3u8").read_text(), segments(stream / f"{name}.m3u8")
    for line in (
        "#EXT-X-VERSION:7",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-TARGETDURATION:4",
        "#EXT-X-INDEPENDENT-SEGMENTS",
    ):
        assert line in text.splitlines()
    assert text.endswith("#EXT-X-ENDLIST\n")
    assert {part.uri for part in parts} == {f"{name}.mp4"}
    assert [part.seconds for part in parts] == [4, pytest.approx(1, abs=0.1)]


@pytest.mark.parametrize("name", ["360p", "720p", "1080p"])
def test_the_byte_ranges_make_up_the_file(name: str, stream: Path) -> None:
    content, parts = (stream / f"{name}.mp4").read_bytes(), segments(stream / f"{name}.m3u8")
    header = re.search(rf'#EXT-X-MAP:URI="{name}.mp4",BYTERANGE="(\d+)@0"', (stream / f"{name}.m3u8").read_text())
    assert header is not None
    assert boxes(content[: int(header[1])]) == ["ftyp", "moov"]
    position = int(header[1])
    for part in parts:
        assert part.begin == position
        assert boxes(content[part.begin : part.begin + part.size]) == ["moof", "mdat"]
        position += part.size
    assert position == len(content)


def test_all_qualities_can_be_switched_at_the_same_times(stream: Path) -> None:
    keys = {}
    for name in ("360p", "720p", "1080p"):
        with av.open(str(stream / f"{name}.mp4")) as container:
            packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
            keys[name] = [round((packet.pts or 0) * packet.time_base, 3) for packet in packets if packet.is_keyframe]
    assert keys["360p"] == [LEAD, LEAD + 4]
    assert keys["360p"] == keys["720p"] == keys["1080p"]


@pytest.mark.parametrize("name", ["360p", "720p", "1080p"])
def test_each_segment_begins_with_a_key_frame_and_can_be_decoded_alone(name: str, stream: Path, tmp_path: Path) -> None:
    content, parts = (stream / f"{name}.mp4").read_bytes(), segments(stream / f"{name}.m3u8")
    for part in parts:
        alone = tmp_path / "alone.mp4"
        alone.write_bytes(content[: parts[0].begin] + content[part.begin : part.begin + part.size])
        with av.open(str(alone)) as container:
            shown = list(container.decode(video=0))
        assert len(shown) == round(part.seconds * 4)
        assert shown[0].key_frame
        assert quarters_of(shown[0]) == list(QUARTERS)


@pytest.mark.parametrize("file", ["master.m3u8", "360p.m3u8", "720p.m3u8", "1080p.m3u8"])
def test_a_player_reads_it_from_beginning_to_end(file: str, stream: Path) -> None:
    options = {"protocol_whitelist": "file", "allowed_extensions": "ALL"}
    with av.open(str(stream / file), options=options) as container:
        assert (container.duration or 0) / av.time_base == pytest.approx(5, abs=0.1)
        pictures = [frame.time for frame in container.decode(video=0)]
    assert len(pictures) == len(TIMES)
    assert pictures[-1] - pictures[0] == pytest.approx(4.75)


def test_sound_and_pictures_stay_together(tmp_path: Path) -> None:
    sound = Sound(encoder="pcm_s16le", rate=48000, begin=0.8)
    film = Film(suffix=".mkv", muxer="matroska", sounds=(sound,))
    media = run(source_of(shoot(tmp_path / "film.mkv", film)), "hls")["hls"].made[2].path
    with av.open(str(media)) as container:
        assert {
            stream.type: float((stream.start_time or 0) * (stream.time_base or 0)) for stream in container.streams
        } == {
            "video": LEAD,
            "audio": pytest.approx(LEAD - 1024 / 48000),  # what AAC puts before the sound
        }
    assert loudness(media, LEAD, LEAD + 0.75) < 0.01
    assert loudness(media, LEAD + 0.85, LEAD + 1.9) > 0.2


@pytest.mark.parametrize("name", ["360p", "720p", "1080p"])
def test_every_quality_has_the_sound(name: str, stream: Path) -> None:
    assert loudness(stream / f"{name}.mp4", 0.5, 4.5) > 0.2


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((160, 120), {"360p": "160x120"}),
        ((640, 360), {"360p": "640x360"}),
        ((480, 854), {"360p": "360x640", "720p": "480x854"}),
        ((720, 720), {"360p": "360x360", "720p": "720x720"}),
        ((900, 900), {"360p": "360x360", "720p": "720x720"}),
    ],
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_no_quality_is_larger_than_the_film(size: tuple[int, int], expected: dict[str, str], tmp_path: Path) -> None:
    source = source_of(shoot(tmp_path / "film.mp4", Film(size=size, times=tuple(range(0, 600, 100)), noise=30)))
    made = run(source, "hls")["hls"].made
    offered = qualities(made[0].path)
    assert {uri.removesuffix(".m3u8"): quality["RESOLUTION"] for uri, quality in offered.items()} == expected
    assert all(quality["CODECS"].count(",") == 0 for quality in offered.values()), "there is no sound to name"


def test_what_compressed_has_made_is_not_encoded_again(tmp_path: Path) -> None:
    film = Film(times=tuple(range(0, 1000, 40)))
    source, other = (source_of(shoot(tmp_path / f"{name}.mp4", film)) for name in ("film", "other"))
    folder = tmp_path / "made"
    run(source, "compressed", folder=folder)
    compressed = (folder / "compressed.mp4").read_bytes()
    made = run(other, "hls", folder=folder)["hls"].made
    assert (folder / "compressed.mp4").read_bytes() == compressed
    payload = compressed[compressed.index(b"mdat") + 4 :]
    assert payload in made[2].path.read_bytes()


def test_a_quality_that_is_larger_than_the_film_is_left_out(tmp_path: Path) -> None:
    film = Film(size=(640, 480), times=tuple(range(0, 1000, 100)), noise=30)
    source = source_of(shoot(tmp_path / "film.mp4", film))
    whole = run(source, "hls", folder=tmp_path / "whole")["hls"].made
    assert names(whole) == ["hls", "hls/360p.m3u8", "hls/360p.mp4", "hls/720p.m3u8", "hls/720p.mp4"]
    low, high = whole[2].path.stat().st_size, whole[4].path.stat().st_size
    assert low < high
    part = run(replace(source, size=high - 1), "hls", folder=tmp_path / "part")["hls"].made
    assert names(part) == ["hls", "hls/360p.m3u8", "hls/360p.mp4"]
    assert "720p" not in part[0].path.read_text()


def test_a_film_that_is_smaller_than_any_quality_of_it_gets_no_stream(tmp_path: Path) -> None:
    source = source_of(shoot(tmp_path / "film.mp4", Film(size=(16, 16), times=(0,), noise=0)))
    with pytest.raises(Unprocessable) as error:
        run(source, "hls")
    assert error.value.code == "larger-than-original"


def test_where_nothing_moves_segments_last_no_longer(tmp_path: Path) -> None:
    sound = Sound(encoder="pcm_s16le", rate=16000, channels=1, end=13)
    still = Film(suffix=".mkv", muxer="matroska", size=(64, 48), times=(0, 40, 80), sounds=(sound,))
    result = run(source_of(shoot(tmp_path / "film.mkv", still)), "hls")["hls"]
    assert [part.seconds for part in segments(result.made[1].path)] == [4, 4, 4, pytest.approx(1, abs=0.25)]
