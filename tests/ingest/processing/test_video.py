"""What a chat gets of a film, whatever camera or program it comes from."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
from PIL import Image

from ingest.processing.steps import Ceilings
from ingest.processing.video import steps
from tests.ingest.processing.films import (
    BLUE,
    GREEN,
    QUARTERS,
    RED,
    SECRET,
    WHITE,
    Film,
    Sound,
    corners,
    loudness,
    pictures,
    quarters_of,
    run,
    shoot,
    source_of,
)

AMR = Sound(encoder="libopencore_amrnb", rate=8000, channels=1)
OPUS = Sound(encoder="libopus", rate=48000)
FILMS = {
    "iPhone": (Film(suffix=".mov", muxer="mov", sounds=(Sound(),)), "h264", "aac"),
    "3GP with AMR": (
        Film(suffix=".3gp", muxer="3gp", encoder="mpeg4", size=(176, 144), sounds=(AMR,)),
        "mpeg4",
        "amr_nb",
    ),
    "Motion JPEG": (
        Film(
            suffix=".avi", muxer="avi", encoder="mjpeg", pixel_format="yuvj420p", sounds=(Sound(encoder="pcm_s16le"),)
        ),
        "mjpeg",
        "pcm_s16le",
    ),
    "AVI": (Film(suffix=".avi", muxer="avi", encoder="mpeg4", sounds=(Sound(encoder="libmp3lame"),)), "mpeg4", "mp3"),
    "HEVC": (Film(encoder="libx265", sounds=(Sound(),)), "hevc", "aac"),
    "WebM": (Film(suffix=".webm", muxer="webm", encoder="libvpx-vp9", sounds=(OPUS,)), "vp9", "opus"),
    "Matroska": (Film(suffix=".mkv", muxer="matroska", sounds=(OPUS,)), "h264", "opus"),
    "MPEG-TS": (Film(suffix=".ts", muxer="mpegts", sounds=(Sound(),)), "h264", "aac"),
    "10 bits": (Film(pixel_format="yuv420p10le", sounds=(Sound(channels=1),)), "h264", "aac"),
    "screen recording": (
        Film(suffix=".mkv", muxer="matroska", encoder="ffv1", pixel_format="bgr0", sounds=(OPUS,)),
        "ffv1",
        "opus",
    ),
    "4:4:4": (Film(pixel_format="yuv444p", sounds=(Sound(),)), "h264", "aac"),
}

ONE = 1 << 16
DISPLAY_MATRICES = {  # what each of them does to the quarters, by ISO/IEC 14496-12 §8.3.2
    "upright": ((ONE, 0, 0, 0, ONE, 0), [RED, GREEN, BLUE, WHITE]),
    "90 degrees clockwise": ((0, ONE, 0, -ONE, 0, 0), [BLUE, RED, WHITE, GREEN]),
    "upside down": ((-ONE, 0, 0, 0, -ONE, 0), [WHITE, BLUE, GREEN, RED]),
    "90 degrees anticlockwise": ((0, -ONE, 0, ONE, 0, 0), [GREEN, WHITE, RED, BLUE]),
    "mirrored": ((-ONE, 0, 0, 0, ONE, 0), [GREEN, RED, WHITE, BLUE]),
    "mirrored upside down": ((ONE, 0, 0, 0, -ONE, 0), [BLUE, WHITE, RED, GREEN]),
    "transposed": ((0, ONE, 0, ONE, 0, 0), [RED, BLUE, GREEN, WHITE]),
    "transposed the other way": ((0, -ONE, 0, -ONE, 0, 0), [WHITE, GREEN, BLUE, RED]),
}

SHORT = tuple(range(0, 200, 40))


def test_the_steps_are_offered_in_the_order_in_which_a_chat_needs_them(tmp_path: Path) -> None:
    film = shoot(tmp_path / "film.mp4", Film(times=SHORT))
    offered = steps(source_of(film), Ceilings())
    assert [(step.name, step.makes) for step in offered] == [
        ("facts", ()),
        ("squares", ("small", "thumbnail", "medium", "large")),
        ("preview", ("preview",)),
        ("compressed", ("compressed",)),
        ("hls", ("hls",)),
    ]


@pytest.mark.parametrize(("film", "codec", "audio_codec"), FILMS.values(), ids=FILMS)
def test_every_camera_s_film_becomes_one_that_every_phone_plays(
    film: Film, codec: str, audio_codec: str, tmp_path: Path
) -> None:
    source = source_of(shoot(tmp_path / f"film{film.suffix}", film))
    results = run(source, "facts", "compressed")

    facts = results["facts"].facts
    assert (facts["codec"], facts["audio_codec"]) == (codec, audio_codec)
    assert (facts["width"], facts["height"]) == film.size
    assert facts["duration"] == pytest.approx(2, abs=0.1)
    assert facts["bitrate"] == pytest.approx(8 * source.size / 2, rel=0.1)

    (made,) = results["compressed"].made
    assert (made.name, made.content_type) == ("compressed", "video/mp4")
    with av.open(str(made.path)) as container:
        assert {stream.codec_context.name for stream in container.streams} == {"h264", "aac"}
        assert container.streams.video[0].pix_fmt == "yuv420p"
        assert container.streams.audio[0].channels == film.sounds[0].channels
        assert (container.duration or 0) / av.time_base == pytest.approx(2, abs=0.1)
    shown = pictures(made.path)
    assert len(shown) == len(film.times)
    assert quarters_of(shown[-1]) == list(QUARTERS)
    assert loudness(made.path, 0.1, 1.9) == pytest.approx(12000 * 2 / 3.1416 / 32768, rel=0.25)  # AMR is none too exact


def test_renditions_can_be_played_before_they_have_arrived_whole(tmp_path: Path) -> None:
    results = run(source_of(shoot(tmp_path / "film.mp4", Film(times=SHORT))), "preview", "compressed")
    for result in results.values():
        content = result.made[0].path.read_bytes()
        assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_renditions_say_nothing_of_where_and_by_whom_a_film_was_made(tmp_path: Path) -> None:
    film = shoot(tmp_path / "film.mp4", Film(times=SHORT, muxer_options={"movflags": "use_metadata_tags"}))
    assert SECRET.encode() in film.read_bytes()
    for result in run(source_of(film)).values():
        for made in result.made:
            content = made.path.read_bytes()
            assert SECRET.encode() not in content
            assert b"Secret title" not in content


@pytest.mark.parametrize(("matrix", "quarters"), DISPLAY_MATRICES.values(), ids=DISPLAY_MATRICES)
def test_a_film_is_upright_however_the_phone_was_held(
    matrix: tuple[int, ...], quarters: list[tuple[int, int, int]], tmp_path: Path
) -> None:
    turned = Film(times=SHORT, matrix=(*matrix, 0, 0, 1 << 30))
    results = run(source_of(shoot(tmp_path / "film.mp4", turned)))

    size = turned.size[::-1] if matrix[0] == 0 else turned.size
    assert (results["facts"].facts["width"], results["facts"].facts["height"]) == size
    for name in ("preview", "compressed"):
        frame = pictures(results[name].made[0].path)[0]
        assert (frame.width, frame.height, frame.rotation) == (*size, 0)
        assert quarters_of(frame) == quarters
    for made in results["squares"].made:
        with Image.open(made.path) as square:
            assert corners(square) == quarters


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1920, 1080), (1280, 720)),
        ((1080, 1920), (720, 1280)),
        ((1280, 720), (1280, 720)),
        ((960, 720), (960, 720)),
        ((854, 480), (854, 480)),
        ((722, 1282), (720, 1278)),
        ((16, 2000), (16, 2000)),
        ((2, 2), (2, 2)),
        ((4000, 16), (2880, 10)),
    ],
    ids=lambda size: "x".join(map(str, size)),
)
def test_the_short_side_is_720_pixels_at_most(size: tuple[int, int], expected: tuple[int, int], tmp_path: Path) -> None:
    (made,) = run(source_of(shoot(tmp_path / "film.mp4", Film(size=size, times=(0, 40)))), "compressed")[
        "compressed"
    ].made
    frame = pictures(made.path)[0]
    assert (frame.width, frame.height) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [((321, 241), (320, 240)), ((321, 240), (320, 240)), ((1, 1), (2, 2)), ((17, 99), (16, 98))],
    ids=lambda size: "x".join(map(str, size)),
)
def test_odd_sizes_become_even(size: tuple[int, int], expected: tuple[int, int], tmp_path: Path) -> None:
    odd = Film(suffix=".mkv", muxer="matroska", encoder="ffv1", size=size, times=(0, 40), pixel_format="yuv444p")
    results = run(source_of(shoot(tmp_path / "film.mkv", odd)), "facts", "compressed")
    frame = pictures(results["compressed"].made[0].path)[0]
    assert (results["facts"].facts["width"], results["facts"].facts["height"]) == size
    assert (frame.width, frame.height) == expected


def test_pixels_that_are_not_square_become_so(tmp_path: Path) -> None:
    anamorphic = shoot(tmp_path / "film.mp4", Film(size=(180, 240), times=SHORT, pixel_ratio=Fraction(16, 9)))
    results = run(source_of(anamorphic), "facts", "compressed")
    frame = pictures(results["compressed"].made[0].path)[0]
    assert (results["facts"].facts["width"], results["facts"].facts["height"]) == (320, 240)
    assert (frame.width, frame.height) == (320, 240)


@pytest.mark.parametrize(
    ("changes", "last", "expected"),
    [((1000,), 2000, BLUE), ((1040,), 2000, RED), ((500,), 800, BLUE), ((), 40, RED)],
    ids=["what begins at one second", "what begins after it", "the last of a shorter film", "the only one"],
)
def test_a_film_is_represented_by_what_it_shows_at_one_second(
    changes: tuple[int, ...], last: int, expected: tuple[int, int, int], tmp_path: Path
) -> None:
    film = Film(
        times=tuple(range(0, last, 40)),
        colours=lambda time: [BLUE if changes and time >= changes[0] else RED] * 4,
    )
    result = run(source_of(shoot(tmp_path / "film.mp4", film)), "squares")["squares"]
    sizes = {"small": 100, "thumbnail": 150, "medium": 400, "large": 800}
    assert {made.name: made.content_type for made in result.made} == dict.fromkeys(sizes, "image/jpeg")
    for made in result.made:
        with Image.open(made.path) as square:
            assert square.size == (sizes[made.name],) * 2
            assert corners(square) == [expected] * 4
    assert result.facts.keys() == {"lqip", "blurhash", "dominant_color"}


def test_the_preview_is_the_first_five_seconds_small_and_silent(tmp_path: Path) -> None:
    film = Film(size=(960, 540), times=tuple(range(0, 6000, 200)), sounds=(Sound(),))
    (made,) = run(source_of(shoot(tmp_path / "film.mp4", film)), "preview")["preview"].made
    assert (made.name, made.content_type) == ("preview", "video/mp4")
    shown = pictures(made.path)
    assert [round(frame.time, 3) for frame in shown] == [time / 1000 for time in range(0, 5000, 200)]
    assert (shown[0].width, shown[0].height) == (640, 360)
    with av.open(str(made.path)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_pictures_keep_the_times_that_a_phone_gave_them(tmp_path: Path) -> None:
    uneven = (0, 33, 66, 70, 150, 400, 433, 600, 650, 850, 1000, 1016, 1033)
    film = shoot(tmp_path / "film.mp4", Film(times=uneven))
    (made,) = run(source_of(film), "compressed")["compressed"].made
    kept = [round(frame.time * 1000) for frame in pictures(made.path)]
    assert kept == [time for time in uneven if time != 70]  # too soon after the one before it


def test_slow_motion_is_shown_at_no_more_than_75_pictures_a_second(tmp_path: Path) -> None:
    film = shoot(tmp_path / "film.mp4", Film(size=(64, 48), times=tuple(range(0, 1000, 4))))
    (made,) = run(source_of(film), "compressed")["compressed"].made
    times = [frame.time for frame in pictures(made.path)]
    assert len(times) == pytest.approx(63, abs=1)
    assert times[-1] == pytest.approx(0.996, abs=0.02)


def test_sound_that_begins_late_stays_with_its_pictures(tmp_path: Path) -> None:
    film = Film(suffix=".mkv", muxer="matroska", sounds=(Sound(encoder="pcm_s16le", begin=0.8),))
    (made,) = run(source_of(shoot(tmp_path / "film.mkv", film)), "compressed")["compressed"].made
    assert loudness(made.path, 0, 0.75) < 0.01
    assert loudness(made.path, 0.85, 1.9) > 0.2


def test_pictures_that_begin_late_are_shown_from_the_beginning(tmp_path: Path) -> None:
    film = Film(times=tuple(range(600, 2000, 40)), sounds=(Sound(),))
    (made,) = run(source_of(shoot(tmp_path / "film.mp4", film)), "compressed")["compressed"].made
    assert [round(frame.time, 3) for frame in pictures(made.path)[:5]] == [0, 0.25, 0.5, 0.64, 0.68]
    assert loudness(made.path, 0.05, 0.5) > 0.2


def test_the_last_picture_stays_until_the_sound_ends(tmp_path: Path) -> None:
    film = shoot(tmp_path / "film.mp4", Film(times=SHORT, sounds=(Sound(end=5.5),)))
    results = run(source_of(film), "facts", "compressed")
    (made,) = results["compressed"].made
    assert results["facts"].facts["duration"] == pytest.approx(5.5, abs=0.1)
    times = [frame.time for frame in pictures(made.path)]
    assert times[:6] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.41])
    assert times[-1] == pytest.approx(5.4, abs=0.15)
    assert loudness(made.path, 5.0, 5.4) > 0.2


def test_a_film_without_sound_has_none_afterwards(tmp_path: Path) -> None:
    results = run(source_of(shoot(tmp_path / "film.mp4", Film(times=SHORT))), "facts", "compressed")
    assert "audio_codec" not in results["facts"].facts
    with av.open(str(results["compressed"].made[0].path)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_of_two_sounds_the_default_one_is_heard(tmp_path: Path) -> None:
    other = Sound(encoder="pcm_s16le", end=0.5, default=False)
    film = Film(suffix=".mkv", muxer="matroska", sounds=(other, Sound(encoder="pcm_s16le", channels=1)))
    (made,) = run(source_of(shoot(tmp_path / "film.mkv", film)), "compressed")["compressed"].made
    with av.open(str(made.path)) as container:
        assert [stream.channels for stream in container.streams.audio] == [1]
    assert loudness(made.path, 0.6, 1.9) > 0.2


def test_cover_art_beside_a_film_is_passed_over(tmp_path: Path) -> None:
    film = shoot(tmp_path / "film.mp4", Film(times=SHORT, cover=True))
    results = run(source_of(film), "facts", "squares")
    assert results["facts"].facts["codec"] == "h264"
    with Image.open(results["squares"].made[0].path) as square:
        assert corners(square) == list(QUARTERS)


def test_an_index_at_the_end_makes_no_difference(tmp_path: Path) -> None:
    first = shoot(tmp_path / "first.mp4", Film(muxer_options={"movflags": "faststart"}))
    last = shoot(tmp_path / "last.mp4", Film())
    assert first.read_bytes().index(b"moov") < first.read_bytes().index(b"mdat")
    assert last.read_bytes().index(b"moov") > last.read_bytes().index(b"mdat")
    one, other = (run(source_of(path), "compressed")["compressed"].made[0].path for path in (first, last))
    assert [frame.time for frame in pictures(one)] == [frame.time for frame in pictures(other)]


def test_pictures_that_are_hard_to_code_get_no_more_bits_than_they_had(tmp_path: Path) -> None:
    times = tuple(range(0, 4000, 40))
    noisy = shoot(tmp_path / "film.mp4", Film(encoder="mpeg4", noise=60, bit_rate=100_000, times=times))
    source = source_of(noisy)
    (made,) = run(source, "compressed")["compressed"].made
    assert made.path.stat().st_size <= source.size


def test_video_of_the_full_range_of_a_jpeg_gets_the_range_of_video(tmp_path: Path) -> None:
    film = Film(
        suffix=".avi",
        muxer="avi",
        encoder="mjpeg",
        pixel_format="yuvj420p",
        colours=lambda time: [(255,) * 3] * 4,
        noise=0,
    )
    (made,) = run(source_of(shoot(tmp_path / "film.avi", film)), "compressed")["compressed"].made
    frame = pictures(made.path)[0]
    assert max(bytes(frame.planes[0])) == pytest.approx(235, abs=2)  # ITU-R BT.709: white
