"""Retries, limits and measurements around a store that fails on demand."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from storage.errors import (
    ObjectFrozen,
    ObjectNotFound,
    OriginBusy,
    StorageError,
    StoreForbidden,
    StoreFull,
    StoreUnavailable,
)
from storage.memory import MemoryStore
from storage.middleware import LimitedStore, MeteredStore, RetryingStore, backoff
from storage.store import CHUNK_SIZE, ObjectStore

MakeFile = Callable[[bytes], Path]

PLAIN = "application/octet-stream"
CONTENT = bytes(2 * CHUNK_SIZE)


@pytest.fixture
async def memory(make_file: MakeFile) -> MemoryStore:
    memory = MemoryStore()
    await memory.put("k", make_file(CONTENT), content_type=PLAIN)
    memory.calls.clear()
    return memory


async def read(store: ObjectStore, key: str = "k") -> bytes:
    async with store.open(key) as reader:
        return b"".join([chunk async for chunk in reader.chunks])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("error", "decision"),
    [
        pytest.param(StoreUnavailable(), True, id="try again with our own patience"),
        pytest.param(StoreFull(), True, id="space may be freed"),
        pytest.param(StoreUnavailable(retry_after=1.5), 1.5, id="the store says when"),
        pytest.param(StoreUnavailable(retry_after=2.0), 2.0, id="just patient enough"),
        pytest.param(StoreUnavailable(retry_after=2.1), False, id="the store wants more patience than we have"),
        pytest.param(ObjectNotFound(), False, id="absent"),
        pytest.param(StoreForbidden(), False, id="forbidden"),
        pytest.param(ObjectFrozen(), False, id="frozen"),
        pytest.param(OriginBusy(), False, id="not a store's error"),
        pytest.param(RuntimeError(), False, id="a defect"),
    ],
)
def test_what_is_tried_again_and_when(error: Exception, decision: bool | float) -> None:  # noqa: FBT001 - as returned
    assert backoff(error, wait_max=2.0) is decision or backoff(error, wait_max=2.0) == decision


@pytest.fixture
def retrying(memory: MemoryStore) -> RetryingStore:
    return RetryingStore(memory, attempts=3, wait_initial=0.0)


async def test_a_passing_failure_is_not_seen(retrying: RetryingStore, memory: MemoryStore, make_file: MakeFile) -> None:
    for operation in ("put", "open", "head", "delete", "check"):
        memory.fail_next(operation, StoreUnavailable())
        memory.fail_next(operation, StoreUnavailable())

    assert await retrying.put("new", make_file(b""), content_type=PLAIN) is True
    assert await read(retrying) == CONTENT
    assert (await retrying.head("k")).size == len(CONTENT)
    await retrying.check()
    await retrying.delete("k")
    assert {memory.calls[operation] for operation in ("put", "open", "head", "delete", "check")} == {3}


async def test_a_lasting_failure_is_seen_after_the_last_attempt(retrying: RetryingStore, memory: MemoryStore) -> None:
    for _ in range(3):
        memory.fail_next("head", StoreUnavailable())

    with pytest.raises(StoreUnavailable):
        await retrying.head("k")
    assert memory.calls["head"] == 3


async def test_a_permanent_failure_is_seen_at_once(retrying: RetryingStore, memory: MemoryStore) -> None:
    with pytest.raises(ObjectNotFound):
        await read(retrying, "missing")
    assert memory.calls["open"] == 1


async def test_a_body_that_breaks_off_is_not_opened_again(retrying: RetryingStore, memory: MemoryStore) -> None:
    memory.break_stream_after(CHUNK_SIZE)

    with pytest.raises(StoreUnavailable):
        await read(retrying)
    assert memory.calls["open"] == 1


async def test_a_listing_is_not_begun_again(retrying: RetryingStore, memory: MemoryStore) -> None:
    memory.fail_next("list", StoreUnavailable())

    with pytest.raises(StoreUnavailable):
        [meta async for meta in retrying.list()]
    assert memory.calls["list"] == 1


async def test_a_caller_that_gives_up_ends_the_attempts(retrying: RetryingStore, memory: MemoryStore) -> None:
    memory.hang("head")
    head = asyncio.create_task(retrying.head("k"))
    await until(lambda: memory.calls["head"] == 1)

    head.cancel()

    with pytest.raises(asyncio.CancelledError):
        await head
    assert memory.calls["head"] == 1


async def test_an_open_object_holds_its_place(memory: MemoryStore) -> None:
    limited = LimitedStore(memory, 1, timeout=0.01)

    async with limited.open("k") as reader:
        with pytest.raises(StoreUnavailable):
            await limited.head("k")
        assert b"".join([chunk async for chunk in reader.chunks]) == CONTENT
    assert memory.calls["head"] == 0
    assert (await limited.head("k")).size == len(CONTENT)


async def test_a_place_is_free_again_after_a_failure(memory: MemoryStore) -> None:
    limited = LimitedStore(memory, 1, timeout=0.01)
    memory.fail_next("open", StoreUnavailable())
    memory.fail_next("check", StoreUnavailable())

    with pytest.raises(StoreUnavailable):
        await read(limited)
    with pytest.raises(StoreUnavailable):
        await limited.check()

    assert await read(limited) == CONTENT


async def test_no_more_than_the_limit_run_and_all_get_their_turn(memory: MemoryStore) -> None:
    limited = LimitedStore(memory, 2)
    released = memory.hang("head")
    heads = [asyncio.create_task(limited.head("k")) for _ in range(5)]
    await until(lambda: memory.calls["head"] == 2)

    released.set()

    assert {meta.size for meta in await asyncio.gather(*heads)} == {len(CONTENT)}


async def test_a_caller_may_use_the_store_for_what_it_lists(memory: MemoryStore) -> None:
    limited = LimitedStore(memory, 1, timeout=0.01)

    async for meta in limited.list():
        await limited.delete(meta.key)

    assert [meta async for meta in memory.list()] == []


@dataclass(frozen=True)
class Call:
    backend: str
    operation: str
    outcome: str
    seconds: float


class Calls(list[Call]):
    """Remembers what it was told."""

    def __call__(self, backend: str, operation: str, outcome: str, seconds: float) -> None:
        self.append(Call(backend, operation, outcome, seconds))

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(call.operation, call.outcome) for call in self]


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def metered(memory: MemoryStore, calls: Calls) -> MeteredStore:
    seconds: Iterator[int] = count()
    return MeteredStore(memory, calls, clock=lambda: float(next(seconds)))


async def test_each_operation_is_observed_once(metered: MeteredStore, calls: Calls, make_file: MakeFile) -> None:
    await metered.put("k", make_file(b""), content_type=PLAIN)
    await read(metered)
    await metered.head("k")
    assert len([meta async for meta in metered.list()]) == 1
    await metered.delete("k")
    await metered.check()

    operations = ["put", "open", "head", "list", "delete", "check"]
    assert calls == [Call("memory", operation, "ok", 1.0) for operation in operations]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ObjectNotFound(), "not_found"),
        (StoreForbidden(), "store_forbidden"),
        (ObjectFrozen(), "object_frozen"),
        (StoreFull(), "store_full"),
        (StoreUnavailable(), "store_unavailable"),
        (StorageError(), "error"),
    ],
)
async def test_a_failure_is_observed_by_name(
    metered: MeteredStore, memory: MemoryStore, calls: Calls, error: StorageError, outcome: str
) -> None:
    for operation in ("head", "open", "list"):
        memory.fail_next(operation, error)

    with pytest.raises(type(error)):
        await metered.head("k")
    with pytest.raises(type(error)):
        await read(metered)
    with pytest.raises(type(error)):
        [meta async for meta in metered.list()]

    assert calls.outcomes == [("head", outcome), ("open", outcome), ("list", outcome)]


async def test_a_body_that_breaks_off_is_a_failed_open(
    metered: MeteredStore, memory: MemoryStore, calls: Calls
) -> None:
    memory.break_stream_after(CHUNK_SIZE)

    with pytest.raises(StoreUnavailable):
        await read(metered)

    assert calls.outcomes == [("open", "store_unavailable")]


async def test_a_body_failure_that_the_caller_handles_is_still_observed(
    metered: MeteredStore, memory: MemoryStore, calls: Calls
) -> None:
    memory.break_stream_after(0)

    async with metered.open("k") as reader:
        with pytest.raises(StoreUnavailable):
            await anext(reader.chunks)

    assert calls.outcomes == [("open", "store_unavailable")]


async def test_a_reader_that_leaves_early_has_seen_no_failure(metered: MeteredStore, calls: Calls) -> None:
    async with metered.open("k") as reader:
        await anext(reader.chunks)

    assert calls.outcomes == [("open", "ok")]


async def test_a_failure_of_the_caller_is_not_one_of_the_store(metered: MeteredStore, calls: Calls) -> None:
    with pytest.raises(StoreFull):
        async with metered.open("k"):
            raise StoreFull  # of another store, to which the caller was copying

    assert calls.outcomes == [("open", "ok")]


@pytest.mark.parametrize("operation", ["open", "read"])
async def test_a_cancelled_reader_is_observed_as_such(
    metered: MeteredStore, memory: MemoryStore, calls: Calls, operation: str
) -> None:
    memory.hang("open" if operation == "open" else "read")
    reading = asyncio.create_task(read(metered))
    await until(lambda: memory.calls["open" if operation == "open" else "read"] == 1)

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert calls.outcomes == [("open", "cancelled")]


async def test_the_seconds_of_an_open_end_before_the_client_sets_the_pace(metered: MeteredStore, calls: Calls) -> None:
    async with metered.open("k") as reader:
        for _ in range(5):
            metered._clock()  # time goes by
        assert b"".join([chunk async for chunk in reader.chunks]) == CONTENT

    assert [call.seconds for call in calls] == [1.0]
