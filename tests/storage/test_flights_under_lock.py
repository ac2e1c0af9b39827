"""Who has the lock of a spool decides what becomes of it, and sees what others did before."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from storage.errors import OriginTimeout, RecordsUnavailable, StoreUnavailable
from storage.flight import Flight
from storage.flights import Flights, StoredMeanwhile
from storage.pilot import Order
from storage.spool import SpoolState
from storage.store import CHUNK_SIZE
from tests.running import until
from tests.storage.flying import (
    NAME,
    ORDER,
    PATIENCE,
    REF,
    Node,
    ScriptedOrigin,
    collect,
    jpeg,
    locked,
    never,
    open_node,
    skip,
    turns,
)

BODY = jpeg(300_000)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with open_node(tmp_path / "spool", ScriptedOrigin(body=BODY)) as opened:
        yield opened


async def stored_already() -> bool:
    return True


async def test_what_was_stored_meanwhile_is_not_fetched(node: Node) -> None:
    with pytest.raises(StoredMeanwhile):
        async with node.flights.join(NAME, ORDER, recheck=stored_already) as flight:
            await flight.declared(PATIENCE)

    assert node.origin.opened == 0
    assert await node.read() == BODY


async def test_who_waited_for_another_process_is_not_told_of_a_failure_from_before_it(node: Node) -> None:
    # Yesterday's flight failed; today another process finds, under the lock, that the medium is stored.
    elsewhere, gate = Flights(node.spools, node.origin), asyncio.Event()

    async def asks() -> bool:
        await gate.wait()
        return True

    node.spools.fail(NAME, "OriginBusy", 60.0)
    async with node.flights.join(NAME, ORDER, recheck=asks) as first:
        await until(lambda: locked(node.folder))
        async with elsewhere.join(NAME, ORDER, recheck=stored_already) as second:
            await until(lambda: second.followed)
            gate.set()

            for flight in (first, second):
                with pytest.raises(StoredMeanwhile):
                    await flight.declared(PATIENCE)


async def test_without_the_database_nothing_is_fetched(node: Node) -> None:
    async def down() -> bool:
        raise RecordsUnavailable

    with pytest.raises(RecordsUnavailable):
        async with node.flights.join(NAME, ORDER, recheck=down) as flight:
            await flight.declared(PATIENCE)

    assert node.origin.opened == 0
    assert await node.read() == BODY


@pytest.mark.parametrize("phase", ["flying", "failed"])
async def test_what_a_dead_process_left_does_not_block_the_next_try(node: Node, phase: str) -> None:
    node.spools.data(NAME).write_bytes(b"half of it")
    node.spools.write_state(NAME, SpoolState(phase=phase, size=9, error="OriginGone"))  # type: ignore[arg-type] # a phase

    assert await node.read() == BODY


async def test_while_a_spool_is_held_nobody_flies_it(node: Node) -> None:
    async with node.flights.hold(NAME, seconds=5):
        reading = asyncio.create_task(node.read())
        with pytest.raises(StoreUnavailable):
            async with node.flights.hold(NAME, seconds=0.01):
                pass
        assert node.origin.opened == 0

    assert await reading == BODY


async def test_who_takes_over_has_the_medium_ingested(node: Node) -> None:
    landed: list[Flight] = []

    async def on_landed(flight: Flight) -> None:
        landed.append(flight)

    assert node.spools.try_lock(NAME)  # as seen from here: another process, that dies
    async with node.flights.join(NAME, ORDER, recheck=never, landed=on_landed) as flight:
        await until(lambda: flight.followed)
        node.spools.unlock(NAME)
        assert await collect(flight) == BODY
        await until(lambda: landed == [flight])


async def test_who_waits_for_a_hold_may_leave(node: Node) -> None:
    async def hold() -> None:
        async with node.flights.hold(NAME, seconds=PATIENCE):
            pytest.fail("it was held")

    assert node.spools.try_lock(NAME)
    waiting = asyncio.create_task(hold())
    await turns()
    waiting.cancel()
    await asyncio.wait([waiting])
    node.spools.unlock(NAME)

    async with node.flights.hold(NAME, seconds=5):
        pass


async def test_patience_with_another_process_ends(node: Node) -> None:
    assert node.spools.try_lock(NAME)  # as seen from here: somebody who hangs
    order = Order(ref=REF, deadline=300)
    async with node.flights.join(NAME, order, recheck=never) as flight:
        await until(lambda: flight.followed)
        skip(301)
        with pytest.raises(OriginTimeout):
            await flight.landed(10**6)
    node.spools.unlock(NAME)

    assert await node.read() == BODY


async def test_a_sweep_leaves_what_flies(node: Node) -> None:
    node.origin.hold(CHUNK_SIZE)
    reading = asyncio.create_task(node.read())
    await node.origin.waiting.reaches(CHUNK_SIZE)

    assert await node.flights.sweep(older_than=timedelta(), max_bytes=0) == 0
    node.origin.release()

    assert await reading == BODY
    assert await node.flights.sweep(older_than=timedelta(), max_bytes=0) == 1
    assert node.files() == set()
