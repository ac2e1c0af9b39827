"""Whatever is cancelled and whenever, a flight leaves no task, descriptor, lock, half spool or memory behind."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from storage.errors import MediaError, OriginFailed
from storage.flights import MIRROR_BUDGET, MIRROR_LIMIT, Flights
from storage.spool import Spools
from tests.running import until
from tests.storage.flying import (
    NAME,
    ORDER,
    PATIENCE,
    ScriptedOrigin,
    collect,
    jpeg,
    never,
    open_node,
    received,
    sha256,
    turns,
)

BODY = jpeg(300_000)
T = TypeVar("T")


class Counts:
    """A `FlightObserver`."""

    def __init__(self) -> None:
        self.opened = self.joined = self.closed = 0

    def flight_opened(self) -> None:
        self.opened += 1

    def flight_joined(self) -> None:
        self.joined += 1

    def flight_closed(self) -> None:
        self.closed += 1


@pytest.fixture
async def in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a thread take ten turns of the loop, so that a number of turns is a place in the code.

    Like a real one it goes on when its caller is cancelled.
    """
    loop = asyncio.get_running_loop()

    async def to_thread(call: Callable[..., T], *arguments: object) -> T:
        done: asyncio.Future[T] = loop.create_future()

        def run(turns_left: int) -> None:
            if turns_left:
                loop.call_soon(run, turns_left - 1)
                return
            try:
                result = call(*arguments)
            except Exception as error:  # noqa: BLE001 passed on
                if not done.cancelled():
                    done.set_exception(error)
            else:
                if not done.cancelled():
                    done.set_result(result)

        run(turns_left=10)
        return await done

    monkeypatch.setattr(asyncio, "to_thread", to_thread)


@pytest.mark.usefixtures("in_step")
@pytest.mark.parametrize("landed", [False, True], ids=["of a download", "of a spool that has landed"])
async def test_a_shutdown_at_any_step_leaves_a_clean_node(tmp_path: Path, *, landed: bool) -> None:
    ends: list[object] = []
    while BODY not in ends:
        async with open_node(tmp_path / str(len(ends)), ScriptedOrigin(body=BODY, chunk=100_000)) as node:
            if landed:
                await node.read()
            reading = asyncio.create_task(node.read())
            await turns(1 + len(ends))
            await node.flights.drain(0)
            ends += await asyncio.gather(reading, return_exceptions=True)

            assert node.files() in (set(), {".part", ".json"})
            assert await node.read() == BODY

    assert {type(end) for end in ends[:-1]} == {OriginFailed}
    assert len(ends) > 10


@pytest.mark.usefixtures("in_step")
async def test_a_reader_that_leaves_at_any_step_disturbs_nobody(tmp_path: Path) -> None:
    ends: list[object] = []
    while BODY not in ends:
        async with open_node(tmp_path / str(len(ends)), ScriptedOrigin(body=BODY, chunk=100_000)) as node:
            leaving, staying = asyncio.create_task(node.read()), asyncio.create_task(node.read())
            await turns(1 + len(ends))
            leaving.cancel()
            ends += await asyncio.gather(leaving, return_exceptions=True)

            assert await staying == BODY
            assert node.origin.opened == 1

    assert {type(end) for end in ends[:-1]} == {asyncio.CancelledError}
    assert len(ends) > 15


async def test_flights_may_end_by_themselves_before_a_shutdown(tmp_path: Path) -> None:
    async with open_node(tmp_path / "spool", ScriptedOrigin(body=BODY)) as node:
        node.origin.hold(100_000)
        reading = asyncio.create_task(node.read())
        await node.origin.waiting.reaches(100_000)
        draining = asyncio.create_task(node.flights.drain(PATIENCE))
        await turns()
        node.origin.release()

        await draining

        assert await reading == BODY


async def test_a_shutdown_tells_the_readers_and_leaves_no_failure_to_others(tmp_path: Path) -> None:
    async with open_node(tmp_path / "spool", ScriptedOrigin(body=BODY)) as node:
        node.origin.hold(100_000)
        got = bytearray()
        async with node.flights.join(NAME, ORDER, recheck=never) as flight:
            reading = asyncio.create_task(received(flight, got))
            await until(lambda: got == BODY[:100_000])
            await node.flights.drain(0)

            assert isinstance(await reading, OriginFailed)
        assert node.files() == set()


