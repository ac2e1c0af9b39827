"""The feed of changes: every change that a reader could notice is told of, once it can be seen and not before."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from structlog.testing import capture_logs

from storage.cache import MAX_AGE, RecordCache, VariantCache
from storage.changes import MAX_NEWS, Feed, PostgresqlSource, following, prune, source_of
from storage.database import Database, open_engine, writing
from storage.errors import RecordsUnavailable
from storage.record import Processing, Status, Variant
from storage.records import Records
from storage.renditions import Renditions
from storage.schema import changes, messages
from tests.databases import Databases
from tests.messages import NOON, message, stored
from tests.running import until

OBJECT = stored(id="0" * 32)


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Database]:
    """The database as another process has it open."""
    opened = open_engine(database_url)
    yield opened
    await opened.dispose()


@pytest.fixture
async def records(other: Database) -> Records:
    """Through which another process changes things: a stored message, and one that is not."""
    records = Records(other)
    await records.add([message("m1"), message("m2")])
    await records.adopt("m1", OBJECT, content_type="image/jpeg")
    return records


def a_variant(name: str = "webp") -> Variant:
    return Variant(
        object_id=OBJECT.id,
        name=name,
        content_type="image/webp",
        size=1,
        sha256="f" * 64,
        backend="local",
        key=f"compressed/{name}",
        url=f"file:///{name}",
        recipe=1,
        created_at=NOON,
    )


# What is told ---------------------------------------------------------------------------------------------------------

Change = Callable[[Records, Renditions], Awaitable[object]]


async def settled(records: Records, renditions: Renditions) -> None:
    await renditions.settle("m1")
    await records.mark("m1", Status.COMPLETED)
    await renditions.settle("m1")


CHANGES: dict[str, tuple[Change, set[str]]] = {
    "a message is adopted": (lambda records, _: records.adopt("m2", OBJECT, content_type="a/b"), {"m2"}),
    "a message is marked": (lambda records, _: records.mark("m2", Status.FAILED, error="x"), {"m2"}),
    "a message is registered anew": (lambda records, _: records.register(message("m2", filename="x")), {"m2"}),
    "a message gets another medium": (
        lambda records, _: records.register(message("m1", provider_media_id="other")),
        {"m1", OBJECT.id},
    ),
    "a message is deleted": (lambda records, _: records.delete("m1"), {"m1", OBJECT.id}),
    "an object is relocated": (lambda records, _: records.relocate(replace(OBJECT, key="b")), {"m1", OBJECT.id}),
    "a variant is kept": (lambda _, renditions: renditions.keep(a_variant()), {OBJECT.id}),
    "facts are learned": (lambda _, renditions: renditions.learn(OBJECT.id, {"width": 1}), {OBJECT.id}),
    "an object is processed": (
        lambda _, renditions: renditions.finish(OBJECT.id, Processing.COMPLETED, recipe=1, keeping=[], error=None),
        {"m1", OBJECT.id},
    ),
    "an object is quarantined": (
        lambda _, renditions: renditions.finish(OBJECT.id, Processing.QUARANTINED, recipe=1, keeping=[], error=None),
        {"m1", OBJECT.id},
    ),
    "a message follows its object": (settled, {"m1"}),
    "a message is new": (lambda records, _: records.add([message("m3")]), set()),
    "a registration changes nothing": (lambda records, _: records.register(message("m2")), set()),
}


@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)
async def test_a_change_is_told(
    engine: Database, other: Database, records: Records, change: Change, told: set[str]
) -> None:
    source = source_of(engine)
    await source.news()

    await change(records, Renditions(other))

    assert set(await source.news() or ()) == told
    assert await source.news() == set()


async def test_a_variant_that_goes_is_told(engine: Database, other: Database, records: Records) -> None:
    renditions = Renditions(other)
    await renditions.keep(a_variant())
    source = source_of(engine)
    await source.news()

    await renditions.finish(OBJECT.id, Processing.COMPLETED, recipe=2, keeping=[], error=None)

    assert OBJECT.id in (await source.news() or ())


async def test_a_change_by_hand_is_told(engine: Database, other: Database, records: Records) -> None:
    source = source_of(engine)
    await source.news()
    async with writing(other) as connection:
        await connection.execute(text("UPDATE messages SET filename = 'x' WHERE message_id = 'm2'"))

    assert await source.news() == {"m2"}


async def test_what_is_rolled_back_is_not_told(engine: Database, other: Database, records: Records) -> None:
    source = source_of(engine)
    await source.news()
    async with other.connect() as connection:
        await connection.execute(messages.update().values(filename="x"))
        await connection.rollback()

    assert await source.news() == set()


async def test_the_first_look_knows_nothing(engine: Database, records: Records) -> None:
    source = source_of(engine)
    assert await source.news() is None
    assert await source.news() == set()


async def test_too_many_changes_put_everything_in_doubt(engine: Database, other: Database, records: Records) -> None:
    await records.add([message(f"many{number}") for number in range(MAX_NEWS)])
    source = source_of(engine)
    await source.news()
    async with writing(other) as connection:
        await connection.execute(messages.update().values(filename="x"))

    assert await source.news() is None
    assert await source.news() == set()


# When transactions take their time ------------------------------------------------------------------------------------


async def test_a_change_that_is_committed_after_a_later_one_is_told(
    postgresql_databases: Databases, tmp_path: Path
) -> None:
    engine = open_engine(postgresql_databases.new(tmp_path))
    records = Records(engine)
    await records.add([message("early"), message("late")])
    await records.mark("early", Status.PENDING)
    source = PostgresqlSource(engine)
    await source.news()
    async with writing(engine) as connection:
        await connection.execute(messages.update().where(messages.c.message_id == "late").values(filename="x"))
        await records.mark("early", Status.FAILED)

        assert await source.news() == {"early"}
        assert await source.news() == set()

    await records.mark("early", Status.PENDING)
    assert await source.news() == {"early", "late"}
    assert await source.news() == set()
    await engine.dispose()


async def test_a_server_that_has_counted_fewer_transactions_puts_everything_in_doubt(
    postgresql_databases: Databases, tmp_path: Path
) -> None:
    engine = open_engine(postgresql_databases.new(tmp_path))
    source = PostgresqlSource(engine)
    source._seen = f"{2**40 + 5}:{2**40 + 5}:"

    assert await source.news() is None
    assert await source.news() == set()
    await engine.dispose()


# Pruning --------------------------------------------------------------------------------------------------------------


async def count(engine: Database) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(select(func.count()).select_from(changes))).scalar_one())


async def test_old_news_are_pruned_but_the_newest(
    engine: Database, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.changes.PRUNE", 2)
    for _ in range(5):
        await records.mark("m1", Status.PENDING)
    before = await count(engine)

    assert await prune(engine, before=datetime.now(UTC) - timedelta(minutes=1)) == 0
    assert await prune(engine, before=datetime.now(UTC) + timedelta(minutes=1)) == before - 1
    assert await count(engine) == 1


async def test_who_was_away_while_news_were_pruned_is_told_to_doubt_everything(
    engine: Database, records: Records
) -> None:
    source = source_of(engine)
    await source.news()
    await records.mark("m1", Status.FAILED)
    await records.mark("m2", Status.FAILED)
    await prune(engine, before=datetime.now(UTC) + timedelta(minutes=1))

    assert await source.news() is None
    assert await source.news() == set()


async def test_what_was_seen_may_be_pruned(engine: Database, records: Records) -> None:
    source = source_of(engine)
    await source.news()
    await records.mark("m1", Status.FAILED)
    await source.news()
    await prune(engine, before=datetime.now(UTC) + timedelta(minutes=1))

    await records.mark("m2", Status.FAILED)

    assert await source.news() == {"m2"}


# Caches ---------------------------------------------------------------------------------------------------------------


class Time:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_another_process_change_is_seen_after_a_look(engine: Database, other: Database, records: Records) -> None:
    clock = Time()
    feed = Feed(source_of(engine), clock=clock)
    ours, variants = Records(engine), Renditions(engine)
    cached = RecordCache(ours.get, feed=feed, clock=clock)
    shown = VariantCache(variants.of, feed=feed, clock=clock)
    await feed.look()
    before, nothing = await cached.get("m1"), await shown.get(OBJECT.id)
    assert before is not None
    assert nothing == {}

    await Renditions(other).keep(a_variant())
    await Renditions(other).finish(OBJECT.id, Processing.QUARANTINED, recipe=1, keeping=["webp"], error=None)
    assert cached.peek("m1") is before
    await feed.look()

    assert cached.peek("m1") is None
    assert shown.peek(OBJECT.id) is None
    now = await cached.get("m1")
    assert now is not None
    assert now.stored is not None
    assert now.stored.processing_status == Processing.QUARANTINED
    assert set(await shown.get(OBJECT.id) or ()) == {"webp"}


async def test_while_the_feed_is_read_a_record_is_believed_for_minutes(engine: Database, records: Records) -> None:
    clock = Time()
    feed = Feed(source_of(engine), clock=clock)
    cached = RecordCache(Records(engine).get, feed=feed, clock=clock)
    await feed.look()
    known = await cached.get("m1")
    for _ in range(int(MAX_AGE) - 1):
        clock.now += 1
        await feed.look()
        assert cached.peek("m1") is known
    clock.now += 1

    assert cached.peek("m1") is None


class Broken:
    """A source that fails, or answers late, as long as it is told to."""

    def __init__(self) -> None:
        self.fails = False

    async def news(self) -> Collection[str]:
        if self.fails:
            raise RecordsUnavailable
        return ()


async def test_while_the_feed_fails_a_record_is_believed_for_two_seconds(engine: Database, records: Records) -> None:
    clock, source = Time(), Broken()
    feed = Feed(source, clock=clock)
    cached = RecordCache(Records(engine).get, feed=feed, clock=clock)
    await feed.look()
    await cached.get("m1")
    source.fails = True
    clock.now += 1.9
    with pytest.raises(RecordsUnavailable):
        await feed.look()
    assert cached.peek("m1") is not None
    clock.now += 0.2
    assert cached.peek("m1") is None

    source.fails = False
    await feed.look()

    assert cached.peek("m1") is not None  # nothing has changed, as we know now


async def test_a_feed_that_fails_is_logged_once_and_once_when_it_is_back() -> None:
    source, ages = Broken(), list[float]()
    feed = Feed(source, observe=ages.append)
    source.fails = True
    with capture_logs() as logged:
        following = asyncio.create_task(feed.follow(interval=0))
        await until(lambda: len(ages) > 3)
        source.fails = False
        await until(lambda: ages[-1] < 10)
        count = len(ages)
        await until(lambda: len(ages) > count + 3)
        following.cancel()
        await asyncio.wait([following])

    assert [entry["log_level"] for entry in logged] == ["warning", "info"]


async def test_a_look_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging:
        async def news(self) -> Collection[str]:
            await asyncio.Event().wait()
            return ()

    monkeypatch.setattr("storage.changes.PATIENCE", 0.01)
    feed = Feed(Hanging())
    with pytest.raises(TimeoutError):
        await feed.look()
    assert feed.current == -inf


async def test_a_feed_is_followed_while_it_is_open(engine: Database, records: Records) -> None:
    ages: list[float] = []
    async with following(engine, ages.append) as feed:
        await until(lambda: ages)
        assert feed.current > -inf
        tasks = {task.get_name() for task in asyncio.all_tasks()}
        assert "feed of changes" in tasks
    assert "feed of changes" not in {task.get_name() for task in asyncio.all_tasks()}
