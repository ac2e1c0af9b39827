"""The questions that are asked all the time touch an index: ten million rows must read like ten thousand."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import rows
from storage.changes import source_of
from storage.database import Database, reading, writing
from storage.reader import Connections
from storage.record import Cursor, Status
from storage.records import Records
from storage.schema import messages, metadata, objects
from tests.messages import NOON, Clock, message, stored

ROWS = 4000  # enough for a planner to prefer an index where there is one
OLD = timedelta(days=1)

Question = Callable[[Records], Awaitable[object]]


async def look(records: Records) -> None:
    source = source_of(records._database)
    await source.news()
    await source.news()


QUESTIONS: dict[str, Question] = {
    "a record by its id": lambda records: records.get("m00001"),
    "many records by their ids": lambda records: records.get_many([f"m{number:05}" for number in range(200)]),
    "a page": lambda records: records.page(),
    "the next page": lambda records: records.page(after=Cursor(NOON, "m02000")),
    "a page of a workspace": lambda records: records.page(workspace_id="w1"),
    "the next page of a workspace": lambda records: records.page(workspace_id="w1", after=Cursor(NOON, "m02000")),
    "a page of a status": lambda records: records.page(status=Status.FAILED),
    "the next page of a status": lambda records: records.page(status=Status.FAILED, after=Cursor(NOON, "m02000")),
    "an object by its content": lambda records: records.find_object("w1", "ab" * 32),
    "an object by its key": lambda records: records.find_by_key("local", "media/1/1"),
    "the messages of an object": lambda records: records.referring("0" * 32),
    "the next messages of an object": lambda records: records.referring("0" * 32, after="m02000"),
    "an object that is doomed": lambda records: records.doomed("0" * 32),
    "all that are doomed": lambda records: records.doomed_objects(),
    "what is unfinished": lambda records: records.unfinished(idle=OLD, revive=OLD),
    "what will be lost": lambda records: records.count_expiring(OLD),
    "what stands where": lambda records: records.count_by_status(),
    "what is lost": lambda records: records.count_lost(),
    "what has changed": look,
    "a deletion": lambda records: records.delete("m00002"),
}


@pytest.fixture
async def records(engine: Database) -> Records:
    """Records in many rows, nearly all of them completed."""
    records = Records(engine, clock=Clock())
    await records.add([message(f"m{number:05}", workspace_id=f"w{number % 4}") for number in range(ROWS)])
    async with writing(engine) as connection:
        contents = [stored(str(number), workspace_id=f"w{number % 4}") for number in range(ROWS)]
        await connection.execute(objects.insert(), [rows.object_row(each, NOON) for each in contents])
        adopted = update(messages).where(messages.c.message_id == "m00002").values(object_id=contents[2].id)
        await connection.execute(adopted)
        finished = messages.c.message_id.not_like("%99")
        await connection.execute(update(messages).where(finished).values(status=Status.COMPLETED))
        failed = messages.c.message_id.like("%199")
        await connection.execute(update(messages).where(failed).values(status=Status.FAILED, error="media-expired"))
        if connection.dialect.name == "postgresql":
            await connection.execute(text("ANALYZE"))  # as it does by itself; nobody tells SQLite to
    return records


class Noting:
    """Connections that note what they are asked."""

    def __init__(self, connections: Connections, statements: list[tuple[str, Any]]) -> None:
        self._connections = connections
        self._statements = statements

    async def fetch(self, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        self._statements.append((sql, tuple(parameters) if isinstance(parameters, list) else parameters))
        return await self._connections.fetch(sql, parameters)

    async def aclose(self) -> None:
        await self._connections.aclose()


@contextmanager
def asked(engine: Database) -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements that are sent meanwhile."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    reader = engine._reader
    connections, reader._connections = reader._connections, Noting(reader._connections, statements)
    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine.sync_engine, "before_cursor_execute", note)
    reader._connections = connections


async def explain(connection: AsyncConnection, statement: str, parameters: Any) -> list[str]:
    word = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    return [str(row[-1]) for row in await connection.exec_driver_sql(f"{word} {statement}", parameters)]


def scans(step: str) -> bool:
    """Whether a step of a plan reads a whole table."""
    if "tallies" in step:  # a row for each state, and those of the last minute
        return False
    word, table, *_ = step.split()
    return "Seq Scan" in step or (word == "SCAN" and table in metadata.tables and "USING INDEX" not in step)


async def plans(engine: Database, question: Awaitable[object]) -> list[list[str]]:
    """Ask, and return how the database found each answer."""
    with asked(engine) as statements:
        await question
    async with reading(engine) as connection:
        explained = [each for each in statements if each[0].lstrip().startswith(("SELECT", "UPDATE"))]
        return [await explain(connection, *each) for each in explained]


async def test_no_question_reads_a_whole_table(engine: Database, records: Records) -> None:
    for name, question in QUESTIONS.items():
        found = await plans(engine, question(records))
        assert found, name
        assert [step for plan in found for step in plan if scans(step)] == [], name


async def test_pages_are_read_in_the_order_of_an_index(engine: Database, records: Records) -> None:
    for name in filter(lambda name: "page" in name or "messages of an object" in name, QUESTIONS):
        (plan,) = await plans(engine, QUESTIONS[name](records))
        assert any("_page" in step for step in plan), name
        assert not any("TEMP B-TREE" in step or "Sort" in step for step in plan), name


@pytest.mark.parametrize("name", ["what is unfinished", "what will be lost"])
async def test_what_is_finished_is_not_looked_at(engine: Database, records: Records, name: str) -> None:
    (plan,) = await plans(engine, QUESTIONS[name](records))
    assert any("ix_messages_unfinished" in step for step in plan)
