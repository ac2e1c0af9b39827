"""The database on its bad days: locked, gone, out of connections; always a `RecordsUnavailable` within a time limit."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import TextClause, text

from storage.database import POOL_SIZE, Database, open_engine, reading, sync_url, writing
from storage.errors import RecordsError, RecordsUnavailable
from tests.databases import Databases
from tests.running import free_port, until

INSERT = text("INSERT INTO workers (executor_id, host, pid, heartbeat) VALUES ('w', 'h', 1, 0)")
COUNT = text("SELECT count(*) FROM workers")


async def count(engine: Database) -> int:
    async with reading(engine) as connection:
        return int((await connection.execute(COUNT)).scalar_one())


async def insert(engine: Database) -> None:
    await write(engine, INSERT)


async def write(engine: Database, *statements: TextClause, failure: Exception | None = None) -> None:
    """Execute statements in one transaction, which fails at its end if it is told to."""
    async with writing(engine) as connection:
        for statement in statements:
            await connection.execute(statement)
        if failure is not None:
            raise failure


@pytest.fixture
def sqlite_url(sqlite_databases: Databases, tmp_path: Path) -> str:
    return sqlite_databases.new(tmp_path)


@pytest.fixture
def other_process(sqlite_url: str) -> Iterator[sqlite3.Connection]:
    """Another connection to the same SQLite file, which does not wait for locks."""
    path = sqlite_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)) as connection:
        yield connection


@pytest.fixture
async def impatient(sqlite_url: str) -> AsyncIterator[Database]:
    """An engine that waits but a moment for SQLite's write lock."""
    engine = open_engine(sqlite_url, busy_timeout=0.05)
    yield engine
    await engine.dispose()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
        ("sqlite+aiosqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
        ("postgresql://u:p%40ss@h:5433/db?sslmode=require", "postgresql+psycopg://u:p%40ss@h:5433/db?sslmode=require"),
        ("postgresql+asyncpg://h/db", "postgresql+psycopg://h/db"),
    ],
)
def test_blocking_code_gets_its_own_driver(url: str, expected: str) -> None:
    assert sync_url(url) == expected


async def test_a_transaction_that_fails_leaves_nothing(engine: Database) -> None:
    with pytest.raises(KeyError):
        await write(engine, INSERT, failure=KeyError())
    assert await count(engine) == 0


async def test_a_transaction_that_is_cancelled_leaves_nothing_and_no_lock(engine: Database) -> None:
    inserted = asyncio.Event()

    async def never_ends() -> None:
        async with writing(engine) as connection:
            await connection.execute(INSERT)
            inserted.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(never_ends())
    await asyncio.wait_for(inserted.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await insert(engine)
    assert await count(engine) == 1


async def test_a_mistake_of_ours_is_no_outage(engine: Database) -> None:
    with pytest.raises(RecordsError) as caught:
        await write(engine, INSERT, INSERT)  # the same primary key
    assert not isinstance(caught.value, RecordsUnavailable)


async def test_without_a_connection_to_spare_it_gives_up(database_url: str) -> None:
    engine = open_engine(database_url, pool_timeout=0.05)
    opened = 0
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        with suppress(RecordsUnavailable):
            for opened in range(100):  # noqa: B007 the last one counts
                await stack.enter_async_context(reading(engine))
    assert POOL_SIZE <= opened < 99


async def test_a_locked_sqlite_is_unavailable_until_it_is_released(
    impatient: Database, other_process: sqlite3.Connection
) -> None:
    other_process.execute("BEGIN IMMEDIATE")
    with pytest.raises(RecordsUnavailable):
        await insert(impatient)
    other_process.execute("ROLLBACK")
    await insert(impatient)
    assert await count(impatient) == 1


async def test_a_writer_waits_for_sqlites_lock(sqlite_url: str, other_process: sqlite3.Connection) -> None:
    engine = open_engine(sqlite_url)
    other_process.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(insert(engine))
    await asyncio.wait([waiting], timeout=0.1)
    assert not waiting.done()
    other_process.execute("COMMIT")
    await asyncio.wait_for(waiting, 10)
    await engine.dispose()


async def test_readers_do_not_wait_for_a_writer(impatient: Database, other_process: sqlite3.Connection) -> None:
    other_process.execute("BEGIN IMMEDIATE")
    other_process.execute(INSERT.text)
    assert await count(impatient) == 0


async def test_a_writer_holds_sqlites_lock_from_its_beginning(
    impatient: Database, other_process: sqlite3.Connection
) -> None:
    # A transaction that reads first and asks for the lock later is refused at once if somebody wrote meanwhile.
    async with writing(impatient) as connection:
        await connection.execute(COUNT)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other_process.execute("BEGIN IMMEDIATE")
        await connection.execute(INSERT)
    assert await count(impatient) == 1


async def test_a_sqlite_file_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'no-such-folder' / 'gateway.db'}")
    threads = set(threading.enumerate())
    with pytest.raises(RecordsUnavailable):
        await count(engine)
    await engine.dispose()
    # The driver's thread reports to this event loop once more.
    await until(lambda: threads.issuperset(threading.enumerate()))


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"], ids=["refused", "unknown"])
async def test_a_postgresql_that_is_not_there_is_unavailable(host: str) -> None:
    engine = open_engine(f"postgresql://user:s3cret@{host}:{free_port()}/media")
    with pytest.raises(RecordsUnavailable) as caught:
        await count(engine)
    assert "s3cret" not in str(caught.value)
    assert host not in str(caught.value)
    await engine.dispose()


async def test_a_postgresql_that_ends_our_sessions_is_found_again(
    postgresql_databases: Databases, tmp_path: Path
) -> None:
    engine = open_engine(postgresql_databases.new(tmp_path))
    sessions = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()")
    with pytest.raises(RecordsUnavailable):
        await write(engine, INSERT, sessions)  # as a restart does, in the middle of a transaction
    assert await count(engine) == 0
    await engine.dispose()
