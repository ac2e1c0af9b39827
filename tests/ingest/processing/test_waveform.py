"""How loud a recording is, in numbers and as a picture."""

import random
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ingest.processing import waveform
from tests.ingest.processing.recordings import frames

RATE = 8000  # samples per second: the one that peaks are taken at, so that nothing is filtered on the way
FULL_SCALE = 32767
LOUDNESS = st.integers(min_value=0, max_value=FULL_SCALE)


def square_wave(amplitudes: Sequence[int], *, length: int = 800) -> "array[int]":
    """Give each amplitude ``length`` samples, by turns above and below zero."""
    return array("h", (sign * level for level in amplitudes for sign in (1, -1) * (length // 2)))


def peaks(samples: "array[int]", channels: int = 1) -> list[int]:
    return waveform.peaks(frames(samples, RATE, channels))


def bars(image: Image.Image) -> list[int]:
    """Return the heights of the bars of a picture, from left to right, in pixels."""
    opacity = image.convert("RGBA").getchannel("A")
    columns = [opacity.crop((x, 0, x + 1, image.height)) for x in range(image.width)]
    heights = [image.height - 2 * box[1] if (box := column.getbbox()) else 0 for column in columns]
    return [height for height, before in zip(heights, [0, *heights], strict=False) if height and not before]


def test_each_part_is_measured_against_the_loudest() -> None:
    amplitudes = [level * FULL_SCALE // 128 for level in range(1, 65)]
    assert peaks(square_wave(amplitudes)) == [round(100 * level / amplitudes[-1]) for level in amplitudes]


def test_a_quiet_recording_fills_the_picture_too() -> None:
    assert peaks(square_wave([200])) == 64 * [100]


@pytest.mark.parametrize("amplitude", [0, 1, 32], ids=["digital silence", "rounding noise", "-60 dBFS"])
def test_silence_is_flat(amplitude: int) -> None:
    assert peaks(square_wave([amplitude], length=RATE)) == 64 * [0]


def test_a_single_spike_is_not_averaged_away() -> None:
    samples = square_wave([100], length=RATE)
    samples[RATE // 2] = -FULL_SCALE
    shown = peaks(samples)
    assert shown[32] == 100
    assert sum(shown) == 100


@pytest.mark.parametrize("length", [2, 80, 800, 5000], ids=lambda length: f"{length} samples")
def test_a_recording_shorter_than_its_bars_has_them_all(length: int) -> None:
    assert peaks(square_wave([1000], length=length)) == 64 * [100]


def test_two_channels_count_as_one() -> None:
    samples = square_wave([100, 1000, 10000, 1000])
    assert peaks(samples, channels=2) == peaks(samples)


@settings(deadline=None)
@given(st.lists(LOUDNESS, min_size=1, max_size=100))
def test_numbers_are_hundredths_of_the_loudest(amplitudes: list[int]) -> None:
    shown = peaks(square_wave(amplitudes, length=80))
    assert len(shown) == 64
    assert all(0 <= peak <= 100 for peak in shown)
    assert max(shown) in {0, 100}


def test_the_picture_has_a_bar_for_each_number() -> None:
    heights = [random.Random(place).randrange(101) for place in range(64)]
    drawn = bars(waveform.picture(heights))
    assert drawn == [max(6, 2 * (48 * height // 100)) for height in heights]


def test_the_loudest_bar_reaches_from_edge_to_edge_and_silence_is_dots() -> None:
    assert bars(waveform.picture(64 * [100])) == 64 * [96]
    assert bars(waveform.picture(64 * [0])) == 64 * [6]


def test_the_picture_is_small_and_grey_on_nothing(tmp_path: Path) -> None:
    path = tmp_path / "waveform.png"
    waveform.picture([place * 100 // 63 for place in range(64)]).save(path, optimize=True, bits=1)
    with Image.open(path) as image:
        shown = image.convert("RGBA")
    assert path.stat().st_size < 1000
    assert len(shown.getcolors() or ()) == 2
    assert shown.getchannel("A").getextrema() == (0, 255)
