"""A job that fails or is interrupted at any moment: nothing is half done, and the next try works."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from ingest.tasks import Failure
from storage.database import Database
from storage.errors import (
    OriginBusy,
    OriginError,
    OriginFailed,
    OriginGone,
    OriginRefused,
    OriginTimeout,
    OriginTooLarge,
    StorageError,
    StoreForbidden,
    StoreFull,
    StoreUnavailable,
)
from storage.local import LocalStore
from storage.memory import MemoryStore
from storage.record import Status
from tests.ingest.node import Node, ScriptedOrigin, jpeg, open_node, sha256

PICTURE, OTHER = jpeg(1), jpeg(2)
STORE_ERRORS = [StoreFull(), StoreUnavailable(), StoreForbidden()]


class ForgetfulStore(MemoryStore):
    """Loses the answer to its next write, not the write."""

    loses_answers = 0

    async def put(self, key: str, file: Path, *, content_type: str) -> bool:
        created = await super().put(key, file, content_type=content_type)
        if self.loses_answers:
            self.loses_answers -= 1
            raise StoreUnavailable
        return created


@pytest.fixture
def store() -> ForgetfulStore:
    return ForgetfulStore()


@pytest.fixture
async def node(tmp_path: Path, engine: Database, store: ForgetfulStore) -> AsyncIterator[Node]:
    origin = ScriptedOrigin(bodies={"p1": PICTURE, "p2": PICTURE, "other": OTHER})
    async with open_node(tmp_path / "node", engine, store, origin) as opened:
        yield opened


async def _stored_after_all(node: Node) -> bool:
    """Try again, and see that everything is as if nothing had happened."""
    await node.ingest("m1")
    record = await node.record("m1")
    assert record.stored is not None
    assert record.status is Status.COMPLETED
    assert (record.stored.sha256, record.stored.key) == (sha256(PICTURE), "media/m1/p1")
    assert node.leftovers() == set()
    return await node.objects() == {"media/m1/p1": PICTURE}


# The provider fails --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [OriginFailed(), OriginTimeout(), OriginBusy(), OriginGone(), OriginRefused(), OriginTooLarge()],
    ids=lambda error: type(error).__name__,
)
async def test_a_provider_that_fails_costs_one_attempt(node: Node, error: OriginError) -> None:
    await node.register("m1", "p1")
    node.origin.failures.append(error)

    with pytest.raises(type(error)):
        await node.ingest("m1")
    assert await node.objects() == {}
    assert await _stored_after_all(node)


# The store fails -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", STORE_ERRORS, ids=lambda error: type(error).__name__)
async def test_a_store_that_fails_before_the_write_does_not_cost_another_download(
    node: Node, store: ForgetfulStore, error: StorageError
) -> None:
    await node.register("m1", "p1")
    store.fail_next("put", error)

    with pytest.raises(type(error)):
        await node.ingest("m1")
    assert (await node.record("m1")).stored is None
    assert await _stored_after_all(node)
    assert node.origin.opened == {"p1": 1}


async def test_a_store_that_fails_after_the_write_has_the_object_all_the_same(
    node: Node, store: ForgetfulStore
) -> None:
    await node.register("m1", "p1")
    store.loses_answers = 1

    with pytest.raises(StoreUnavailable):
        await node.ingest("m1")
    assert await _stored_after_all(node)
    assert node.origin.opened == {"p1": 1}


async def test_a_store_that_has_not_answered_yet_is_not_cut_short_by_the_next_job(
    node: Node, store: ForgetfulStore
) -> None:
    await node.register("m1", "p1")
    written = store.hang("put")
    first = asyncio.create_task(node.ingest("m1"))
    second = asyncio.create_task(node.ingest("m1"))
    async with asyncio.timeout(10):
        while not store.calls["put"]:
            await asyncio.sleep(0)
    written.set()

    assert set(await asyncio.gather(first, second)) == {"stored", "kept"}
    assert store.calls["put"] == 1


async def test_a_store_that_cannot_be_asked_is_not_one_without_the_object(node: Node, store: ForgetfulStore) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")
    store.fail_next("head", StoreUnavailable())

    with pytest.raises(StoreUnavailable):
        await node.ingest("m1")
    assert node.origin.opened == {"p1": 1}


async def test_an_object_that_vanishes_while_it_is_adopted_is_stored_again(node: Node, store: ForgetfulStore) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")
    await node.register("m2", "p2", declared_sha256=sha256(PICTURE))
    looked = store.hang("open")
    job = asyncio.create_task(node.ingest("m2"))
    async with asyncio.timeout(10):
        while not store.calls["open"]:
            await asyncio.sleep(0)
    await store.delete("media/m1/p1")
    looked.set()

    assert await job == "stored"
    assert await node.objects() == {"media/m1/p1": PICTURE}


async def test_a_deletion_that_fails_is_repeated(node: Node, store: ForgetfulStore) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")
    await node.records.delete("m1")
    (object_id,) = await node.records.doomed_objects()
    store.fail_next("delete", StoreUnavailable())

    with pytest.raises(StoreUnavailable):
        await node.tasks.delete(object_id)
    assert await node.records.doomed_objects() == [object_id]
    await node.tasks.delete(object_id)
    assert await node.objects() == {}


async def test_an_object_in_a_store_that_is_not_configured_keeps_its_row(
    node: Node, engine: Database, tmp_path: Path
) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")
    await node.records.delete("m1")
    (object_id,) = await node.records.doomed_objects()
    async with open_node(tmp_path / "moved", engine, LocalStore(tmp_path / "moved" / "store")) as moved:
        with pytest.raises(StoreForbidden, match="memory"):
            await moved.tasks.delete(object_id)

    assert await node.records.doomed_objects() == [object_id]
    assert await node.objects() == {"media/m1/p1": PICTURE}


async def test_a_failure_that_comes_late_takes_nothing_back(node: Node) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")

    await node.tasks.fail("m1", Failure.of(OriginGone()), 3, dead=True)
    assert (await node.record("m1")).status is Status.COMPLETED


# Interruptions -------------------------------------------------------------------------------------------------------


class Interrupted:
    """Awaits a coroutine, and cancels the task that does so when it waits for the n-th time."""

    def __init__(self, work: Coroutine[Any, Any, str], at: int) -> None:
        self._work = work
        self._left = at

    def __await__(self) -> Generator[Any, Any, str]:
        task = asyncio.current_task()
        assert task is not None
        steps = self._work.__await__()
        step: Callable[[Any], Any] = steps.send
        value: Any = None
        while True:
            try:
                awaited = step(value)
            except StopIteration as done:
                result: str = done.value
                return result
            self._left -= 1
            if self._left == 0:
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                step, value = steps.send, (yield awaited)
            except BaseException as error:  # noqa: BLE001 whatever a task is thrown, its coroutine is
                step, value = steps.throw, error

    async def run(self) -> bool:
        """Tell whether the work was interrupted."""
        task = asyncio.ensure_future(self)
        await asyncio.wait([task])
        return task.cancelled()


@pytest.fixture
async def local(tmp_path: Path, engine: Database) -> AsyncIterator[Node]:
    async with open_node(tmp_path / "node", engine, LocalStore(tmp_path / "node" / "store")) as opened:
        yield opened


async def test_an_ingest_cancelled_at_any_await_is_completed_by_the_next_try(local: Node) -> None:
    expected: dict[str, bytes] = {}
    interrupted = True
    while interrupted:
        number = len(expected) + 1
        expected[f"media/m{number}/p{number}"] = local.origin.bodies[f"p{number}"] = jpeg(number)
        await local.register(f"m{number}", f"p{number}")
        interrupted = await Interrupted(local.ingest(f"m{number}"), number).run()
        assert await local.ingest(f"m{number}") in {"stored", "kept"}
        assert (await local.record(f"m{number}")).status is Status.COMPLETED

    assert len(expected) > 10  # it does wait more often than that
    assert await local.objects() == expected
    assert local.leftovers() == set()


async def test_a_deduplication_cancelled_at_any_await_leaves_one_object(local: Node) -> None:
    local.origin.bodies["p"] = PICTURE
    await local.register("first", "p")
    await local.ingest("first")
    number, interrupted = 0, True
    while interrupted:
        number += 1
        await local.register(f"m{number}", "p")
        interrupted = await Interrupted(local.ingest(f"m{number}"), number).run()
        assert await local.ingest(f"m{number}") in {"deduplicated", "kept"}

    assert await local.objects() == {"media/first/p": PICTURE}
    assert local.leftovers() == set()


async def test_a_deletion_cancelled_at_any_await_is_completed_by_the_next_try(local: Node) -> None:
    number, interrupted = 0, True
    while interrupted:
        number += 1
        local.origin.bodies[f"p{number}"] = jpeg(number)
        await local.register(f"m{number}", f"p{number}")
        await local.ingest(f"m{number}")
        await local.records.delete(f"m{number}")
        (object_id,) = await local.records.doomed_objects()
        interrupted = await Interrupted(_deleted(local, object_id), number).run()
        await local.tasks.delete(object_id)

    assert await local.objects() == {}
    assert await local.records.doomed_objects() == []


async def _deleted(node: Node, object_id: str) -> str:
    await node.tasks.delete(object_id)
    return "deleted"
