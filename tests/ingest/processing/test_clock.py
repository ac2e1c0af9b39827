"""The times of frames, whatever times a stranger's file gives them."""

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain, pairwise

import pytest
from av.audio.frame import AudioFrame
from av.video.frame import PictureType, VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from ingest.processing.clock import SEGMENT_SECONDS, timed
from ingest.processing.frames import TIME_BASE
from ingest.processing.steps import Unprocessable

MICROSECOND = Fraction(1, 1_000_000)
STAMPS = st.none() | st.integers(-3_000_000, 30_000_000)


def picture(time: int | None) -> VideoFrame:
    frame = VideoFrame(16, 16, "gray")
    frame.pts, frame.time_base = time, MICROSECOND
    return frame


def sound(time: int | None, *, samples: int = 800) -> AudioFrame:
    frame = AudioFrame("s16", "mono", samples)
    frame.rate, frame.pts, frame.time_base = 8000, time, MICROSECOND
    return frame


def seconds_and_keys(frames: Iterable[VideoFrame | AudioFrame], ceiling: float = 60) -> list[tuple[float, bool]]:
    return [
        (float((frame.pts or 0) * TIME_BASE), frame.pict_type == PictureType.I)
        for frame in timed(frames, start=Fraction(0), ceiling=ceiling)
        if isinstance(frame, VideoFrame)
    ]


@given(st.lists(STAMPS, min_size=1, max_size=60), st.lists(STAMPS, max_size=10))
def test_a_stream_can_be_cut_about_every_four_seconds(pictures: list[int | None], sounds: list[int | None]) -> None:
    shown = seconds_and_keys(chain(map(picture, pictures), map(sound, sounds)))

    times = [time for time, _ in shown]
    assert times[0] == 0
    assert all(0 < later - earlier <= 0.2501 for earlier, later in pairwise(times))
    keys = [time for time, key in shown if key]
    reached = {time // SEGMENT_SECONDS for time in times}
    assert [time // SEGMENT_SECONDS for time in keys] == sorted(reached), "one key in each part of the grid"
    assert all(later - earlier <= SEGMENT_SECONDS + 0.2501 for earlier, later in pairwise([*keys, times[-1]]))


def test_a_key_is_the_first_picture_at_or_after_each_multiple_of_four_seconds() -> None:
    times = [*range(0, 3_990_000, 200_000), 3_990_000, *range(4_010_000, 7_900_000, 200_000), 8_000_000, 8_020_000]
    shown = seconds_and_keys([picture(time) for time in times])
    assert [time for time, key in shown if key] == [0, 4.01, 8.0]


def test_a_picture_that_stays_is_shown_again_four_times_a_second_and_on_the_grid() -> None:
    shown = seconds_and_keys([picture(0), picture(3_900_000), picture(4_700_000), sound(5_000_000)])
    assert shown[:2] + shown[15:] == [
        (0, True),
        (0.25, False),
        (3.75, False),
        (3.9, False),
        (4, True),
        (4.25, False),
        (4.5, False),
        (4.7, False),
        (4.95, False),
    ]


def test_times_count_from_where_the_film_begins() -> None:
    frames = (sound(1_400_000), picture(1_440_000), picture(1_480_000))
    heard, first, second = timed(frames, start=Fraction(14, 10), ceiling=60)
    assert [heard.time, first.time, second.time] == [0, 0, pytest.approx(0.08)]


@pytest.mark.parametrize("late", [picture(60_100_000), sound(60_000_000)], ids=["pictures", "sound"])
def test_what_goes_on_beyond_the_ceiling_is_too_long(late: VideoFrame | AudioFrame) -> None:
    with pytest.raises(Unprocessable) as error:
        seconds_and_keys((picture(0), late))
    assert error.value.code == "too-long"
