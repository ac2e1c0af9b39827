"""What the jobs do, step by step, on both databases: stored, deduplicated, kept, deleted."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection

from ingest.tasks import Failure, next_delay
from storage.database import Database
from storage.errors import OriginBusy, OriginGone, OriginLied, RecordsUnavailable, StoreFull
from storage.local import LocalStore
from storage.memory import MemoryStore
from storage.record import Status
from tests.ingest.node import Node, ScriptedOrigin, jpeg, open_node, sha256

PICTURE, OTHER = jpeg(1), jpeg(2)


@pytest.fixture(params=["local", "memory"])
async def node(request: pytest.FixtureRequest, tmp_path: Path, engine: Database) -> AsyncIterator[Node]:
    store = LocalStore(tmp_path / "node" / "store") if request.param == "local" else MemoryStore()
    origin = ScriptedOrigin(bodies={"p1": PICTURE, "p2": PICTURE, "other": OTHER})
    async with open_node(tmp_path / "node", engine, store, origin) as opened:
        yield opened


# Stored --------------------------------------------------------------------------------------------------------------


async def test_a_medium_is_stored_under_its_message_and_recorded(node: Node) -> None:
    await node.register("m1", "p1")

    assert await node.ingest("m1") == "stored"

    record = await node.record("m1")
    assert await node.objects() == {"media/m1/p1": PICTURE}
    assert record.status is Status.COMPLETED
    assert record.content_type == "image/jpeg"
    assert record.stored is not None
    assert (record.stored.sha256, record.stored.size) == (sha256(PICTURE), len(PICTURE))
    assert record.stored.url == node.store.url("media/m1/p1")
    assert node.leftovers() == set()


async def test_an_empty_medium_is_stored_too(node: Node) -> None:
    node.origin.bodies["empty"] = b""
    await node.register("m1", "empty")

    assert await node.ingest("m1") == "stored"
    assert await node.objects() == {"media/m1/empty": b""}


async def test_a_record_is_completed_only_by_publish(node: Node) -> None:
    await node.register("m1", "p1")
    await node.tasks.original("m1", fresh=True)

    assert (await node.record("m1")).status is Status.PROCESSING


async def test_what_is_stored_already_is_kept(node: Node) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")

    assert await node.ingest("m1") == "kept"
    assert node.origin.opened == {"p1": 1}


async def test_two_jobs_of_one_message_at_once_download_it_once(node: Node) -> None:
    await node.register("m1", "p1")

    outcomes = await asyncio.gather(node.ingest("m1"), node.ingest("m1"))

    assert set(outcomes) <= {"stored", "kept"}
    assert node.origin.opened == {"p1": 1}
    assert await node.objects() == {"media/m1/p1": PICTURE}


async def test_a_message_that_nobody_knows_is_nothing_to_do(node: Node) -> None:
    assert await node.ingest("unknown") == "deleted"


async def test_only_the_first_attempt_makes_the_provider_be_asked_again(node: Node) -> None:
    await node.register("m1", "gone")
    for attempt in range(3):
        with pytest.raises(OriginGone):
            await node.tasks.original("m1", fresh=attempt == 0)

    assert [ref.provider_media_id for ref in node.forgotten] == ["gone"]


# Deduplicated --------------------------------------------------------------------------------------------------------


async def test_the_same_content_is_one_object_for_two_messages(node: Node) -> None:
    await node.register("m1", "p1")
    await node.register("m2", "p2")

    assert [await node.ingest("m1"), await node.ingest("m2")] == ["stored", "deduplicated"]

    first, second = await node.record("m1"), await node.record("m2")
    assert await node.objects() == {"media/m1/p1": PICTURE}
    assert first.stored == second.stored
    assert second.status is Status.COMPLETED
    assert node.leftovers() == set()


async def test_a_declared_hash_that_the_workspace_has_saves_the_download(node: Node) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")
    await node.register("m2", "p2", declared_sha256=sha256(PICTURE))

    assert await node.ingest("m2") == "deduplicated"
    assert node.origin.opened == {"p1": 1}
    assert (await node.record("m2")).content_type == "image/jpeg"


async def test_another_workspace_never_shares_an_object(node: Node) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")
    await node.register("m2", "p2", workspace_id="w2", declared_sha256=sha256(PICTURE))

    assert await node.ingest("m2") == "stored"
    assert await node.objects() == {"media/m1/p1": PICTURE, "media/m2/p2": PICTURE}


async def test_twins_at_once_end_as_one_object(node: Node) -> None:
    messages = [f"m{number}" for number in range(6)]
    for message_id in messages:
        await node.register(message_id, "p1")

    outcomes = await asyncio.gather(*map(node.ingest, messages))

    assert outcomes.count("stored") == 1
    assert outcomes.count("deduplicated") == 5
    assert list((await node.objects()).values()) == [PICTURE]
    assert len({(await node.record(message_id)).stored for message_id in messages}) == 1


async def test_twins_on_two_machines_end_as_one_object(node: Node, engine: Database, tmp_path: Path) -> None:
    async with open_node(tmp_path / "elsewhere", engine, node.store, node.origin) as elsewhere:
        await node.register("m1", "p1")
        await node.register("m2", "p2")

        outcomes = await asyncio.gather(node.ingest("m1"), elsewhere.ingest("m2"))

        assert sorted(outcomes) == ["deduplicated", "stored"]
        assert list((await node.objects()).values()) == [PICTURE]
        assert elsewhere.leftovers() == set()


# Missing and damaged objects -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [None, sha256(PICTURE)], ids=["undeclared", "declared"])
async def test_an_object_that_is_missing_is_stored_again_for_all_its_messages(node: Node, declared: str | None) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")
    await node.store.delete("media/m1/p1")
    await node.register("m2", "p2", declared_sha256=declared)

    assert await node.ingest("m2") == "stored"
    assert await node.objects() == {"media/m1/p1": PICTURE}
    assert (await node.record("m1")).stored == (await node.record("m2")).stored


async def test_an_object_that_has_lost_bytes_is_replaced(node: Node, tmp_path: Path) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")
    half = tmp_path / "half"
    half.write_bytes(PICTURE[:1000])
    await node.store.delete("media/m1/p1")
    await node.store.put("media/m1/p1", half, content_type="image/jpeg")

    assert await node.ingest("m1") == "stored"
    assert await node.objects() == {"media/m1/p1": PICTURE}


class Bucket(MemoryStore):
    """Another store than the one that the records name."""

    backend = "s3"


async def test_what_lies_in_a_store_that_is_not_configured_waits_there(
    node: Node, engine: Database, tmp_path: Path
) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")
    async with open_node(tmp_path / "moved", engine, Bucket(), node.origin) as moved:
        assert await moved.ingest("m1") == "kept"
        assert await moved.objects() == {}
    assert await node.objects() == {"media/m1/p1": PICTURE}


async def test_content_that_lies_in_a_store_that_is_not_configured_moves_with_the_next_message(
    node: Node, engine: Database, tmp_path: Path
) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")
    async with open_node(tmp_path / "moved", engine, Bucket(), node.origin) as moved:
        await moved.register("m2", "p2", declared_sha256=sha256(PICTURE))
        assert await moved.ingest("m2") == "stored"
        assert await moved.objects() == {"media/m2/p2": PICTURE}
        first, second = (await moved.record("m1")).stored, (await moved.record("m2")).stored
        assert first == second
        assert second is not None
        assert (second.backend, second.url) == ("s3", moved.store.url("media/m2/p2"))


# Keys are write-once -------------------------------------------------------------------------------------------------


async def test_a_message_that_comes_again_with_other_content_takes_nothing_from_those_that_share_the_old_one(
    node: Node,
) -> None:
    await node.register("m1", "p1")
    await node.register("m2", "p2")
    await node.ingest("m1")
    await node.ingest("m2")  # refers to the object below m1's key
    await node.records.delete("m1")
    node.origin.bodies["p1"] = OTHER
    await node.register("m1", "p1")

    assert await node.ingest("m1") == "stored"

    assert await node.objects() == {"media/m1/p1": PICTURE, f"media/m1/p1~{sha256(OTHER)[:16]}": OTHER}
    first, second = (await node.record("m1")).stored, (await node.record("m2")).stored
    assert first is not None
    assert second is not None
    assert (first.sha256, second.sha256) == (sha256(OTHER), sha256(PICTURE))


async def test_a_message_that_comes_again_with_another_medium_lets_the_old_one_go(node: Node) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")
    await node.register("m1", "other")

    assert await node.ingest("m1") == "stored"
    for object_id in await node.records.doomed_objects():
        await node.tasks.delete(object_id)
    assert await node.objects() == {"media/m1/other": OTHER}


async def test_a_message_that_gets_another_medium_while_the_first_one_is_fetched_is_about_the_other(node: Node) -> None:
    node.origin.gate = asyncio.Event()
    await node.register("m1", "p1")
    late = asyncio.create_task(node.ingest("m1"))
    await node.origin.waiting.wait()
    await node.register("m1", "other")
    node.origin.gate.set()

    assert await late == "deleted"
    assert await node.ingest("m1") == "stored"
    assert await node.objects() == {"media/m1/other": OTHER}
    assert node.leftovers() == set()


# Deleted -------------------------------------------------------------------------------------------------------------


async def _delete(node: Node, message_id: str) -> list[str]:
    """Delete a message as the registry does; return the objects that are doomed by it."""
    doomed: list[str] = []

    def note(_: Connection, ids: Sequence[str]) -> None:
        doomed.extend(ids)

    await node.records.delete(message_id, and_if_doomed=note)
    return doomed


async def test_a_message_deleted_before_its_job_is_not_downloaded(node: Node) -> None:
    await node.register("m1", "p1")
    await _delete(node, "m1")

    assert await node.ingest("m1") == "deleted"
    assert node.origin.opened == {}


async def test_a_message_deleted_during_its_download_leaves_nothing(node: Node) -> None:
    node.origin.gate = asyncio.Event()
    await node.register("m1", "p1")
    job = asyncio.create_task(node.ingest("m1"))
    await node.origin.waiting.wait()
    await _delete(node, "m1")
    node.origin.gate.set()

    assert await job == "deleted"
    assert await node.objects() == {}
    assert node.leftovers() == set()


async def test_a_message_deleted_between_its_storage_and_its_publication_stays_deleted(node: Node) -> None:
    await node.register("m1", "p1")
    await node.tasks.original("m1", fresh=True)
    (object_id,) = await _delete(node, "m1")
    await node.tasks.publish("m1")
    await node.tasks.delete(object_id)

    record = await node.record("m1")
    assert record.deleted_at is not None
    assert record.status is not Status.COMPLETED
    assert await node.objects() == {}
    assert node.leftovers() == set()


async def test_an_object_goes_with_the_last_message_that_refers_to_it(node: Node) -> None:
    await node.register("m1", "p1")
    await node.register("m2", "p2")
    await node.ingest("m1")
    await node.ingest("m2")

    assert await _delete(node, "m1") == []
    (object_id,) = await _delete(node, "m2")
    await node.tasks.delete(object_id)

    assert await node.objects() == {}
    assert await node.records.find_object("w", sha256(PICTURE)) is None


async def test_the_deletion_of_an_object_can_be_repeated(node: Node) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")
    (object_id,) = await _delete(node, "m1")

    await node.tasks.delete(object_id)
    await node.tasks.delete(object_id)
    assert await node.objects() == {}


async def test_an_object_that_messages_refer_to_is_not_deleted(node: Node) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")
    stored = (await node.record("m1")).stored
    assert stored is not None

    await node.tasks.delete(stored.id)
    assert await node.objects() == {"media/m1/p1": PICTURE}


async def test_the_same_content_comes_back_only_after_its_deletion_is_over(node: Node) -> None:
    await node.register("m1", "p1")
    await node.ingest("m1")
    (object_id,) = await _delete(node, "m1")
    await node.register("m2", "p2")
    with pytest.raises(RecordsUnavailable):
        await node.tasks.original("m2", fresh=True)
    await node.tasks.delete(object_id)

    assert await node.ingest("m2") == "stored"
    assert await node.objects() == {"media/m2/p2": PICTURE}


# Failures ------------------------------------------------------------------------------------------------------------


async def test_a_failure_is_recorded_and_the_last_one_is_final(node: Node) -> None:
    await node.register("m1", "gone")
    failure = Failure.of(OriginGone())

    await node.tasks.fail("m1", failure, 0, dead=False)
    waiting = await node.record("m1")
    await node.tasks.fail("m1", failure, 1, dead=True)
    dead = await node.record("m1")

    assert (waiting.status, waiting.error, waiting.attempts) == (Status.PENDING, "media-expired", 1)
    assert (dead.status, dead.error, dead.attempts) == (Status.FAILED, "media-expired", 2)


@pytest.mark.parametrize(
    ("error", "attempt", "delay"),
    [
        (OriginLied(), 0, 10),
        (OriginLied(), 1, 30),
        (OriginLied(), 2, 60),
        (OriginLied(), 3, None),
        (StoreFull(), 0, 10),
        (OriginBusy(retry_after=300), 0, 300),
        (OriginBusy(retry_after=3), 0, 10),
        (OriginBusy(retry_after=300), 3, None),
        (OriginGone(), 0, None),
    ],
    ids=[
        "the first delay",
        "the second delay",
        "the third delay",
        "no more attempts",
        "a full store may have room later",
        "the provider says when to come back",
        "but never sooner than we would",
        "nor more often",
        "what is gone stays gone",
    ],
)
def test_the_next_attempt(error: OriginLied, attempt: int, delay: float | None) -> None:
    assert next_delay(Failure.of(error), attempt, (10.0, 30.0, 60.0)) == delay
