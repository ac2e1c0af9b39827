"""The durable queue on both databases: jobs with their records or after them, counted, cancelled and forgotten."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time
from typing import Any

import pytest
from sqlalchemy import Connection, event

from ingest.queue import DELETE, FILMS, HIGH, INGEST, LOW, PROCESSING, PURGES, UPKEEP, Queue
from storage.database import Database
from storage.errors import RecordsUnavailable
from storage.records import InTransaction, Records
from tests.databases import Databases
from tests.messages import message
from tests.running import free_port


@pytest.fixture
async def queue(database_url: str) -> AsyncIterator[Queue]:
    """A queue in the records' own database."""
    async with Queue(database_url, records_url=database_url) as opened:
        yield opened


@pytest.fixture
def records(engine: Database) -> Records:
    return Records(engine)


async def subjects(queue: Queue) -> list[str]:
    return [job.subject for job in await queue.jobs()]


async def within(queue: Queue, kind: str = INGEST) -> InTransaction:
    hook = await queue.within(kind)
    assert hook is not None
    return hook


# With the records


async def test_records_and_their_jobs_become_durable_together(queue: Queue, records: Records) -> None:
    await records.add([message("a"), message("b")], and_then=await within(queue))
    assert sorted(await subjects(queue)) == ["a", "b"]


async def test_without_the_records_there_are_no_jobs(queue: Queue, records: Records) -> None:
    hook = await within(queue)

    def fails_late(connection: Connection, ids: Sequence[str]) -> None:
        hook(connection, ids)
        raise OSError

    with pytest.raises(RecordsUnavailable):
        await records.add([message("a")], and_then=fails_late)
    assert await subjects(queue) == []
    assert await records.get("a") is None


async def test_what_was_written_with_the_records_is_not_written_after_them(queue: Queue) -> None:
    await queue.after(INGEST, ["a"])
    assert await subjects(queue) == []


# Elsewhere


