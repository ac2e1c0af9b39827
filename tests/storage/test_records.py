"""Records of messages: added by webhooks, registered by the host application, read by id and by page."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from storage.database import Database, open_engine
from storage.errors import RecordConflict, RecordsError, RecordsUnavailable
from storage.record import Cursor, MediaRecord, Status
from storage.records import MAX_PAGE, Records
from tests.messages import NOON, Clock, message, stored
from tests.running import free_port


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def records(engine: Database, clock: Clock) -> Records:
    return Records(engine, clock=clock)


class Jobs:
    """Stands for what writes jobs inside the transaction; fails on demand."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.written: list[str] = []
        self._failure = failure

    def __call__(self, _connection: Connection, ids: Sequence[str]) -> None:
        if self._failure is not None:
            raise self._failure
        self.written += ids


async def get(records: Records, message_id: str = "m1") -> MediaRecord:
    record = await records.get(message_id)
    assert record is not None
    return record


async def store(records: Records, message_id: str = "m1", content: str = "a") -> None:
    assert await records.adopt(message_id, stored(content), content_type="image/jpeg") is not None
    await records.mark(message_id, Status.COMPLETED)


async def test_an_unknown_message_has_no_record(records: Records) -> None:
    assert await records.get("m1") is None


async def test_a_record_says_what_was_registered(records: Records) -> None:
    new = message(
        kind="document",
        filename="Ünïcode 漢字.pdf",
        declared_type="application/pdf",
        declared_sha256="ab" * 32,
        declared_size=2**40,
        conversation_id="15550002222",
        participants=("ana", "bob"),
        phone_number_id="200000000000002",
    )
    await records.add([new])
    record = await get(records)
    for name in new.__slots__:
        assert getattr(record, name) == getattr(new, name)
    assert (record.status, record.attempts, record.stored, record.deleted_at) == (Status.PENDING, 0, None, None)
    assert record.created_at == record.updated_at == NOON


async def test_moments_come_back_in_utc_whatever_zone_they_came_in(records: Records) -> None:
    moment = datetime(2026, 11, 9, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=-9)))
    await records.add([message(expires_at=moment)])
    expires_at = (await get(records)).expires_at
    assert expires_at == moment
    assert expires_at is not None
    assert expires_at.tzinfo == UTC


async def test_a_moment_without_a_zone_is_refused(records: Records) -> None:
    with pytest.raises(RecordsError):
        await records.add([message(expires_at=datetime(2026, 11, 9))])  # noqa: DTZ001 the mistake in question


# Added: what webhooks announce


async def test_adding_returns_what_was_new_in_its_order(records: Records) -> None:
    assert await records.add([message("b"), message("a")]) == ["b", "a"]
    assert await records.add([message("c"), message("a")]) == ["c"]
    assert await records.add([]) == []


async def test_a_message_twice_in_one_batch_is_one(records: Records) -> None:
    assert await records.add([message("a"), message("a")]) == ["a"]


async def test_a_message_that_is_known_stays_as_it_is(records: Records) -> None:
    await records.add([message(filename="first.jpg")])
    await records.add([message(filename="second.jpg", workspace_id="w2")])
    assert (await get(records)).filename == "first.jpg"


async def test_a_deleted_message_is_not_brought_back_by_a_repeated_webhook(records: Records) -> None:
    await records.add([message()])
    await records.delete("m1")
    assert await records.add([message()]) == []
    assert (await get(records)).deleted_at == NOON


async def test_jobs_are_written_for_what_is_new_and_can_be_fetched(records: Records) -> None:
    jobs = Jobs()
    await records.add([message("known")])
    lost = message("lost", provider_media_id=None, error="provider-undeliverable")
    added = await records.add([message("new"), message("known"), lost], and_then=jobs)
    assert added == ["new", "lost"]
    assert jobs.written == ["new"]
    assert (await get(records, "lost")).status is Status.FAILED


async def test_records_are_not_added_without_their_jobs(records: Records) -> None:
    locked = OperationalError("INSERT", {}, Exception("database is locked"))
    with pytest.raises(RecordsUnavailable):
        await records.add([message("a"), message("b")], and_then=Jobs(locked))
    assert await records.get("a") is None
    assert await records.add([message("a"), message("b")], and_then=Jobs()) == ["a", "b"]


async def test_of_concurrent_duplicates_one_is_new(records: Records) -> None:
    jobs = Jobs()
    added = await asyncio.gather(*(records.add([message()], and_then=jobs) for _ in range(20)))
    assert sorted(added) == [[]] * 19 + [["m1"]]
    assert jobs.written == ["m1"]


async def test_batches_that_overlap_crosswise_do_not_wait_for_each_other(records: Records) -> None:
    batch = [message(f"m{number}") for number in range(1500)]
    added = await asyncio.gather(*(records.add(batch[::step]) for step in (1, -1, 1, -1)))
    assert sum(map(len, added)) == len(batch)


async def test_a_thousand_messages_are_one_batch(records: Records) -> None:
    assert len(await records.add([message(f"m{number}") for number in range(1000)])) == 1000


# Registered: what the host application puts


async def test_registering_tells_new_from_unchanged_and_changed(records: Records) -> None:
    jobs = Jobs()
    _, created = await records.register(message(), and_then=jobs)
    assert created
    _, created = await records.register(message(), and_then=jobs)
    assert not created
    assert jobs.written == ["m1"]
    record, created = await records.register(message(filename="a.jpg"), and_then=jobs)
    assert not created
    assert record.filename == "a.jpg"
    assert jobs.written == ["m1", "m1"]


