"""Films that are damaged, lie, or were never films: each costs what it must, and nothing else."""

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from struct import pack

import av
import pytest

from ingest.processing.steps import Ceilings, Unprocessable
from ingest.processing.video import steps
from tests.ingest.processing.films import QUARTERS, Film, Sound, loudness, pictures, quarters_of, run, shoot, source_of

TEN_HOURS = 36_000  # seconds
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
NO_FILMS = {
    "nothing": b"",
    "one byte": b"\0",
    "HTML": b"<!DOCTYPE html><script>alert(1)</script>" * 50,
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>',
    "an empty box": b"\0\0\0\x18ftypisom\0\0\2\0isommp41",
    "a box beyond the end": b"\0\0\0\x18ftypisom\0\0\2\0isommp41\xff\xff\xff\xffmoov",
    "zeros": bytes(100_000),
}


def code_of(path: Path, *names: str, ceilings: Ceilings | None = None) -> str:
    """Return why a film is refused."""
    with pytest.raises(Unprocessable) as error:
        run(source_of(path), *names, ceilings=ceilings)
    return error.value.code


def lying(content: bytes, *, box: bytes, offset: int, claim: int) -> bytes:
    """Change a number of 32 bits in a box of an MP4, each time that the box is there."""
    parts = content.split(box)
    return box.join([parts[0], *(part[:offset] + pack(">I", claim) + part[offset + 4 :] for part in parts[1:])])


def claiming(content: bytes, milliseconds: int) -> bytes:
    """Let an MP4 whose time scales are 1000 claim to last so long (ISO/IEC 14496-12 §8.2.2, 8.3.2, 8.4.2)."""
    for box, offset in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20)):
        content = lying(content, box=box, offset=offset, claim=milliseconds)
    return content


def scaled(**options: str) -> Film:
    """Return a film whose MP4 counts milliseconds."""
    return Film(encoder="mpeg4", muxer_options={"movie_timescale": "1000", "video_track_timescale": "1000", **options})


def claiming_in_matroska(path: Path, seconds: float = TEN_HOURS) -> None:
    content = shoot(path, Film(muxer="matroska")).read_bytes()
    begin = content.index(b"\x44\x89\x88") + 3  # RFC 9559 §5.1.2.10: Duration, a float of 8 bytes
    path.write_bytes(content[:begin] + pack(">d", seconds * 1000) + content[begin + 8 :])


