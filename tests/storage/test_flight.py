"""Readers of a flight see what has arrived, as it arrives, and never the last byte of what is not verified."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.errors import MediaError, OriginBusy, OriginFailed, OriginGone, OriginTimeout
from storage.flight import Flight, Landed
from storage.spool import SpoolState
from storage.store import CHUNK_SIZE
from tests.running import until
from tests.storage.flying import NAME, collect, jpeg, received, sha256, skip, turns

BODY = jpeg(200_000)
FLYING = SpoolState(phase="flying", size=len(BODY), sha256=sha256(BODY), content_type="image/jpeg")
VERIFIED = FLYING.settled(size=len(BODY), sha256=sha256(BODY))
UNSIZED = SpoolState(phase="flying")


class Pilot:
    """Brings bytes by hand, into the file alone or into memory too."""

    def __init__(self, path: Path, *, mirrored: bool) -> None:
        self.flight = Flight(NAME)
        self.file = self.flight.open(path, os.O_RDWR | os.O_CREAT)
        self.flight.mirror = bytearray() if mirrored else None
        self.size = 0

    def bring(self, total: int) -> None:
        """Let the medium's bytes up to ``total`` arrive."""
        chunk = BODY[self.size : total]
        os.pwrite(self.file, chunk, self.size)
        self.size = total
        self.flight.arrive(total, chunk)


@pytest.fixture(params=["file", "memory"])
async def pilot(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pilot]:
    made = Pilot(tmp_path / "spool.part", mirrored=request.param == "memory")
    yield made
    made.flight.close()


@pytest.mark.parametrize(
    ("state", "arrived", "readable"),
    [
        pytest.param(FLYING, 0, 0, id="nothing arrived"),
        pytest.param(FLYING, 1000, 1000, id="in the middle"),
        pytest.param(FLYING, len(BODY) - 1, len(BODY) - 1, id="all but the last byte"),
        pytest.param(FLYING, len(BODY), len(BODY) - 1, id="all: the last byte is held back"),
        pytest.param(UNSIZED, 1000, 999, id="of unknown size: any byte may be the last"),
        pytest.param(UNSIZED, len(BODY), len(BODY) - 1, id="all of unknown size"),
        pytest.param(VERIFIED, len(BODY), len(BODY), id="verified"),
    ],
)
async def test_so_much_can_be_read(pilot: Pilot, state: SpoolState, arrived: int, readable: int) -> None:
    pilot.flight.begin(state)
    pilot.bring(arrived)
    if state is VERIFIED:
        pilot.flight.settle(state)
    got = bytearray()

    reading = asyncio.create_task(received(pilot.flight, got))
    await until(lambda: len(got) == readable)
    pilot.flight.fail(OriginGone())
    ended = await reading

    assert got == BODY[:readable]
    assert ended is None if state is VERIFIED else isinstance(ended, OriginGone)


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, None),
        (0, 1),
        (CHUNK_SIZE - 1, CHUNK_SIZE + 1),
        (150_000, 150_001),
        (len(BODY) - 1, len(BODY)),
        (len(BODY) - 1, None),
        (len(BODY), None),
    ],
)
@pytest.mark.parametrize("late", [False, True], ids=["early reader", "late reader"])
async def test_a_range_is_its_slice_whenever_its_reader_comes(
    pilot: Pilot, start: int, stop: int | None, *, late: bool
) -> None:
    pilot.flight.begin(FLYING)
    pilot.bring(100_000 if late else 0)
    reading = asyncio.create_task(collect(pilot.flight, start, stop))
    for total in (120_000, 150_001, len(BODY)):
        pilot.bring(total)
        await turns()
    pilot.flight.settle(VERIFIED)

    assert await reading == BODY[start:stop]


async def test_a_stop_past_the_end_is_cut_to_it(pilot: Pilot) -> None:
    pilot.flight.begin(FLYING)
    pilot.bring(len(BODY))
    pilot.flight.settle(VERIFIED)

    async with asyncio.timeout(5):
        assert await collect(pilot.flight, 199_999, 10**9) == BODY[199_999:]
        assert await collect(pilot.flight, 10**9, None) == b""


async def test_no_chunk_is_larger_than_a_slow_reader_may_hold(pilot: Pilot) -> None:
    pilot.flight.begin(FLYING)
    pilot.bring(len(BODY))
    pilot.flight.settle(VERIFIED)

    sizes = [len(chunk) async for chunk in pilot.flight.read(0, None, stall=5)]

    assert min(sizes) > 0
    assert max(sizes) <= CHUNK_SIZE


