"""How connections to a store are kept, shared, used again and given up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import pytest

from storage.errors import ObjectNotFound, StorageError, StoreUnavailable
from storage.s3 import S3Store
from storage.s3.pool import Pool
from storage.store import CHUNK_SIZE, ByteRange
from tests.running import until
from tests.storage.scripted import NEVER, Script, ScriptedStore, always, response, scripted_store

Serve = Callable[[Script], Awaitable[ScriptedStore]]
OpenStore = Callable[..., Awaitable[S3Store]]

OBJECT = response(body=b"content")
MISSING = response("404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>")


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def start(script: Script) -> ScriptedStore:
            return await stack.enter_async_context(scripted_store(script))

        yield start


@pytest.fixture
async def open_store(serve: Serve) -> AsyncIterator[OpenStore]:
    """Open stores that are closed before the servers."""
    async with AsyncExitStack() as stack:

        async def opened(server: ScriptedStore, **changes: object) -> S3Store:
            return await stack.enter_async_context(S3Store(server.config(**changes)))

        yield opened


async def read(store: S3Store, byte_range: ByteRange | None = None) -> bytes:
    async with store.open("k", byte_range) as reader:
        return b"".join([chunk async for chunk in reader.chunks])


def pool_of(store: S3Store) -> Pool:
    return store._reads._pool


async def test_one_connection_carries_one_read_after_the_other(serve: Serve, open_store: OpenStore) -> None:
    server = await serve(always(*[OBJECT, MISSING] * 3))
    store = await open_store(server)

    for _ in range(3):
        assert await read(store) == b"content"
        with pytest.raises(ObjectNotFound):
            await read(store)

    assert (server.opened, len(server.requests)) == (1, 6)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(response(body=b"content", Connection="close"), id="RFC 9112 9.6 close"),
        pytest.param(OBJECT.replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(OBJECT + b"more", id="bytes after the body"),
        pytest.param(OBJECT + OBJECT, id="an answer that nobody has asked for"),
    ],
)
async def test_a_connection_that_cannot_be_trusted_is_not_used_again(
    serve: Serve, open_store: OpenStore, answer: bytes
) -> None:
    server = await serve(always(answer, response(body=b"another's")))
    store = await open_store(server)

    assert await read(store) == b"content"
    assert await read(store) == b"content"

    assert server.opened == 2


async def test_a_body_may_come_in_any_pieces_after_interim_heads(serve: Serve, open_store: OpenStore) -> None:
    body = bytes(range(256)) * 1024
    server = await serve(always(b"HTTP/1.1 100 Continue\r\n\r\n" + response(body=body)))
    store = await open_store(server)

    assert await read(store) == body


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, id="a head without end"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="101"),
        pytest.param(response("307 Temporary Redirect", Location="http://127.0.0.1:1/"), id="redirect"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", id="no length"),
    ],
)
async def test_what_is_no_object_leaves_nothing_behind(serve: Serve, open_store: OpenStore, answer: bytes) -> None:
    server = await serve(always(answer))
    store = await open_store(server, read_timeout=0.2)

    with pytest.raises(StoreUnavailable):
        await read(store)

    await until(lambda: server.open == len(pool_of(store)._idle))
    assert pool_of(store).taken == server.open


async def test_a_kept_connection_that_the_store_has_closed_is_no_failure(serve: Serve, open_store: OpenStore) -> None:
    server = await serve(always(OBJECT))  # and then it closes instead of answering
    store = await open_store(server)

    for _ in range(3):
        assert await read(store) == b"content"

    assert (server.opened, len(server.requests)) == (3, 5)


async def test_a_new_connection_that_is_closed_is_a_failure(serve: Serve, open_store: OpenStore) -> None:
    server = await serve(always())
    store = await open_store(server)

    with pytest.raises(StoreUnavailable):
        await read(store)

    assert len(server.requests) == 1
    assert pool_of(store).taken == 0


async def test_an_answer_that_has_begun_is_not_asked_for_again(serve: Serve, open_store: OpenStore) -> None:
    server = await serve(lambda _: iter([OBJECT, b"HTTP/1.1 200 OK\r\nContent-"]))
    store = await open_store(server, read_timeout=0.2)
    assert await read(store) == b"content"

    with pytest.raises(StoreUnavailable):
        await read(store)

    assert len(server.requests) == 2


async def test_a_body_that_was_not_read_is_not_waited_for(serve: Serve, open_store: OpenStore) -> None:
    server = await serve(always(response(body=bytes(CHUNK_SIZE), Content_Length=64 * 1024**2)))
    store = await open_store(server)

    async with store.open("k") as reader:
        await anext(reader.chunks)

    await until(lambda: server.open == 0)
    assert pool_of(store).taken == 0


async def test_a_body_that_has_come_whole_keeps_its_connection_though_it_was_not_read(
    serve: Serve, open_store: OpenStore
) -> None:
    server = await serve(always(OBJECT, OBJECT))
    store = await open_store(server)

    async with store.open("k"):
        pass
    assert await read(store) == b"content"

    assert server.opened == 1


async def test_a_reader_that_has_left_gets_nothing_of_the_next_one(serve: Serve, open_store: OpenStore) -> None:
    server = await serve(always(OBJECT, response(body=b"another's")))
    store = await open_store(server)
    async with store.open("k") as left:
        pass

    async with store.open("k") as reader:
        assert [chunk async for chunk in left.chunks] == []
        assert [chunk async for chunk in reader.chunks] == [b"another's"]


@pytest.mark.parametrize("turns", range(12))
async def test_a_reader_that_is_cancelled_takes_nothing_with_it(
    serve: Serve, open_store: OpenStore, turns: int
) -> None:
    server = await serve(always(response(body=b"begin", Content_Length=100), NEVER))
    store = await open_store(server)
    reading = asyncio.create_task(read(store))
    for _ in range(turns):
        await asyncio.sleep(0)  # one turn of the event loop, however far it gets

    reading.cancel()
    await asyncio.wait([reading])

    await until(lambda: server.open == 0 and pool_of(store).taken == 0)


@pytest.mark.parametrize("answer", [NEVER, response(body=b"begin", Content_Length=100)], ids=["head", "body"])
async def test_a_reader_that_waits_and_is_cancelled_closes_its_connection(
    serve: Serve, open_store: OpenStore, answer: bytes
) -> None:
    server = await serve(always(answer, NEVER))
    store = await open_store(server)
    reading = asyncio.create_task(read(store))
    await until(lambda: server.requests)

    reading.cancel()
    await asyncio.wait([reading])

    await until(lambda: server.open == 0 and pool_of(store).taken == 0)


@pytest.fixture
async def pool(serve: Serve) -> AsyncIterator[Callable[..., Awaitable[tuple[Pool, ScriptedStore]]]]:
    """Make pools with bounds of their own, over the dialler of a store."""
    async with AsyncExitStack() as stack:

        async def make(script: Script, **bounds: float) -> tuple[Pool, ScriptedStore]:
            server = await serve(script)
            store = await stack.enter_async_context(S3Store(server.config()))
            made = Pool(pool_of(store)._dialler, **bounds)  # type: ignore[arg-type] # named by the test
            stack.push_async_callback(made.aclose)
            return made, server

        yield make


MakePool = Callable[..., Awaitable[tuple[Pool, ScriptedStore]]]


async def test_no_more_connections_than_the_limit_and_each_gets_its_turn_in_order(pool: MakePool) -> None:
    connections, server = await pool(always(), limit=2)
    held = [await connections.take(), await connections.take()]
    order: list[int] = []

    async def wait(number: int) -> None:
        taken = await connections.take()
        order.append(number)
        connections.give(taken)

    waiting = [asyncio.create_task(wait(number)) for number in range(5)]
    await until(lambda: len(connections._turns) == 5)
    waiting[1].cancel()
    for each in held:
        connections.give(each)
    await asyncio.wait(waiting, timeout=10)

    assert order == [0, 2, 3, 4]
    assert (connections.taken, server.opened) == (2, 2)


async def test_a_connection_that_is_closed_leaves_its_place_to_who_waits(pool: MakePool) -> None:
    connections, server = await pool(always(), limit=1)
    held = await connections.take()
    waiting = asyncio.create_task(connections.take())
    await until(lambda: connections._turns)

    connections.drop(held)

    assert await asyncio.wait_for(waiting, 5) is not held
    assert (connections.taken, server.opened) == (1, 2)


async def test_who_waits_too_long_for_a_turn_is_told_so(pool: MakePool) -> None:
    connections, _ = await pool(always(), limit=1, turn_timeout=0.01)
    held = await connections.take()

    with pytest.raises(StoreUnavailable, match="busy"):
        await connections.take()

    connections.drop(held)
    assert (connections.taken, len(connections._turns)) == (0, 0)


async def test_what_is_handed_to_one_who_leaves_in_the_same_moment_goes_to_the_next(pool: MakePool) -> None:
    connections, _ = await pool(always(), limit=1)
    held = await connections.take()
    leaving, next_one = (asyncio.create_task(connections.take()) for _ in range(2))
    await until(lambda: len(connections._turns) == 2)

    connections.give(held)
    leaving.cancel()

    assert await asyncio.wait_for(next_one, 5) is held
    assert connections.taken == 1


async def test_an_idle_connection_is_closed_after_a_while(pool: MakePool) -> None:
    connections, server = await pool(always(), idle_timeout=0.05)
    held = [await connections.take() for _ in range(3)]

    for each in held:
        connections.give(each)

    await until(lambda: connections.taken == 0 and server.open == 0)


async def test_a_store_that_cannot_be_reached_takes_no_place(open_store: OpenStore) -> None:
    store = await open_store(ScriptedStore(always(), port=1))

    for operation in (partial(read, store), partial(read, store, ByteRange(0, 1))):
        with pytest.raises(StorageError):
            await operation()

    assert pool_of(store).taken == 0
