"""What upkeep and metrics ask of the records: what was forgotten, what will be lost, what is."""

from datetime import timedelta

import pytest

from storage.database import Database
from storage.record import Status
from storage.records import FINAL, Records
from tests.messages import NOON, Clock, message, stored

IDLE = timedelta(minutes=10)
REVIVE = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def records(engine: Database, clock: Clock) -> Records:
    return Records(engine, clock=clock)


async def unfinished(records: Records, limit: int = 500) -> list[str]:
    return await records.unfinished(idle=IDLE, revive=REVIVE, limit=limit)


async def fail(records: Records, message_id: str, error: str = "provider-error") -> None:
    await records.mark(message_id, Status.FAILED, error=error, attempt=4)


async def test_a_mark_keeps_status_reason_and_tries(records: Records) -> None:
    await records.add([message()])
    await fail(records, "m1", "provider-busy")
    record = await records.get("m1")
    assert record is not None
    assert (record.status, record.error, record.attempts) == (Status.FAILED, "provider-busy", 4)
    await records.mark("m1", Status.PENDING)
    record = await records.get("m1")
    assert record is not None
    assert (record.status, record.error, record.attempts) == (Status.PENDING, None, 0)


@pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING])
async def test_what_nothing_has_touched_for_a_while_needs_a_job(records: Records, clock: Clock, status: Status) -> None:
    await records.add([message()])
    await records.mark("m1", status)
    clock.advance(IDLE)
    assert await unfinished(records) == []
    clock.advance(timedelta(seconds=1))
    assert await unfinished(records) == ["m1"]


async def test_what_failed_is_tried_again_while_the_provider_may_have_it(records: Records, clock: Clock) -> None:
    await records.add([message(expires_at=NOON + 2 * REVIVE)])
    await fail(records, "m1")
    clock.advance(REVIVE)
    assert await unfinished(records) == []
    clock.advance(timedelta(seconds=1))
    assert await unfinished(records) == ["m1"]
    clock.advance(REVIVE)
    assert await unfinished(records) == []


@pytest.mark.parametrize("error", FINAL)
async def test_what_the_provider_will_never_have_is_not_asked_for_again(
    records: Records, clock: Clock, error: str
) -> None:
    await records.add([message()])
    await fail(records, "m1", error)
    clock.advance(2 * REVIVE)
    assert await unfinished(records) == []


async def test_what_is_completed_deleted_or_nowhere_to_be_had_is_left_alone(records: Records, clock: Clock) -> None:
    await records.add([message("completed"), message("deleted"), message("nowhere", provider_media_id=None)])
    await records.mark("completed", Status.COMPLETED)
    await records.delete("deleted")
    clock.advance(2 * REVIVE)
    assert await unfinished(records) == []


async def test_the_nearest_expiry_comes_first(records: Records, clock: Clock) -> None:
    days = {"c": 3, "a": 1, "d": 4, "b": 2}
    await records.add([message(name, expires_at=NOON + number * DAY) for name, number in days.items()])
    await fail(records, "b")
    clock.advance(2 * REVIVE)
    assert await unfinished(records) == ["a", "b", "c", "d"]
    assert await unfinished(records, limit=2) == ["a", "b"]


async def test_doomed_objects_are_named_the_longest_doomed_first(records: Records, clock: Clock) -> None:
    objects: list[str] = []
    await records.add([message(name) for name in "abc"])
    for name in "cab":
        adopted = await records.adopt(name, stored(name), content_type="image/jpeg")
        assert adopted is not None
        objects.append(adopted.id)
        await records.delete(name)
        clock.advance(DAY)
    assert await records.doomed_objects() == objects
    assert await records.doomed_objects(limit=1) == objects[:1]


async def test_media_are_counted_by_status(records: Records) -> None:
    await records.add([message(name) for name in "abcd"])
    await fail(records, "b")
    await records.mark("c", Status.COMPLETED)
    await records.delete("d")
    assert await records.count_by_status() == {"pending": 1, "failed": 1, "completed": 1}


async def test_what_will_be_lost_within_a_day_is_counted(records: Records, clock: Clock) -> None:
    soon, later = NOON + DAY, NOON + DAY + timedelta(seconds=1)
    names = ("soon", "failed", "stored", "deleted")
    await records.add([*(message(name, expires_at=soon) for name in names), message("later", expires_at=later)])
    await fail(records, "failed")
    await records.adopt("stored", stored(), content_type="image/jpeg")
    await records.delete("deleted")
    assert await records.count_expiring(DAY) == 2
    clock.advance(timedelta(seconds=1))
    assert await records.count_expiring(DAY) == 3
    clock.advance(2 * DAY)
    assert await records.count_expiring(DAY) == 0


async def test_what_is_lost_is_counted(records: Records) -> None:
    lost = message("undeliverable", provider_media_id=None, error="provider-undeliverable")
    await records.add([lost, *(message(name) for name in ("expired", "failed", "deleted", "stored"))])
    await records.adopt("stored", stored(), content_type="image/jpeg")
    for name in ("expired", "deleted", "stored"):
        await fail(records, name, "media-expired")
    await fail(records, "failed")
    await records.delete("deleted")
    assert await records.count_lost() == 2
