"""Objects and the messages that refer to them: nobody's bytes are kept, and nobody's are deleted who is referred to."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text, update

from storage import rows
from storage.database import Database, reading, writing
from storage.errors import RecordsError, RecordsUnavailable
from storage.record import Status, StoredObject
from storage.records import Records
from storage.schema import messages
from tests.messages import NOON, Clock, message, stored
from tests.running import eventually


@pytest.fixture
def records(engine: Database) -> Records:
    return Records(engine, clock=Clock())


async def adopt(records: Records, message_id: str, candidate: StoredObject) -> StoredObject:
    winner = await records.adopt(message_id, candidate, content_type="image/jpeg")
    assert winner is not None
    return winner


async def test_an_adopted_object_is_what_the_record_shows(records: Records) -> None:
    await records.add([message()])
    candidate = stored(size=2**40)
    assert await records.adopt("m1", candidate, content_type="image/png") == candidate
    record = await records.get("m1")
    assert record is not None
    assert record.stored == candidate
    assert (record.content_type, record.media_stored_at, record.status) == ("image/png", NOON, Status.PROCESSING)
    assert await records.find_object("w1", candidate.sha256) == candidate
    assert await records.find_by_key("local", candidate.key) == candidate


async def test_a_workspace_holds_the_same_content_once(records: Records) -> None:
    await records.add([message("m1"), message("m2")])
    first = await adopt(records, "m1", stored())
    assert await adopt(records, "m2", stored(key="media/m2/2")) == first
    assert await records.find_by_key("local", "media/m2/2") is None


async def test_workspaces_share_nothing(records: Records) -> None:
    await records.add([message("m1"), message("m2", workspace_id="w2")])
    first = await adopt(records, "m1", stored())
    second = await adopt(records, "m2", stored(workspace_id="w2", key="media/m2/2"))
    assert first.id != second.id
    assert await records.find_object("w3", first.sha256) is None


async def test_of_concurrent_adoptions_one_object_wins(records: Records) -> None:
    await records.add([message(f"m{number}") for number in range(10)])
    winners = await asyncio.gather(*(adopt(records, f"m{n}", stored(key=f"media/m{n}/1")) for n in range(10)))
    assert len({winner.id for winner in winners}) == 1


async def test_a_deleted_message_adopts_nothing(records: Records) -> None:
    await records.add([message()])
    await records.delete("m1")
    assert await records.adopt("m1", stored(), content_type="image/jpeg") is None
    assert await records.adopt("unknown", stored(), content_type="image/jpeg") is None
    assert await records.find_object("w1", stored().sha256) is None


async def test_a_message_that_adopts_another_object_lets_the_first_one_go(records: Records) -> None:
    await records.add([message()])
    first = await adopt(records, "m1", stored("a"))
    await adopt(records, "m1", stored("a"))  # the same once more
    assert await records.doomed_objects() == []
    await adopt(records, "m1", stored("b"))
    assert await records.doomed_objects() == [first.id]


# Deleted


async def test_an_object_goes_with_the_last_message_that_refers_to_it(records: Records) -> None:
    doomed: list[str] = []

    def note(_connection: Connection, ids: Sequence[str]) -> None:
        doomed.extend(ids)

    await records.add([message("m1"), message("m2")])
    known = await adopt(records, "m1", stored())
    await adopt(records, "m2", stored())
    assert await records.delete("m1", and_if_doomed=note)
    assert doomed == []
    assert await records.doomed(known.id) is None
    assert await records.delete("m2", and_if_doomed=note)
    assert doomed == [known.id]
    assert (await records.doomed(known.id)) is not None


async def test_a_deletion_tells_of_its_message_whatever_becomes_of_the_object(records: Records) -> None:
    told: list[str] = []

    def note(_connection: Connection, ids: Sequence[str]) -> None:
        told.extend(ids)

    await records.add([message("m1"), message("m2"), message("m3")])
    await adopt(records, "m1", stored())
    await adopt(records, "m2", stored())
    for name in ("m1", "m2", "m3", "m3", "unknown"):
        await records.delete(name, and_then=note)
    assert told == ["m1", "m2", "m3", "m3"]


async def test_the_messages_that_refer_to_an_object_come_in_pages(records: Records) -> None:
    await records.add([message(f"m{number}") for number in range(4)])
    for number in range(3):
        known = await adopt(records, f"m{number}", stored())
    assert await records.referring(known.id, limit=2) == ["m0", "m1"]
    assert await records.referring(known.id, after="m1", limit=2) == ["m2"]
    await records.delete("m0")
    assert await records.referring(known.id) == ["m1", "m2"]
    assert await records.referring("unknown") == []


async def test_deleting_leaves_a_tombstone(records: Records) -> None:
    await records.add([message()])
    await adopt(records, "m1", stored())
    await records.delete("m1")
    record = await records.get("m1")
    assert record is not None
    assert (record.deleted_at, record.stored) == (NOON, None)


async def test_deleting_again_or_the_unknown_does_nothing(records: Records) -> None:
    await records.add([message()])
    assert await records.delete("m1")
    assert not await records.delete("m1")
    assert not await records.delete("unknown")


async def test_a_deletion_is_not_recorded_without_its_job(records: Records) -> None:
    def fail(_connection: Connection, _ids: Sequence[str]) -> None:
        raise OSError

    await records.add([message()])
    known = await adopt(records, "m1", stored())
    with pytest.raises(RecordsUnavailable):
        await records.delete("m1", and_then=fail)
    with pytest.raises(RecordsUnavailable):
        await records.delete("m1", and_if_doomed=fail)
    record = await records.get("m1")
    assert record is not None
    assert record.deleted_at is None
    assert await records.doomed(known.id) is None


async def test_an_object_that_is_being_deleted_is_adopted_by_nobody(records: Records) -> None:
    await records.add([message("m1"), message("m2")])
    known = await adopt(records, "m1", stored())
    await records.delete("m1")
    with pytest.raises(RecordsUnavailable):
        await records.adopt("m2", stored(), content_type="image/jpeg")
    await records.bury(known.id)
    await adopt(records, "m2", stored())


async def test_only_what_is_doomed_is_buried(records: Records) -> None:
    await records.add([message()])
    known = await adopt(records, "m1", stored())
    await records.bury(known.id)
    assert await records.find_object("w1", known.sha256) == known


async def test_an_object_that_a_message_is_just_being_given_is_not_doomed(engine: Database, records: Records) -> None:
    # PostgreSQL checked for references as of before it had waited for the adoption, and the bytes were deleted.
    await records.add([message("m1"), message("m2")])
    known = await adopt(records, "m1", stored())
    async with writing(engine) as connection:  # an adoption by m2, up to its commit
        await rows.get_object(connection, "w1", known.sha256, lock=True)
        await connection.execute(update(messages).where(messages.c.message_id == "m2").values(object_id=known.id))
        deleting = asyncio.create_task(records.delete("m1"))
        await eventually(lambda: somebody_waits(engine))
    assert await deleting
    assert await records.doomed(known.id) is None


async def somebody_waits(engine: Database) -> bool:
    """Whether a transaction waits for a lock; on SQLite there is one lock, and every other writer waits for it."""
    if engine.dialect.name == "sqlite":
        return True
    async with reading(engine) as connection:
        return bool((await connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))).scalar_one())


Step = tuple[str, int, str]
STEPS = st.lists(st.tuples(st.sampled_from(["adopt", "delete", "register"]), st.integers(0, 2), st.sampled_from("ab")))


@given(STEPS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_happens_an_object_lives_as_long_as_it_is_referred_to(
    records: Records, steps: list[Step]
) -> None:
    workspace = uuid4().hex
    for action, number, content in steps:
        await _take(records, workspace, f"{workspace}-{number}", action, content)
    known = [await records.get(f"{workspace}-{number}") for number in range(3)]
    referred = {record.stored.sha256 for record in known if record is not None and record.stored is not None}
    for content in "ab":
        found = await records.find_object(workspace, stored(content).sha256)
        if found is not None:
            assert (found.deleted_at is None) == (found.sha256 in referred)


async def _take(records: Records, workspace: str, message_id: str, action: str, content: str) -> None:
    if action == "register":
        await records.register(message(message_id, workspace_id=workspace, provider_media_id=content))
    elif action == "delete":
        await records.delete(message_id)
    else:
        candidate = stored(content, workspace_id=workspace, key=f"{workspace}/{content}")
        try:
            await records.adopt(message_id, candidate, content_type="image/jpeg")
        except RecordsUnavailable:  # its bytes are being deleted: a worker does so, and buries it
            known = await records.find_object(workspace, candidate.sha256)
            assert known is not None
            await records.bury(known.id)


async def test_an_object_that_is_referred_to_cannot_be_forgotten(engine: Database, records: Records) -> None:
    await records.add([message()])
    await adopt(records, "m1", stored())
    with pytest.raises(RecordsError):
        await _execute(engine, "DELETE FROM objects")


async def _execute(engine: Database, statement: str) -> None:
    async with writing(engine) as connection:
        await connection.execute(text(statement))
