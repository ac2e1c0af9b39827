"""Another process's flight, told by its files: this test is that process."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.errors import OriginBusy, OriginFailed, OriginGone
from storage.flight import Flight
from storage.follower import board, conclude, failure_of, follow
from storage.spool import Spools, SpoolState
from tests.storage.flying import NAME, collect, jpeg, open_files, received, sha256

BODY = jpeg(200_000)
OTHER = jpeg(200_000, seed=2)
FLYING = SpoolState(phase="flying", size=len(BODY), sha256=sha256(BODY), content_type="image/jpeg")
SECRETIVE = SpoolState(phase="flying", size=len(BODY))


class Pilot:
    """The other process."""

    def __init__(self, folder: Path) -> None:
        self.spools = Spools(folder)

    def take_off(self, state: SpoolState = FLYING) -> None:
        self.spools.remove(NAME)
        self.spools.data(NAME).touch()
        self.spools.write_state(NAME, state)

    def bring(self, total: int, body: bytes = BODY) -> None:
        with self.spools.data(NAME).open("ab") as file:
            file.write(body[file.tell() : total])

    def land(self, body: bytes = BODY) -> None:
        self.bring(len(body), body)
        self.spools.write_state(NAME, FLYING.settled(size=len(body), sha256=sha256(body)))


@pytest.fixture
def pilot(tmp_path: Path) -> Pilot:
    return Pilot(tmp_path)


@pytest.fixture
async def flight(tmp_path: Path, pilot: Pilot) -> AsyncIterator[Flight]:
    made = Flight(NAME)
    yield made
    assert len(open_files(tmp_path)) <= 1 + 1  # the locks, and the one file that this flight reads
    made.close()
    assert open_files(tmp_path) == ["locks"]
    pilot.spools.close()


async def test_a_follower_reads_as_the_pilot_writes(pilot: Pilot, flight: Flight) -> None:
    assert not await follow(flight, pilot.spools)
    pilot.spools.data(NAME).touch()
    assert not await follow(flight, pilot.spools)
    assert flight.state is None

    pilot.take_off()
    pilot.bring(100_000)
    assert not await follow(flight, pilot.spools)
    assert await collect(flight, 0, 100_000) == BODY[:100_000]

    pilot.bring(len(BODY))
    assert not await follow(flight, pilot.spools)
    assert await collect(flight, 0, len(BODY) - 1) == BODY[:-1]

    pilot.land()
    assert await follow(flight, pilot.spools)
    assert await collect(flight) == BODY


async def test_who_comes_when_all_is_done_has_all_at_once(pilot: Pilot, flight: Flight) -> None:
    pilot.take_off()
    pilot.land()

    assert await board(flight, pilot.spools)

    assert await collect(flight) == BODY


async def test_a_failure_that_lies_there_is_nothing_to_board(pilot: Pilot, flight: Flight) -> None:
    pilot.take_off()
    pilot.spools.fail(NAME, "OriginGone", None)

    assert not await board(flight, pilot.spools)
    assert not await follow(flight, pilot.spools)

    pilot.take_off()
    assert not await follow(flight, pilot.spools)
    assert flight.state == FLYING


async def begun(pilot: Pilot, flight: Flight, total: int, state: SpoolState = FLYING) -> None:
    """Let the pilot bring so many bytes, which its follower has seen."""
    pilot.take_off(state)
    pilot.bring(total)
    await follow(flight, pilot.spools)


async def test_the_pilots_failure_is_the_followers(pilot: Pilot, flight: Flight) -> None:
    await begun(pilot, flight, 100_000)
    pilot.spools.fail(NAME, "OriginBusy", 7.0)

    assert not await follow(flight, pilot.spools)  # the lock tells when it is over
    with pytest.raises(OriginBusy) as failed:
        await conclude(flight, pilot.spools)

    assert failed.value.retry_after == 7.0


async def test_a_pilot_that_landed_between_two_looks_has_landed(pilot: Pilot, flight: Flight) -> None:
    await begun(pilot, flight, 100_000)
    pilot.land()

    await conclude(flight, pilot.spools)

    assert await collect(flight) == BODY


async def test_a_dead_pilot_breaks_its_followers_off(pilot: Pilot, flight: Flight) -> None:
    await begun(pilot, flight, 100_000)

    with pytest.raises(OriginFailed):
        await conclude(flight, pilot.spools)


@pytest.mark.parametrize("landed", [False, True], ids=["flies", "has landed"])
async def test_a_follower_does_not_change_to_the_file_of_the_next_pilot(
    pilot: Pilot, flight: Flight, *, landed: bool
) -> None:
    # The first one died with every byte on disk, and one of them wrong: its last byte must stay where it is.
    wrong = BODY[:-1] + b"?"
    pilot.take_off()
    pilot.bring(len(BODY), wrong)
    await follow(flight, pilot.spools)
    pilot.take_off()
    if landed:
        pilot.land()

    with pytest.raises(OriginFailed):
        await follow(flight, pilot.spools)
    with pytest.raises(OriginFailed):
        await conclude(flight, pilot.spools)

    got = bytearray()
    flight.fail(OriginFailed())
    await received(flight, got)
    assert got == BODY[:-1]


async def test_a_spool_that_was_stored_and_dropped_between_two_looks_is_whole(pilot: Pilot, flight: Flight) -> None:
    await begun(pilot, flight, 100_000)
    pilot.land()
    pilot.spools.remove(NAME)

    assert not await follow(flight, pilot.spools)
    await conclude(flight, pilot.spools)

    assert await collect(flight) == BODY


@pytest.mark.parametrize(
    ("state", "body"),
    [
        pytest.param(FLYING, OTHER, id="another hash than declared"),
        pytest.param(FLYING, BODY[:-1], id="not all of it"),
        pytest.param(SECRETIVE, BODY, id="of an undeclared hash"),
    ],
)
async def test_a_dropped_spool_is_trusted_only_by_its_hash(
    pilot: Pilot, flight: Flight, state: SpoolState, body: bytes
) -> None:
    await begun(pilot, flight, 0, state)
    pilot.bring(len(body), body)
    pilot.spools.remove(NAME)

    with pytest.raises(OriginFailed):
        await conclude(flight, pilot.spools)


async def test_a_follower_reads_on_after_the_spool_was_dropped(pilot: Pilot, flight: Flight) -> None:
    await begun(pilot, flight, 100_000)
    with pilot.spools.data(NAME).open("ab") as file:
        pilot.spools.remove(NAME)
        file.write(BODY[100_000:150_000])
        file.flush()
        os.fsync(file.fileno())

        assert not await follow(flight, pilot.spools)

    assert await collect(flight, 0, 150_000) == BODY[:150_000]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("OriginGone", OriginGone),
        ("OriginBusy", OriginBusy),
        ("StoredMeanwhile", OriginFailed),
        ("MediaError.__init__", OriginFailed),
        ("ClassVar", OriginFailed),
        ("", OriginFailed),
        (None, OriginFailed),
    ],
)
def test_only_known_errors_are_read_from_a_file(error: str | None, kind: type[Exception]) -> None:
    failure = failure_of(SpoolState(phase="failed", error=error, retry_after=3.0))

    assert type(failure) is kind
