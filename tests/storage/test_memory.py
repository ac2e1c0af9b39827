"""The memory store fails exactly where a test tells it to, and is otherwise held to the contract of every store."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from storage.errors import ObjectNotFound, StoreFull, StoreUnavailable
from storage.memory import MemoryStore
from storage.store import CHUNK_SIZE, ByteRange

MakeFile = Callable[[bytes], Path]

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
async def store(make_file: MakeFile) -> MemoryStore:
    store = MemoryStore(clock=lambda: NOON)
    await store.put("k", make_file(bytes(2 * CHUNK_SIZE)), content_type="image/jpeg")
    return store


async def test_faults_come_in_the_order_they_were_scripted(store: MemoryStore) -> None:
    store.fail_next("head", StoreUnavailable())
    store.fail_next("head", StoreFull(), after=1)

    with pytest.raises(StoreUnavailable):
        await store.head("k")
    assert (await store.head("k")).last_modified == NOON
    with pytest.raises(StoreFull):
        await store.head("k")
    assert (await store.head("k")).size == 2 * CHUNK_SIZE
    assert store.calls["head"] == 4


async def test_a_fault_of_one_operation_spares_the_others(store: MemoryStore) -> None:
    store.fail_next("delete", StoreUnavailable())

    await store.check()
    with pytest.raises(StoreUnavailable):
        await store.delete("k")
    await store.delete("k")
    with pytest.raises(ObjectNotFound):
        await store.head("k")


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE, CHUNK_SIZE + 1])
async def test_a_body_breaks_off_after_so_many_bytes(store: MemoryStore, size: int) -> None:
    store.break_stream_after(size)
    received = 0

    async def drain(chunks: AsyncIterator[bytes]) -> None:
        nonlocal received
        async for chunk in chunks:
            received += len(chunk)

    async with store.open("k") as reader:
        with pytest.raises(StoreUnavailable):
            await drain(reader.chunks)

    assert received == size


async def test_a_body_that_is_shorter_than_the_break_is_whole(store: MemoryStore) -> None:
    store.break_stream_after(10)

    async with store.open("k", ByteRange(0, 10)) as reader:
        assert [len(chunk) async for chunk in reader.chunks] == [10]


async def test_what_hangs_goes_on_when_it_is_released(store: MemoryStore) -> None:
    released = store.hang("open")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), store.open("k"):
            pass
    released.set()
    async with store.open("k") as reader:
        assert reader.size == 2 * CHUNK_SIZE
    assert store.calls["open"] == 2
