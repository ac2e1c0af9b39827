"""A second request for an answer that is late: when, how often, and which of the two is taken."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from storage.errors import StoreUnavailable
from storage.s3 import Hedging, S3Store
from storage.s3.hedging import BURST, ENOUGH, FLOOR, REFRESH, SHARE, WINDOW
from tests.running import until
from tests.storage.scripted import NEVER, Script, ScriptedStore, always, response, scripted_store

OBJECT = response(body=b"content")
BUSY = response("503 Slow Down", b"<Error><Code>SlowDown</Code></Error>")
QUICK = 0.001  # seconds


def seasoned(outcomes: list[str] | None = None, **bounds: float) -> Hedging:
    """Return a policy that has seen enough quick answers."""
    hedging = Hedging(outcomes.append if outcomes is not None else lambda _: None, **bounds)
    for _ in range(ENOUGH):
        hedging.answered(QUICK)
    return hedging


def test_nobody_is_late_before_there_is_a_percentile() -> None:
    hedging = Hedging()
    for _ in range(ENOUGH - 1):
        hedging.answered(QUICK)

    assert hedging.delay is None


def test_late_is_what_is_later_than_99_of_100_but_not_below_the_floor() -> None:
    hedging = Hedging()
    for number in range(WINDOW):
        hedging.answered(0.030 if number % 50 == 0 else QUICK)  # 2 of 100
    slow = hedging.delay
    for _ in range(WINDOW):
        hedging.answered(QUICK)

    assert slow == 0.030
    assert hedging.delay == FLOOR, "what was slow is long ago"


def test_a_percentile_is_good_for_a_while() -> None:
    hedging = seasoned()
    for _ in range(REFRESH - 1):
        hedging.answered(1.0)
    before = hedging.delay
    hedging.answered(1.0)

    assert (before, hedging.delay) == (FLOOR, 1.0)


def test_where_all_are_late_only_a_share_is_sent_twice() -> None:
    hedging = seasoned()
    sent = 0
    for _ in range(10_000):
        sent += hedging.allowed()
        hedging.answered(QUICK)

    assert sent == pytest.approx(10_000 * SHARE + BURST, abs=2)


@pytest.fixture
async def outcomes() -> list[str]:
    return []


Start = Callable[[Script, Hedging], Awaitable[tuple[S3Store, ScriptedStore]]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Run a server and a store with a policy."""
    async with AsyncExitStack() as stack:

        async def started(script: Script, hedging: Hedging) -> tuple[S3Store, ScriptedStore]:
            server = await stack.enter_async_context(scripted_store(script))
            return await stack.enter_async_context(S3Store(server.config(), hedging=hedging)), server

        yield started


async def read(store: S3Store) -> bytes:
    async with store.open("k") as reader:
        return b"".join([chunk async for chunk in reader.chunks])


def by_connection(*answers: bytes) -> Script:
    """Give each connection one answer of its own."""
    return lambda number: iter([answers[number]])


async def test_the_second_request_comes_first_and_the_connection_of_the_other_is_closed(
    start: Start, outcomes: list[str]
) -> None:
    store, server = await start(by_connection(NEVER, OBJECT), seasoned(outcomes, floor=0.01))

    assert await read(store) == b"content"

    assert outcomes == ["won"]
    assert server.requests[0] == server.requests[1]
    await until(lambda: server.open == 1 and store._reads._pool.taken == 1)


async def test_an_answer_that_is_not_late_is_not_asked_for_twice(start: Start, outcomes: list[str]) -> None:
    store, server = await start(always(OBJECT, OBJECT), seasoned(outcomes, floor=5.0))

    assert [await read(store) for _ in range(2)] == [b"content"] * 2

    assert (outcomes, len(server.requests)) == ([], 2)


@asynccontextmanager
async def answering_the_second_first(answer: bytes, outcomes: list[str]) -> AsyncIterator[S3Store]:
    """A store that answers the first request only after it has answered the second, with these bytes."""
    answered, requests = asyncio.Event(), 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        if requests == 1:
            await answered.wait()
            writer.write(OBJECT)
        else:
            writer.write(answer)
            await writer.drain()
            answered.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        described = ScriptedStore(always(), port=server.sockets[0].getsockname()[1])
        async with S3Store(described.config(), hedging=seasoned(outcomes, floor=0.01)) as store:
            yield store


async def test_the_first_request_may_come_first_after_all(outcomes: list[str]) -> None:
    async with answering_the_second_first(b"", outcomes) as store:
        assert await read(store) == b"content"
        await until(lambda: store._reads._pool.taken == 1)
    assert outcomes == ["lost"]


async def test_a_store_that_is_busy_for_the_second_may_still_have_an_answer_for_the_first(outcomes: list[str]) -> None:
    async with answering_the_second_first(BUSY, outcomes) as store:
        assert await read(store) == b"content"
    assert outcomes == ["lost"]


async def test_where_neither_answers_the_first_failure_counts(start: Start, outcomes: list[str]) -> None:
    store, server = await start(by_connection(NEVER, NEVER), seasoned(outcomes, floor=0.01))
    reading = asyncio.create_task(read(store))
    await until(lambda: len(server.requests) == 2)

    await store._reads._pool.aclose()  # as though the store had gone

    with pytest.raises(StoreUnavailable):
        await reading
    await until(lambda: store._reads._pool.taken == 0)


async def test_over_budget_the_first_answer_is_waited_for(start: Start, outcomes: list[str]) -> None:
    hedging = seasoned(outcomes, floor=0.01, share=0.0, burst=0.0)
    store, server = await start(always(NEVER), hedging)
    reading = asyncio.create_task(read(store))
    await until(lambda: server.requests)

    done, _ = await asyncio.wait([reading], timeout=0.1)  # ten times the delay

    assert (done, len(server.requests), outcomes) == (set(), 1, [])
    reading.cancel()
    await asyncio.wait([reading])


async def test_a_reader_that_leaves_two_requests_leaves_no_connection(start: Start, outcomes: list[str]) -> None:
    store, server = await start(by_connection(NEVER, NEVER), seasoned(outcomes, floor=0.01))
    reading = asyncio.create_task(read(store))
    await until(lambda: len(server.requests) == 2)

    reading.cancel()
    await asyncio.wait([reading])

    await until(lambda: server.open == 0 and store._reads._pool.taken == 0)