def claiming_in_the_sample_table(path: Path) -> None:
    """Let each of the 50 pictures stay for a fiftieth of ten hours (ISO/IEC 14496-12 §8.6.1.2)."""
    content = claiming(shoot(path, scaled(use_editlist="0")).read_bytes(), TEN_HOURS * 1000)
    path.write_bytes(lying(content, box=b"stts", offset=12, claim=TEN_HOURS * 1000 // 50))


@pytest.mark.parametrize("content", NO_FILMS.values(), ids=NO_FILMS)
def test_what_is_no_film_is_undecodable(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    assert code_of(path) == "undecodable"


@pytest.mark.parametrize("template", [PLAYLIST, "ffconcat version 1.0\nfile '{}'\n"], ids=["HLS", "concat"])
def test_a_playlist_cannot_make_us_read_other_files(template: str, tmp_path: Path) -> None:
    other = shoot(tmp_path / "other.ts", Film(muxer="mpegts", times=(0, 40)))
    path = tmp_path / "film.mp4"
    path.write_text(template.format(other))
    assert code_of(path) == "undecodable"


def test_sound_under_the_type_of_a_film_has_no_video(tmp_path: Path) -> None:
    assert code_of(shoot(tmp_path / "sound.mp4", Film(times=(), sounds=(Sound(),)))) == "no-video"


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    assert code_of(shoot(tmp_path / "sound.mp4", Film(times=(), sounds=(Sound(),), cover=True))) == "no-video"


def test_pictures_above_the_ceiling_are_refused_by_the_header(tmp_path: Path) -> None:
    film = source_of(shoot(tmp_path / "film.mp4", Film(times=(0, 40))))
    with pytest.raises(Unprocessable) as error:
        steps(film, Ceilings(pixels=160 * 120 - 1))
    assert error.value.code == "too-many-pixels"


@pytest.mark.parametrize("name", ["facts", "squares", "preview", "compressed", "hls"])
def test_pictures_above_the_ceiling_are_refused_whatever_the_header_says(name: str, tmp_path: Path) -> None:
    small, large = (
        shoot(tmp_path / f"{side}.ts", Film(muxer="mpegts", size=(side, side), times=tuple(range(0, 1000, 40))))
        for side in (64, 640)
    )
    film = tmp_path / "film.ts"
    film.write_bytes(small.read_bytes() + large.read_bytes())
    result = run(source_of(film), name, ceilings=Ceilings(pixels=100 * 100))[name]
    for made in result.made:
        if made.name in {"preview", "compressed"}:
            assert {(frame.width, len(pictures(made.path))) for frame in pictures(made.path)} == {(64, 25)}


def test_too_many_streams_are_refused(tmp_path: Path) -> None:
    sounds = (Sound(encoder="pcm_s16le", rate=8000, channels=1, end=0.1),) * 40
    assert code_of(shoot(tmp_path / "film.mkv", Film(muxer="matroska", times=(0, 40), sounds=sounds))) == (
        "too-many-streams"
    )


@pytest.mark.parametrize("name", ["compressed", "hls"])
@pytest.mark.parametrize("claim", [claiming_in_matroska, claiming_in_the_sample_table], ids=["Matroska", "MP4"])
def test_a_header_that_claims_ten_hours_is_believed_before_anything_is_decoded(
    claim: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    path = tmp_path / "film"
    claim(path)
    assert code_of(path, name) == "too-long"
    cheap = run(source_of(path), "squares", "preview")
    assert len(cheap["squares"].made) == 4
    assert len(pictures(cheap["preview"].made[0].path)) >= 1


def test_the_duration_is_what_is_there_rather_than_what_a_header_claims(tmp_path: Path) -> None:
    path = tmp_path / "film"
    claiming_in_matroska(path)
    assert run(source_of(path), "facts")["facts"].facts["duration"] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("name", ["compressed", "hls"])
@pytest.mark.parametrize("muxer", ["mp4", "matroska"])
def test_a_header_that_claims_less_than_there_is_does_not_pass_the_ceiling(
    muxer: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "film"
    if muxer == "mp4":
        path.write_bytes(claiming(shoot(path, scaled(use_editlist="0")).read_bytes(), 100))
    else:
        claiming_in_matroska(path, 0.1)
    assert code_of(path, name, ceilings=Ceilings(seconds=1)) == "too-long"


def test_a_header_that_says_nothing_of_the_duration_does_not_pass_the_ceiling(tmp_path: Path) -> None:
    live = Film(muxer="matroska", muxer_options={"live": "1"}, sounds=(Sound(encoder="libopus", rate=48000),))
    path = shoot(tmp_path / "film.mkv", live)
    assert run(source_of(path), "facts")["facts"].facts["duration"] == pytest.approx(2, abs=0.1)
    assert code_of(path, "compressed", ceilings=Ceilings(seconds=1)) == "too-long"


@pytest.mark.parametrize("part", [0.3, 0.8])
@pytest.mark.parametrize("muxer", ["mp4", "matroska", "mpegts", "avi"])
def test_of_a_film_that_was_cut_off_there_is_what_had_come(muxer: str, part: float, tmp_path: Path) -> None:
    sound = Sound(encoder="libmp3lame") if muxer == "avi" else Sound()
    options = {"movflags": "faststart"} if muxer == "mp4" else {}
    whole = Film(
        muxer=muxer,
        encoder="mpeg4",
        size=(160, 120),
        bit_rate=900_000,
        noise=40,
        sounds=(sound,),
        muxer_options=options,
    )
    path = shoot(tmp_path / f"film.{muxer}", whole)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    results = run(source_of(path), "facts", "compressed")
    shown = pictures(results["compressed"].made[0].path)
    assert len(shown) == pytest.approx(50 * part, abs=6)
    assert quarters_of(shown[0]) == list(QUARTERS)
    assert results["facts"].facts["duration"] == pytest.approx(2 * part, abs=0.3)


def test_a_film_that_was_cut_off_before_its_index_is_undecodable(tmp_path: Path) -> None:
    path = shoot(tmp_path / "film.mp4", Film())
    path.write_bytes(path.read_bytes()[:-200])
    assert code_of(path) == "undecodable"


@pytest.mark.parametrize("muxer", ["mp4", "matroska", "avi", "mpegts"])
@pytest.mark.parametrize("seed", range(0, 6, 2))
def test_flipped_bits_cost_a_picture_a_step_or_a_film_but_no_more(seed: int, muxer: str, tmp_path: Path) -> None:
    path = shoot(
        tmp_path / f"film.{muxer}",
        Film(
            muxer=muxer,
            encoder="mpeg4",
            size=(64, 48),
            times=tuple(range(0, 400, 40)),
            sounds=(Sound(encoder="libmp3lame", end=0.4),),
        ),
    )
    content, chance = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(4 ** (seed // 2 + 1)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    with suppress(Unprocessable):
        for step in steps(source_of(path), Ceilings()):
            with suppress(Unprocessable, av.error.FFmpegError):
                folder = tmp_path / step.name
                folder.mkdir()
                assert all(made.path.stat().st_size for made in step.run(folder).made)


def test_sound_in_a_format_that_nobody_knows_leaves_a_silent_film(tmp_path: Path) -> None:
    path = shoot(tmp_path / "film.mkv", Film(muxer="matroska", times=(0, 40), sounds=(Sound(encoder="aac"),)))
    path.write_bytes(path.read_bytes().replace(b"A_AAC", b"A_WHO"))
    results = run(source_of(path), "facts", "compressed")
    assert "audio_codec" not in results["facts"].facts
    with av.open(str(results["compressed"].made[0].path)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_pictures_in_a_format_that_nobody_knows_are_undecodable(tmp_path: Path) -> None:
    path = shoot(tmp_path / "film.mkv", Film(muxer="matroska", times=(0, 40)))
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/WHO"))
    assert code_of(path) == "undecodable"


def test_sound_that_cannot_be_decoded_leaves_a_silent_film(tmp_path: Path) -> None:
    path = shoot(tmp_path / "film.mkv", Film(muxer="matroska", sounds=(Sound(encoder="aac"),)))
    with av.open(str(path)) as container:
        spans = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.pos is not None]
    content = bytearray(path.read_bytes())
    for begin, size in spans:
        content[begin + 8 : begin + size] = b"\xff" * max(0, size - 8)
    path.write_bytes(content)
    (made,) = run(source_of(path), "compressed")["compressed"].made
    assert len(pictures(made.path)) == 50


def test_a_film_that_changes_its_size_keeps_the_first_one(tmp_path: Path) -> None:
    first, second = (
        shoot(
            tmp_path / f"{width}.ts",
            Film(muxer="mpegts", size=(width, 120), times=tuple(range(begin, begin + 1000, 40))),
        )
        for width, begin in ((160, 0), (240, 1000))
    )
    film = tmp_path / "film.ts"
    film.write_bytes(first.read_bytes() + second.read_bytes())
    (made,) = run(source_of(film), "compressed")["compressed"].made
    shown = pictures(made.path)
    assert {(frame.width, frame.height) for frame in shown} == {(160, 120)}
    assert len(shown) > 40
    assert quarters_of(shown[-1]) == list(QUARTERS)


def test_a_film_that_changes_its_sound_stays_audible(tmp_path: Path) -> None:
    first, second = (
        shoot(
            tmp_path / f"{rate}.ts", Film(muxer="mpegts", times=tuple(range(begin, begin + 1000, 40)), sounds=(sound,))
        )
        for rate, begin, sound in (
            (44100, 0, Sound(end=1)),
            (22050, 1000, Sound(rate=22050, channels=1, begin=1, end=2)),
        )
    )
    film = tmp_path / "film.ts"
    film.write_bytes(first.read_bytes() + second.read_bytes())
    (made,) = run(source_of(film), "compressed")["compressed"].made
    assert loudness(made.path, 0.1, 0.9) > 0.2
    assert loudness(made.path, 1.2, 1.8) > 0.15


def test_tags_in_no_known_encoding_do_no_harm(tmp_path: Path) -> None:
    path = shoot(tmp_path / "film.mp4", Film(times=(0, 40)))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"Secret title", b"\xff\xfe\x80\xc3(\xa0\xa1\xf0\x28\x8c\xbc\xe9"))
    assert path.read_bytes() != content
    assert run(source_of(path), "facts")["facts"].facts["codec"] == "h264"


def test_a_name_is_never_taken_for_an_address(tmp_path: Path) -> None:
    path = shoot(tmp_path / "film.mp4", Film(times=(0, 40))).rename(tmp_path / "http:film.mp4")
    assert run(source_of(path), "facts")["facts"].facts["codec"] == "h264"