async def test_a_reader_that_does_not_read_stalls_nobody(pilot: Pilot) -> None:
    pilot.flight.begin(FLYING)
    slow = pilot.flight.read(0, None, stall=5)
    fast = asyncio.create_task(collect(pilot.flight))
    pilot.bring(CHUNK_SIZE)
    first = await anext(slow)
    pilot.bring(len(BODY))
    pilot.flight.settle(VERIFIED)

    assert await fast == BODY
    assert first + b"".join([chunk async for chunk in slow]) == BODY


async def test_readers_get_what_arrived_before_the_failure_and_then_the_failure(pilot: Pilot) -> None:
    pilot.flight.begin(FLYING)
    pilot.bring(1000)
    pilot.flight.fail(OriginBusy(retry_after=7))
    got = bytearray()

    ended = await received(pilot.flight, got)

    assert got == BODY[:1000]
    assert isinstance(ended, OriginBusy)
    assert ended.retry_after == 7


async def test_each_reader_has_the_failure_to_itself(pilot: Pilot) -> None:
    # One exception raised in many tasks collects all their tracebacks, and their frames live as long as it does.
    pilot.flight.fail(failure := OriginGone("It was here yesterday."))

    ends = [await received(pilot.flight, bytearray()) for _ in range(3)]

    assert len({id(end) for end in (*ends, failure)}) == 4
    assert {str(end) for end in ends} == {"It was here yesterday."}
    assert [end.__cause__ for end in ends if end is not None] == [failure] * 3
    assert failure.__traceback__ is None


@pytest.mark.parametrize("begun", [False, True], ids=["before the first byte", "right after it"])
async def test_who_waits_for_the_beginning_learns_of_the_failure_instead(pilot: Pilot, *, begun: bool) -> None:
    waiting = asyncio.create_task(pilot.flight.declared(5))
    await turns()
    if begun:
        pilot.flight.begin(FLYING)
    pilot.flight.fail(OriginFailed())

    with pytest.raises(OriginFailed):
        await waiting


async def test_who_waits_for_the_beginning_learns_what_is_coming(pilot: Pilot) -> None:
    waiting = asyncio.create_task(pilot.flight.declared(5))
    await turns()
    pilot.flight.begin(FLYING)

    assert await waiting == FLYING


async def test_what_has_landed_is_verified(pilot: Pilot) -> None:
    pilot.flight.begin(FLYING)
    waiting = asyncio.create_task(pilot.flight.landed(5))
    pilot.bring(len(BODY))
    await turns()
    assert not waiting.done()
    pilot.flight.settle(VERIFIED)

    assert await waiting == Landed(NAME, len(BODY), sha256(BODY), "image/jpeg")


async def test_patience_ends(pilot: Pilot) -> None:
    declared = asyncio.create_task(pilot.flight.declared(25))
    await turns()
    skip(26)
    with pytest.raises(OriginTimeout):
        await declared
    pilot.flight.begin(FLYING)
    landed = asyncio.create_task(pilot.flight.landed(300))
    await turns()
    skip(301)
    with pytest.raises(OriginTimeout):
        await landed


async def test_a_stall_is_the_time_since_the_last_news(pilot: Pilot) -> None:
    pilot.flight.begin(FLYING)
    got = bytearray()
    # Its bytes are far ahead: it sees nothing of the trickle, but the trickle is no stall.
    reading = asyncio.create_task(received(pilot.flight, got, 150_000, stall=30))
    for total in range(1, 10):
        await turns()
        skip(20)
        pilot.bring(total)
    pilot.bring(160_000)
    await until(lambda: got == BODY[150_000:160_000])
    skip(31)

    assert isinstance(await reading, OriginTimeout)


async def test_a_spool_that_somebody_truncated_is_not_a_short_medium(tmp_path: Path) -> None:
    pilot = Pilot(tmp_path / "spool.part", mirrored=False)
    pilot.flight.begin(FLYING)
    pilot.bring(len(BODY))
    pilot.flight.settle(VERIFIED)
    os.truncate(tmp_path / "spool.part", 1000)
    got = bytearray()

    ended = await received(pilot.flight, got)

    assert (len(got), type(ended)) == (1000, OriginFailed)
    pilot.flight.close()


async def test_a_reader_that_leaves_while_the_disk_answers_disturbs_nobody(pilot: Pilot) -> None:
    pilot.flight.begin(FLYING)
    pilot.bring(len(BODY))
    pilot.flight.settle(VERIFIED)

    leaving = [asyncio.create_task(collect(pilot.flight)) for _ in range(20)]
    staying = asyncio.create_task(collect(pilot.flight))
    await turns()
    for task in leaving:
        task.cancel()

    assert await staying == BODY
    ends = await asyncio.gather(*leaving, return_exceptions=True)
    assert not [end for end in ends if isinstance(end, MediaError)]
