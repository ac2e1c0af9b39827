"""One download for everybody, that belongs to nobody: shared, survived by all, and gone without a trace."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import structlog

from storage.errors import (
    MediaError,
    OriginBusy,
    OriginFailed,
    OriginGone,
    OriginLied,
)
from storage.flight import Flight
from storage.flights import MIRROR_LIMIT, Flights
from storage.spool import SpoolState
from tests.running import until
from tests.storage.flying import (
    NAME,
    ORDER,
    PATIENCE,
    Node,
    ScriptedOrigin,
    collect,
    jpeg,
    never,
    open_node,
    received,
    sha256,
)

BODY = jpeg(300_000)
LAST = len(BODY) - 1


@pytest.fixture
def origin() -> ScriptedOrigin:
    return ScriptedOrigin(body=BODY)


@pytest.fixture
async def node(tmp_path: Path, origin: ScriptedOrigin) -> AsyncIterator[Node]:
    async with open_node(tmp_path / "spool", origin) as opened:
        yield opened


class Landings:
    """Counts the media that have landed; may be made to wait or to fail."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, flight: Flight) -> None:
        assert flight.verified
        self.count += 1


# One download -------------------------------------------------------------------------------------------------------


async def test_a_crowd_shares_one_download(node: Node) -> None:
    ranges = [(0, None), (0, 1), (100_000, 250_000), (LAST, len(BODY))] * 10

    bodies = await asyncio.gather(*(node.read(start, stop) for start, stop in ranges))

    assert bodies == [BODY[start:stop] for start, stop in ranges]
    assert node.origin.opened == 1


async def test_the_first_bytes_arrive_before_the_last_are_sent(node: Node) -> None:
    node.origin.hold(100_000)
    got = bytearray()
    async with node.flights.join(NAME, ORDER, recheck=never) as flight:
        reading = asyncio.create_task(received(flight, got))
        await until(lambda: got == BODY[:100_000])
        assert node.origin.closed == 0
        node.origin.release()
        assert await reading is None

    assert got == BODY


async def test_a_late_reader_gets_what_arrived_before_it_came(node: Node) -> None:
    node.origin.hold(200_000)
    first = asyncio.create_task(node.read())
    await node.origin.waiting.reaches(200_000)

    assert await node.read(150_000, 199_999) == BODY[150_000:199_999]
    node.origin.release()

    assert await first == BODY
    assert node.origin.opened == 1


async def test_nobody_leaving_ends_a_flight_not_even_everybody(node: Node) -> None:
    landings = Landings()
    node.origin.hold(100_000)
    async with node.flights.join(NAME, ORDER, recheck=never, landed=landings) as flight:
        readers = [asyncio.create_task(collect(flight)) for _ in range(3)]
        await node.origin.waiting.reaches(100_000)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    node.origin.release()

    await until(lambda: landings.count)

    assert node.spools.state(NAME) == SpoolState(
        phase="verified", size=len(BODY), sha256=sha256(BODY), content_type="image/jpeg"
    )
    assert node.spools.data(NAME).read_bytes() == BODY


async def test_what_has_landed_is_read_from_its_spool_by_the_next_flight(node: Node) -> None:
    landings = Landings()
    assert await node.read() == BODY

    async with node.flights.join(NAME, ORDER, recheck=never, landed=landings) as flight:
        assert await collect(flight) == BODY

    assert node.origin.opened == 1
    await until(lambda: landings.count == 1)  # the process that downloaded may have died before it said so


async def test_who_reads_a_spool_reads_on_when_it_is_discarded(tmp_path: Path) -> None:
    large = ScriptedOrigin(body=jpeg(MIRROR_LIMIT + 1))
    async with open_node(tmp_path / "spool", large) as node, node.flights.join(NAME, ORDER, recheck=never) as flight:
        await flight.landed(PATIENCE)
        await node.flights.discard(NAME)

        assert node.files() == set()
        assert await collect(flight) == large.body


# Failures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [OriginGone(), OriginBusy(retry_after=9), OriginFailed("a riddle")], ids=repr)
async def test_the_providers_own_error_reaches_all_readers_and_blocks_no_next_try(
    node: Node, failure: MediaError
) -> None:
    node.origin.failures.append(failure)

    ends = await asyncio.gather(*(node.read() for _ in range(5)), return_exceptions=True)

    assert {(type(end), str(end)) for end in ends} == {(type(failure), str(failure))}
    assert [end.retry_after for end in ends if isinstance(end, MediaError)] == [failure.retry_after] * 5
    assert node.origin.opened == 1
    assert node.files() == {".json"}
    assert await node.read() == BODY


async def test_a_wrong_hash_never_completes_and_is_not_kept(node: Node) -> None:
    landings = Landings()
    node.origin.sha256 = sha256(b"something else")
    got, tail = bytearray(), bytearray()
    async with node.flights.join(NAME, ORDER, recheck=never, landed=landings) as flight:
        ends = await asyncio.gather(received(flight, got), received(flight, tail, LAST, len(BODY)))

    assert [type(end) for end in ends] == [OriginLied, OriginLied]
    assert BODY[:LAST].startswith(got)
    assert tail == b""
    assert landings.count == 0
    assert node.files() == {".json"}
    node.origin.sha256 = sha256(BODY)
    assert await node.read() == BODY


async def test_a_bug_in_the_origin_keeps_nobody_waiting(node: Node) -> None:
    node.origin.failures.append(ZeroDivisionError())

    with structlog.testing.capture_logs() as logs, pytest.raises(OriginFailed):
        await node.read()

    assert [entry["event"] for entry in logs] == ["flight crashed"]
    assert await node.read() == BODY


async def test_who_comes_while_readers_of_a_failed_flight_still_leave_gets_a_new_one(node: Node) -> None:
    node.origin.breaks = (100_000, OriginFailed())
    async with node.flights.join(NAME, ORDER, recheck=never) as failed:
        with pytest.raises(OriginFailed):
            await failed.landed(PATIENCE)
        node.origin.breaks = None
        assert await node.read() == BODY
        assert await collect(failed, 0, 1000) == BODY[:1000]

    assert node.origin.opened == 2


async def test_too_many_flights_are_refused_and_joining_is_not(tmp_path: Path, origin: ScriptedOrigin) -> None:
    origin.hold()
    async with open_node(tmp_path / "spool", origin, flights=partial(Flights, max_flights=1)) as node:
        first = asyncio.create_task(node.read())
        await origin.waiting.reaches(0)
        second = asyncio.create_task(node.read())

        with pytest.raises(OriginBusy) as refused:
            await node.read(name=sha256(b"another"))

        assert refused.value.retry_after is not None
        origin.release()
        assert [await first, await second] == [BODY, BODY]
        assert await node.read(name=sha256(b"another")) == BODY
