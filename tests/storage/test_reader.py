"""Single questions: right with lists of any length, on few connections, and back after whatever ends them."""

import asyncio
import sqlite3
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import bindparam, func, select, text
from sqlalchemy.sql.functions import Function

from storage.database import Database, open_engine, writing
from storage.errors import RecordsError, RecordsUnavailable
from storage.reader import READERS, PostgresqlConnections, Question, Session
from storage.records import Records
from storage.schema import messages
from tests.databases import Databases
from tests.messages import NOON, Clock, message
from tests.running import free_port

IDS = [f"m{number}" for number in range(30)]
COUNT = Question(select(func.count()).select_from(messages))
AMONG = Question(
    select(messages.c.message_id)
    .where(
        messages.c.message_id.in_(bindparam("ids", expanding=True)),
        messages.c.workspace_id == bindparam("workspace_id"),
    )
    .order_by(messages.c.message_id)
)


@pytest.fixture
async def records(engine: Database) -> Records:
    records = Records(engine, clock=Clock())
    await records.add([message(id_, participants=("a", "b")) for id_ in IDS])
    return records


async def count(engine: Database) -> int:
    ((found,),) = await engine.fetch(COUNT)
    return int(found)


async def test_a_question_is_answered_as_in_a_transaction(engine: Database, records: Records) -> None:
    found = await records.get("m7")
    (page, _) = await records.page(limit=200)

    assert found is not None
    assert found == next(each for each in page if each.message_id == "m7")
    assert found.created_at == NOON
    assert found.participants == ("a", "b")


@pytest.mark.parametrize("length", [0, 1, 2, 3, 30])
async def test_a_list_may_have_any_length(engine: Database, records: Records, length: int) -> None:
    for wanted in (IDS[:length], [*IDS[-length:]] if length else []):
        found = await engine.fetch(AMONG, ids=wanted, workspace_id="w1")
        assert [id_ for (id_,) in found] == sorted(wanted)
    assert await engine.fetch(AMONG, ids=IDS[:length], workspace_id="another") == []


async def test_many_questions_share_few_connections(engine: Database, records: Records) -> None:
    assert await asyncio.gather(*(count(engine) for _ in range(100))) == [len(IDS)] * 100
    assert len(engine._reader._connections._idle) <= READERS  # type: ignore[attr-defined] # of either kind


async def test_who_leaves_takes_no_connection_along(engine: Database, records: Records) -> None:
    for _ in range(3 * READERS):
        leaving = asyncio.create_task(count(engine))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])

    assert await asyncio.gather(*(count(engine) for _ in range(READERS))) == [len(IDS)] * READERS


async def test_what_has_been_written_is_seen_by_the_next_question(engine: Database, records: Records) -> None:
    before = await count(engine)
    await records.add([message("new")])
    assert await count(engine) == before + 1


async def test_sessions_that_the_server_has_ended_are_replaced(postgresql_databases: Databases, tmp_path: Path) -> None:
    engine = open_engine(postgresql_databases.new(tmp_path))
    await asyncio.gather(*(count(engine) for _ in range(READERS)))
    others = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with writing(engine) as connection:
        await connection.execute(others)

    assert await asyncio.gather(*(count(engine) for _ in range(READERS))) == [0] * READERS
    await engine.dispose()


async def test_a_question_waits_for_a_connection_only_so_long() -> None:
    connecting = asyncio.Event()

    async def never() -> Session:
        connecting.set()
        return await asyncio.Event().wait()  # type: ignore[return-value] # it never does

    connections = PostgresqlConnections(never, patience=0.01)
    stuck = [asyncio.create_task(connections.fetch("SELECT 1", {})) for _ in range(READERS)]
    await connecting.wait()

    with pytest.raises(TimeoutError):
        await connections.fetch("SELECT 1", {})
    for each in stuck:
        each.cancel()
    await asyncio.wait(stuck)


async def test_a_sqlite_file_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'no-such-folder' / 'gateway.db'}")
    with pytest.raises(RecordsUnavailable):
        await count(engine)
    await engine.dispose()


async def test_a_postgresql_that_is_not_there_is_an_outage() -> None:
    engine = open_engine(f"postgresql://user:s3cret@127.0.0.1:{free_port()}/media")
    with pytest.raises(RecordsUnavailable) as caught:
        await count(engine)
    assert "s3cret" not in str(caught.value)
    await engine.dispose()


async def test_a_question_that_makes_no_sense_is_no_outage(postgresql_databases: Databases, tmp_path: Path) -> None:
    engine = open_engine(postgresql_databases.new(tmp_path))
    nonsense: Function[int] = func.no_such_function()
    with pytest.raises(RecordsError) as caught:
        await engine.fetch(Question(select(nonsense)))
    assert not isinstance(caught.value, RecordsUnavailable)
    assert isinstance(caught.value.__cause__, psycopg.errors.UndefinedFunction)
    await engine.dispose()


async def test_no_question_can_write(sqlite_databases: Databases, tmp_path: Path) -> None:
    engine = open_engine(sqlite_databases.new(tmp_path))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await engine._reader._connections.fetch("DELETE FROM messages", [])
    await engine.dispose()