async def test_every_flight_that_opened_closed(tmp_path: Path) -> None:
    counts, origin = Counts(), ScriptedOrigin(body=BODY)

    def observed(spools: Spools, origin: ScriptedOrigin) -> Flights:
        return Flights(spools, origin, observer=counts)

    async with open_node(tmp_path / "spool", origin, flights=observed) as node:
        await asyncio.gather(node.read(), node.read(), node.read())
        origin.failures.append(OriginFailed())
        with pytest.raises(OriginFailed):
            await node.read(name=sha256(b"another"))
        origin.hold()
        shut_down = asyncio.create_task(node.read(name=sha256(b"a third")))
        await origin.waiting.reaches(0)
        assert (counts.opened, counts.joined, counts.closed) == (3, 2, 2)
        await node.flights.drain(0)
        await asyncio.wait([shut_down])

    assert (counts.opened, counts.closed) == (3, 3)
    assert isinstance(shut_down.exception(), MediaError)


# Memory ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "declared", "mirrored"),
    [
        pytest.param(MIRROR_LIMIT, MIRROR_LIMIT, True, id="small"),
        pytest.param(MIRROR_LIMIT + 1, MIRROR_LIMIT + 1, False, id="large"),
        pytest.param(1000, None, False, id="of unknown size"),
    ],
)
async def test_only_a_medium_known_to_be_small_is_mirrored(
    tmp_path: Path, size: int, declared: int | None, *, mirrored: bool
) -> None:
    origin = ScriptedOrigin(body=jpeg(size))
    origin.size = declared
    async with open_node(tmp_path / "spool", origin) as node, node.flights.join(NAME, ORDER, recheck=never) as flight:
        await flight.landed(PATIENCE)

        assert bytes(flight.mirror or b"") == (origin.body if mirrored else b"")
        assert node.flights._mirrored == (size if mirrored else 0)
        assert await collect(flight) == origin.body


async def test_mirrors_stay_within_their_budget_and_give_it_back(tmp_path: Path) -> None:
    origin = ScriptedOrigin(body=jpeg(MIRROR_LIMIT), chunk=MIRROR_LIMIT)
    room = MIRROR_BUDGET // MIRROR_LIMIT
    async with open_node(tmp_path / "spool", origin) as node:
        names = [sha256(bytes([number])) for number in range(room + 2)]
        origin.hold(1000)
        readers = [asyncio.create_task(node.read(name=name)) for name in names]
        await until(lambda: sum(flight.state is not None for flight in node.flights._flights.values()) == len(names))

        mirrored = [flight for flight in node.flights._flights.values() if flight.mirror is not None]

        assert len(mirrored) == room
        assert node.flights._mirrored == MIRROR_BUDGET
        origin.release()
        assert set(await asyncio.gather(*readers)) == {origin.body}
        await until(lambda: node.flights._mirrored == 0)


async def test_a_reader_that_stays_keeps_the_mirror_and_its_share_of_the_budget(tmp_path: Path) -> None:
    async with open_node(tmp_path / "spool", ScriptedOrigin(body=BODY)) as node:
        async with node.flights.join(NAME, ORDER, recheck=never) as flight:
            await flight.landed(PATIENCE)
            await until(lambda: flight.task is not None and flight.task.done())
            await turns()
            assert node.flights._mirrored == len(BODY)
        assert node.flights._mirrored == 0


@pytest.mark.parametrize("fails", ["a lie", "a full disk"])
async def test_a_failed_flight_gives_its_memory_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    origin = ScriptedOrigin(body=BODY)
    async with open_node(tmp_path / "spool", origin) as node:
        if fails == "a lie":
            origin.sha256 = sha256(b"")
        else:
            monkeypatch.setattr(node.spools, "write_state", _disk_full)
        with pytest.raises(MediaError):
            async with node.flights.join(NAME, ORDER, recheck=never) as flight:
                await flight.landed(PATIENCE)
        await until(lambda: not node.flights._flights)

        assert node.flights._mirrored == 0


def _disk_full(*_: object) -> None:
    raise OSError(28, "No space left on device")
