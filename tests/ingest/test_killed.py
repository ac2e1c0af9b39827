"""A worker that is killed before any of its changes of disk or database: the next one finishes, and nothing is left."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from storage.database import Database, open_engine
from storage.local import LocalStore
from storage.record import Status
from tests.databases import Databases
from tests.ingest import mortal
from tests.ingest.node import Node, ScriptedOrigin, jpeg, open_node

PICTURE = jpeg(0)


@pytest.fixture
async def engine(tmp_path: Path, sqlite_databases: Databases) -> AsyncIterator[Database]:
    opened = open_engine(sqlite_databases.new(tmp_path))
    yield opened
    await opened.dispose()


@pytest.fixture
async def node(tmp_path: Path, engine: Database) -> AsyncIterator[Node]:
    origin = ScriptedOrigin(bodies={"p": PICTURE} | {f"p{number}": jpeg(number) for number in range(100)})
    async with open_node(tmp_path, engine, LocalStore(tmp_path / "store"), origin) as opened:
        yield opened


async def _left(node: Node) -> set[str]:
    """Name what is left once drafts, which the next worker sweeps when they are old, are gone."""
    await LocalStore(node.folder / "store").sweep(timedelta(0))
    return node.leftovers()


async def test_an_ingest_is_finished_by_the_next_worker(node: Node, tmp_path: Path) -> None:
    number, alive = 0, False
    while not alive:
        number += 1
        await node.register(f"m{number}", f"p{number}")
        alive = await mortal.survives(mortal.ingest, tmp_path, node.origin.bodies, f"m{number}", number)
        assert await node.ingest(f"m{number}") in {"stored", "kept"}
        assert (await node.record(f"m{number}")).status is Status.COMPLETED

    assert number > 10  # it does change more than that
    assert await node.objects() == {f"media/m{each}/p{each}": jpeg(each) for each in range(1, number + 1)}
    assert await _left(node) == set()


async def test_a_deduplication_is_finished_by_the_next_worker(node: Node, tmp_path: Path) -> None:
    await node.register("first", "p")
    await node.ingest("first")
    number, alive = 0, False
    while not alive:
        number += 1
        await node.register(f"m{number}", "p")
        alive = await mortal.survives(mortal.ingest, tmp_path, node.origin.bodies, f"m{number}", number)
        assert await node.ingest(f"m{number}") in {"deduplicated", "kept"}

    assert await node.objects() == {"media/first/p": PICTURE}
    assert await _left(node) == set()


async def test_the_ingest_of_a_message_that_is_deleted_meanwhile_leaves_nothing(node: Node, tmp_path: Path) -> None:
    number, alive = 0, False
    while not alive:
        number += 1
        await node.register(f"m{number}", f"p{number}")
        alive = await mortal.survives(mortal.ingest, tmp_path, node.origin.bodies, f"m{number}", number)
        await node.records.delete(f"m{number}")
        assert await node.ingest(f"m{number}") == "deleted"
        for object_id in await node.records.doomed_objects():
            await node.tasks.delete(object_id)

    assert await node.objects() == {}
    assert await _left(node) == set()


async def test_a_deletion_is_finished_by_the_next_worker(node: Node, tmp_path: Path) -> None:
    number, alive = 0, False
    while not alive:
        number += 1
        await node.register(f"m{number}", f"p{number}")
        await node.ingest(f"m{number}")
        await node.records.delete(f"m{number}")
        (object_id,) = await node.records.doomed_objects()
        alive = await mortal.survives(mortal.delete, tmp_path, {}, object_id, number)
        await node.tasks.delete(object_id)

    assert await node.objects() == {}
    assert await node.records.doomed_objects() == []