async def test_what_a_registration_leaves_out_stays(records: Records) -> None:
    await records.register(message(filename="a.jpg", participants=("ana",), declared_size=5))
    record, _ = await records.register(message(kind="video", declared_type=None))
    assert (record.kind, record.filename, record.declared_size) == ("video", "a.jpg", 5)
    assert record.declared_type == "image/jpeg"
    assert record.participants == ("ana",)


async def test_nobody_may_see_is_not_the_same_as_anybody(records: Records) -> None:
    await records.register(message(participants=("ana",)))
    record, _ = await records.register(message(participants=()))
    assert record.participants == ()


async def test_another_workspaces_message_is_not_touched(records: Records) -> None:
    await records.register(message())
    with pytest.raises(RecordConflict):
        await records.register(message(workspace_id="w2", filename="a.jpg"))
    assert (await get(records)).filename is None


async def test_another_medium_is_ingested_from_the_beginning(records: Records, clock: Clock) -> None:
    await records.register(message(declared_sha256="ab" * 32, filename="a.jpg", participants=("ana",)))
    await store(records)
    clock.advance(timedelta(days=1))
    expires_at = clock() + timedelta(days=7)
    other = message(provider_media_id="other", declared_type=None, kind=None, expires_at=expires_at)
    record, created = await records.register(other)
    assert not created
    assert (record.status, record.attempts, record.expires_at) == (Status.PENDING, 0, expires_at)
    # The first medium's hash would be looked for, and its bytes be taken for the other's.
    assert (record.declared_sha256, record.declared_type, record.kind, record.filename) == (None, None, None, None)
    assert (record.stored, record.content_type, record.media_stored_at) == (None, None, None)
    assert record.participants == ("ana",)
    assert len(await records.doomed_objects()) == 1


async def test_another_medium_is_told_from_every_other_change(records: Records) -> None:
    replaced = Jobs()
    for change in ({}, {}, {"filename": "a.jpg"}, {"provider_media_id": None}):
        await records.register(message(**change), and_if_replaced=replaced)
    await records.delete("m1")
    await records.register(message(), and_if_replaced=replaced)
    assert replaced.written == []
    await records.register(message(provider_media_id="other"), and_if_replaced=replaced)
    assert replaced.written == ["m1"]


async def test_no_medium_is_replaced_without_what_follows(records: Records) -> None:
    await records.register(message())
    with pytest.raises(RecordsUnavailable):
        await records.register(message(provider_media_id="other"), and_if_replaced=Jobs(OSError()))
    assert (await get(records)).provider_media_id == "media-of-m1"


async def test_a_deleted_message_is_registered_anew(records: Records) -> None:
    await records.register(message(filename="a.jpg", participants=("ana",), conversation_id="c1"))
    await store(records)
    await records.delete("m1")
    jobs = Jobs()
    record, created = await records.register(message(), and_then=jobs)
    assert created
    assert jobs.written == ["m1"]
    assert (record.deleted_at, record.status, record.stored) == (None, Status.PENDING, None)
    assert (record.filename, record.participants, record.conversation_id) == (None, None, None)


@pytest.mark.parametrize("is_deleted_first", [True, False])
async def test_another_medium_has_another_date(records: Records, clock: Clock, *, is_deleted_first: bool) -> None:
    await records.register(message())
    if is_deleted_first:
        await records.delete("m1")
    clock.advance(timedelta(minutes=5))
    await records.register(message(provider_media_id="another"))
    assert (await get(records)).created_at == clock.now


async def test_of_concurrent_registrations_one_is_new(records: Records) -> None:
    results = await asyncio.gather(*(records.register(message()) for _ in range(10)))
    assert sum(created for _, created in results) == 1


# Read


async def read_pages(records: Records, *, status: Status | None = None, limit: int) -> list[str]:
    found: list[str] = []
    cursor: Cursor | None = None
    while True:
        page, cursor = await records.page(workspace_id="w1", status=status, after=cursor, limit=limit)
        found += [record.message_id for record in page]
        if cursor is None:
            return found
        assert len(page) == limit
        cursor = Cursor.decode(cursor.encode())


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
async def test_pages_show_every_record_once_in_order_of_creation(records: Records, clock: Clock, limit: int) -> None:
    await records.add([message("b"), message("a"), message("c")])  # at one moment
    clock.advance(timedelta(microseconds=1))
    await records.add([message("0"), message("elsewhere", workspace_id="w2")])
    clock.advance(timedelta(days=1))
    await records.add([message("z"), message("y")])
    assert await read_pages(records, limit=limit) == ["a", "b", "c", "0", "y", "z"]


async def test_pages_may_be_of_one_status_and_leave_out_what_is_deleted(records: Records) -> None:
    await records.add([message(name) for name in "abcd"])
    await records.mark("b", Status.FAILED, error="media-expired")
    await records.mark("c", Status.FAILED, error="media-expired")
    await records.delete("c")
    assert await read_pages(records, status=Status.FAILED, limit=1) == ["b"]
    assert await read_pages(records, limit=10) == ["a", "b", "d"]


async def test_a_page_is_bounded_whatever_is_asked_for(records: Records) -> None:
    await records.add([message(f"m{number}") for number in range(MAX_PAGE + 1)])
    page, cursor = await records.page(limit=10**9)
    assert len(page) == MAX_PAGE
    assert cursor is not None
    page, _ = await records.page(limit=-1)
    assert len(page) == 1


async def test_a_database_that_is_gone_is_unavailable() -> None:
    engine = open_engine(f"postgresql://127.0.0.1:{free_port()}/media")
    records = Records(engine)
    for question in (records.check(), records.get("m1"), records.add([message()]), records.count_by_status()):
        with pytest.raises(RecordsUnavailable):
            await question
    await engine.dispose()


async def test_a_database_that_answers_passes_the_check(records: Records) -> None:
    await records.check()
