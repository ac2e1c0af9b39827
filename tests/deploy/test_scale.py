"""The document about scale says what the model says."""

import pytest

from tests.bench.scale import days
from tests.bench.scale.inputs import HOURS, KINDS, SIZES, Size
from tests.bench.scale.model import ceilings, need
from tests.bench.scale.page import BEGIN, END, about, inserted
from tests.deploy.names import ROOT

DOCUMENT = (ROOT / "docs" / "scale.md").read_text()


_EVEN = tuple((hour, 1 / 24) for hour in range(24))


def test_the_tables_of_the_document_are_those_that_the_program_prints() -> None:
    assert DOCUMENT.count(BEGIN) == DOCUMENT.count(END) == 1
    assert inserted(DOCUMENT) == DOCUMENT  # else: python -m tests.bench.scale --write


def test_the_shares_add_up() -> None:
    assert sum(kind.share for kind in KINDS.values()) == pytest.approx(1)
    assert all(sum(share for _, share in size.zones) == pytest.approx(1) for size in SIZES)
    assert len(HOURS) == 24


@pytest.mark.parametrize("size", SIZES, ids=[size.name for size in SIZES])
def test_an_average_hour_is_one(size: Size) -> None:
    assert sum(days.hours(size)) / 24 == pytest.approx(1)


@pytest.mark.parametrize("size", SIZES, ids=[size.name for size in SIZES])
def test_what_a_size_needs_takes_in_more_than_comes(size: Size) -> None:
    needed = need(size)
    assert needed.capacity > needed.hour
    assert days.backlog(size, 6, needed.capacity).hours < 7 * 24


def test_a_backlog_is_what_came_during_the_outage_and_goes_at_the_pace_that_is_left() -> None:
    size = Size(name="even", media=86_400.0 * 1000, zones=_EVEN, edge=0, memory=0, redirects=False)
    found = days.backlog(size, outage=1, capacity=2 * 1000 * max(days.hours(size)))
    assert found.media == pytest.approx(3600 * 1000 * max(days.hours(size)), rel=0.1)
    assert found.hours == pytest.approx(1, rel=0.15)


def test_ceilings_come_from_the_lowest_to_the_highest() -> None:
    heights = [each.media for each in ceilings(SIZES[0])]
    assert heights == sorted(heights)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (7, "7"),
        (0.0123, "0.012"),
        (1.26, "1.3"),
        (994.0, "990"),
        (999_999, "1 million"),
        (12_345, "12,000"),
        (3.44e6, "3.4 million"),
        (2.96e9, "3 billion"),
        (float("inf"), "never"),
    ],
)
def test_numbers_have_two_digits(number: float, text: str) -> None:
    assert about(number) == text
