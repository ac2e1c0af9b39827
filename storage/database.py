"""Opens the database of records: SQLite in WAL mode by default, PostgreSQL by URL; translates its driver's errors."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, ExceptionContext, event, make_url
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from storage.errors import RecordsError, RecordsUnavailable
from storage.reader import PostgresqlConnections, Question, Reader, Row, Session, SqliteConnections

BUSY_TIMEOUT = 10.0  # seconds
POOL_TIMEOUT = 5.0  # seconds
CONNECT_TIMEOUT = 5  # seconds, PostgreSQL
TRANSACTION_DEADLINE = 25.0  # seconds, waiting for a connection and for locks included; a server may hang, not answer
POOL_SIZE = 10


def sync_url(url: str) -> str:
    """Return ``url`` with the driver that blocking code (Alembic, DBOS) uses."""
    return _with_driver(url, "postgresql+psycopg", "sqlite")


class Database(AsyncEngine):
    """An engine that has a shorter way beside it for questions which are asked all the time."""

    __slots__ = ("_reader",)

    def __init__(self, engine: Engine, reader: Reader) -> None:
        super().__init__(engine)
        self._reader = reader

    async def fetch(self, question: Question, /, **parameters: Any) -> Sequence[Row]:
        """Return the rows that answer a question, outside of any transaction.

        Raises:
            RecordsUnavailable: As in `reading`.
        """
        async with _translated(self.dialect), asyncio.timeout(TRANSACTION_DEADLINE):
            return await self._reader.fetch(question, parameters)

    async def dispose(self, close: bool = True) -> None:  # noqa: FBT001, FBT002 the signature of SQLAlchemy's
        """Close the connections."""
        await self._reader.aclose()
        await super().dispose(close)


def open_engine(url: str, *, busy_timeout: float = BUSY_TIMEOUT, pool_timeout: float = POOL_TIMEOUT) -> Database:
    """Return an engine for ``sqlite:///…`` or ``postgresql://…``; the caller disposes of it.

    Args:
        url: Of the database; which driver it names does not matter.
        busy_timeout: Seconds that a writer waits for SQLite's one write lock.
        pool_timeout: Seconds that a request waits for a connection.
    """
    parsed = make_url(_with_driver(url, "postgresql+psycopg", "sqlite+aiosqlite"))
    # No overflow: a connection beyond the pool is opened and closed for every use, which costs more than waiting.
    options: dict[str, Any] = {"pool_size": POOL_SIZE, "max_overflow": 0, "pool_timeout": pool_timeout}
    if parsed.get_backend_name() != "sqlite":
        arguments = {"connect_timeout": CONNECT_TIMEOUT}
        engine = create_async_engine(parsed, pool_pre_ping=True, connect_args=arguments, **options).sync_engine
        return Database(engine, _postgresql_reader(engine, pool_timeout))
    engine = create_async_engine(parsed, connect_args={"timeout": busy_timeout}, **options).sync_engine
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    event.listen(engine, "handle_error", _keep_sqlite)
    return Database(engine, _sqlite_reader(engine, busy_timeout))


def _postgresql_reader(engine: Engine, patience: float) -> Reader:
    import psycopg  # noqa: PLC0415 see `_driver`

    _, arguments = engine.dialect.create_connect_args(engine.url)

    async def connect() -> Session:
        opening = psycopg.AsyncConnection.connect(**arguments, connect_timeout=CONNECT_TIMEOUT, autocommit=True)
        return await opening

    return Reader(engine.dialect, PostgresqlConnections(connect, patience=patience))


def _sqlite_reader(engine: Engine, busy_timeout: float) -> Reader:
    (path,), options = engine.dialect.create_connect_args(engine.url)
    uri = bool(options.get("uri", False))

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, busy_timeout, isolation_level=None, check_same_thread=False, uri=uri)
        connection.execute("PRAGMA query_only=ON")
        return connection

    return Reader(engine.dialect, SqliteConnections(connect))


def _with_driver(url: str, postgresql: str, sqlite: str) -> str:
    parsed = make_url(url)
    driver = sqlite if parsed.get_backend_name() == "sqlite" else postgresql
    return parsed.set(drivername=driver).render_as_string(hide_password=False)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say so, in `_begin_sqlite`
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later fails at once with SQLITE_BUSY, whatever the timeout.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _keep_sqlite(context: ExceptionContext) -> None:
    # SQLAlchemy closes a connection whose statement was cancelled. SQLite keeps it open, and the write lock taken,
    # until the statement's cursor is garbage: roll back instead, behind the statement in the connection's one thread.
    if isinstance(context.original_exception, asyncio.CancelledError):
        context.is_disconnect = False


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a transaction that only reads.

    Raises:
        RecordsUnavailable: The database is locked, gone, or has no connection to spare.
    """
    async with _translated(engine.dialect), asyncio.timeout(TRANSACTION_DEADLINE), engine.connect() as connection:
        yield connection


@asynccontextmanager
async def writing(
    engine: AsyncEngine, *, deadline: float | None = TRANSACTION_DEADLINE
) -> AsyncIterator[AsyncConnection]:
    """Open a transaction that may write; committed on leaving without an error.

    ``deadline`` is in seconds; None waits for as long as it takes, as a migration must.

    Raises:
        RecordsUnavailable: As in `reading`; nothing was written.
    """
    async with (
        _translated(engine.dialect),
        asyncio.timeout(deadline),
        engine.execution_options(writes=True).begin() as connection,
    ):
        yield connection


@asynccontextmanager
async def _translated(dialect: Dialect) -> AsyncIterator[None]:
    """Raise the errors of SQLAlchemy and of the driver as ours."""
    try:
        yield
    except (PoolTimeoutError, OSError, OperationalError, InterfaceError) as error:
        raise RecordsUnavailable from error
    except SQLAlchemyError as error:
        raise RecordsError from error
    except Exception as error:
        driver = _driver(dialect)
        if isinstance(error, driver.OperationalError | driver.InterfaceError):
            raise RecordsUnavailable from error
        if isinstance(error, driver.Error):
            raise RecordsError from error
        raise


def _driver(dialect: Dialect) -> ModuleType:
    """Return the library that knows the errors of a database (PEP 249)."""
    if dialect.name == "sqlite":
        return sqlite3
    import psycopg  # noqa: PLC0415 a twentieth of a start, and as much memory; only where it is used

    return psycopg