@pytest.fixture(params=["sqlite", "postgresql"])
async def elsewhere(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> AsyncIterator[Queue]:
    """A queue in another database than the records', of either kind."""
    provided: Databases = request.getfixturevalue(f"{request.param}_databases")
    async with Queue(provided.new(tmp_path / "queue"), records_url=database_url) as opened:
        yield opened


async def test_a_queue_elsewhere_is_written_after_the_records(elsewhere: Queue) -> None:
    assert await elsewhere.within(INGEST) is None
    await elsewhere.after(INGEST, ["a", "b"])
    await elsewhere.after(INGEST, ["a", "b"])
    assert sorted(await subjects(elsewhere)) == ["a", "b"]


async def test_the_same_database_is_known_by_any_driver() -> None:
    async with Queue("postgresql://u@h/media", records_url="postgresql+psycopg://u@h/media") as queue:
        assert await queue.within(INGEST) is not None


# Jobs


async def test_a_job_is_shown_as_it_was_written(queue: Queue) -> None:
    before = time() - 1
    await queue.enqueue(DELETE, "object", LOW)
    (job,) = await queue.jobs()
    assert (job.kind, job.subject, job.queue, job.status) == (DELETE, "object", LOW, "ENQUEUED")
    assert (job.attempt, job.error) == (0, None)
    assert before <= job.created_at <= time() + 1


async def test_the_same_job_is_not_written_twice(queue: Queue) -> None:
    for kind, subject in [(INGEST, "a"), (INGEST, "a"), (INGEST, "b"), (DELETE, "a"), (DELETE, "a")]:
        await queue.enqueue(kind, subject)
    assert len(await queue.jobs()) == 3


async def test_a_job_that_must_not_be_taken_for_another_is_written_beside_it(queue: Queue) -> None:
    for _ in range(2):
        await queue.enqueue(INGEST, "a", once=False)
    assert await subjects(queue) == ["a", "a"]


async def test_a_job_may_have_to_wait_wherever_it_was_written(queue: Queue, records: Records) -> None:
    hook = await queue.within(DELETE, LOW, delay=60.0)
    assert hook is not None
    await records.add([message("a")], and_then=hook)
    await queue.enqueue(INGEST, "b", delay=60.0)
    await queue.enqueue(INGEST, "c")
    assert {job.subject: job.status for job in await queue.jobs()} == {
        "a": "DELAYED",
        "b": "DELAYED",
        "c": "ENQUEUED",
    }


async def test_of_concurrent_duplicates_one_is_written(queue: Queue) -> None:
    await asyncio.gather(*(queue.enqueue(INGEST, "a") for _ in range(20)))
    assert await subjects(queue) == ["a"]


async def test_a_job_that_has_ended_may_be_written_again(queue: Queue) -> None:
    await queue.enqueue(INGEST, "a")
    (first,) = await queue.jobs()
    await queue.cancel(first.id)
    assert await queue.jobs() == []
    await queue.enqueue(INGEST, "a")
    (second,) = await queue.jobs()
    assert second.id != first.id


async def test_jobs_are_shown_by_status_up_to_a_limit(queue: Queue) -> None:
    for number in range(3):
        await queue.enqueue(INGEST, str(number))
    cancelled = (await queue.jobs(limit=1))[0]
    await queue.cancel(cancelled.id)
    assert len(await queue.jobs()) == 2
    assert [job.id for job in await queue.jobs(status=["CANCELLED"])] == [cancelled.id]


async def test_a_job_that_is_forgotten_is_gone(queue: Queue) -> None:
    await queue.enqueue(INGEST, "a")
    await queue.forget([job.id for job in await queue.jobs()])
    await queue.forget([])
    assert await queue.jobs() == []


async def test_jobs_that_ended_long_ago_are_pruned(queue: Queue) -> None:
    await queue.enqueue(INGEST, "cancelled")
    await queue.cancel((await queue.jobs())[0].id)
    await queue.enqueue(INGEST, "waiting")
    now = datetime.now(UTC)
    assert await queue.prune(completed_before=(now - timedelta(hours=1)).isoformat()) == 0
    assert await queue.prune(completed_before=(now + timedelta(hours=1)).isoformat()) == 1
    assert [job.subject for job in await queue.jobs(status=["CANCELLED", "ENQUEUED"])] == ["waiting"]


async def test_the_backlog_says_how_much_waits_and_since_when(queue: Queue) -> None:
    before = time() - 1
    empty = await queue.backlog()
    assert {(each.depth, each.oldest) for each in empty} == {(0, None)}
    assert [each.queue for each in empty] == [HIGH, LOW, PROCESSING, FILMS, PURGES]
    await queue.enqueue(INGEST, "a", HIGH)
    await queue.enqueue(INGEST, "b", HIGH)
    high, low, *_ = await queue.backlog()
    assert (high.queue, high.depth, low.depth) == (HIGH, 2, 0)
    assert high.oldest is not None
    assert before <= high.oldest <= time() + 1


async def test_what_is_delayed_or_has_another_priority_counts_too(queue: Queue) -> None:
    await queue.enqueue(INGEST, "upkeep", HIGH, priority=UPKEEP)
    written = time()
    await queue.enqueue(INGEST, "later", LOW, delay=60)
    await queue.enqueue(INGEST, "a", HIGH)

    high, low, *_ = await queue.backlog()

    assert (high.depth, low.depth) == (2, 1)
    assert high.oldest is not None
    assert high.oldest <= written + 0.001
    assert low.oldest is not None


async def test_a_long_backlog_is_counted_up_to_a_bound(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.queue.COUNTED", 2)
    for subject in "abc":
        await queue.enqueue(INGEST, subject, HIGH)

    high, *_ = await queue.backlog()

    assert high.depth == 2


async def test_no_question_about_the_backlog_reads_the_whole_queue(queue: Queue) -> None:
    asked: list[tuple[str, Any]] = []
    event.listen(queue._engine, "before_cursor_execute", lambda *args: asked.append((args[2], args[3])))
    await queue.backlog()
    await queue.check()

    sqlite = queue._engine.dialect.name == "sqlite"
    with queue._engine.connect() as connection:
        if not sqlite:
            connection.exec_driver_sql("SET enable_seqscan = off")  # of an empty table, a planner reads all
        for statement, parameters in asked[:]:
            if "LIMIT 1" in statement or "count" in statement:
                explain = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
                plan = [str(row[-1]) for row in connection.exec_driver_sql(f"{explain} {statement}", parameters)]
                assert any("INDEX" in step.upper() for step in plan), (statement, plan)
                assert not any("TEMP B-TREE" in step or "Sort" in step for step in plan), (statement, plan)


# Bad days


async def every_question_is_refused(queue: Queue) -> None:
    async with queue:
        questions = [queue.enqueue(INGEST, "a"), queue.jobs(), queue.backlog(), queue.check(), queue.cancel("id")]
        for question in questions:
            with pytest.raises(RecordsUnavailable) as caught:
                await question
            assert "s3cret" not in str(caught.value)


async def test_a_postgresql_that_is_gone_is_unavailable() -> None:
    url = f"postgresql://u:s3cret@127.0.0.1:{free_port()}/media"
    await every_question_is_refused(Queue(url, records_url="sqlite:////records.db"))


async def test_a_sqlite_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'no-such-folder' / 'queue.db'}"
    await every_question_is_refused(Queue(url, records_url=url))


async def test_a_sqlite_that_is_locked_is_unavailable(sqlite_databases: Databases, tmp_path: Path) -> None:
    url = sqlite_databases.new(tmp_path)
    async with Queue(url, records_url=url, busy_timeout=0.05) as queue:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(RecordsUnavailable):
                await queue.enqueue(INGEST, "a")
            assert await queue.jobs() == []  # readers do not wait
        await queue.enqueue(INGEST, "a")
        assert await subjects(queue) == ["a"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_database_without_its_tables_is_unavailable(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    provided: Databases = request.getfixturevalue(f"{kind}_databases")
    url = provided.empty(tmp_path)
    async with Queue(url, records_url=url) as queue:
        with pytest.raises(RecordsUnavailable):
            await queue.check()
        with pytest.raises(RecordsUnavailable):
            await queue.enqueue(INGEST, "a")
