"""Asks the database single questions on the shortest way: compiled once, one round trip, no transaction."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from cachetools import LRUCache
from sqlalchemy import Dialect, Select, TextualSelect
from sqlalchemy.sql.compiler import ExpandedState, SQLCompiler

if TYPE_CHECKING:
    import psycopg

LENGTHS = 200  # of a question's list, for each of which there is a statement of its own
READERS = 4  # connections: what is asked here takes a fraction of a millisecond

Row = Sequence[Any]
Parameters = Sequence[Any] | Mapping[str, Any]
Session: TypeAlias = "psycopg.AsyncConnection[tuple[Any, ...]]"


class Question:
    """A SELECT whose parameters are its ``bindparam``s: text and numbers, which need no conversion.

    One of them may be a list. A question that is made once is compiled once; what is in its rows is converted as the
    columns' types say.
    """

    def __init__(self, statement: Select[Any] | TextualSelect) -> None:
        self.statement = statement


class Connections(Protocol):
    """A driver's connections that only read, each statement for itself."""

    async def fetch(self, sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        """Return all rows."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class Reader:
    """Answers questions by rows, whose values are in the order of the columns."""

    def __init__(self, dialect: Dialect, connections: Connections) -> None:
        """Take the dialect that the connections speak."""
        self._dialect = dialect
        self._connections = connections
        self._prepared: dict[Question, _Prepared] = {}

    async def fetch(self, question: Question, parameters: Mapping[str, Any]) -> Sequence[Row]:
        """Return the rows; raises the driver's own errors."""
        prepared = self._prepared.get(question)
        if prepared is None:
            prepared = self._prepared[question] = _Prepared(question.statement, self._dialect)
        return prepared.rows(await self._connections.fetch(*prepared.bind(parameters)))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connections.aclose()


class _Prepared:
    """A question in a dialect's words."""

    def __init__(self, statement: Select[Any] | TextualSelect, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        if not isinstance(compiled, SQLCompiler):
            raise TypeError("not a statement")
        self._compiled = compiled
        self._list = next((name for name, each in compiled.binds.items() if each.expanding), None)
        self._expanded: LRUCache[int, ExpandedState] = LRUCache(LENGTHS)
        types = [column.type.dialect_impl(dialect) for column in statement.selected_columns]
        found = [each.result_processor(dialect, None) for each in types]
        self._converters = [(index, converter) for index, converter in enumerate(found) if converter is not None]

    def bind(self, parameters: Mapping[str, Any]) -> tuple[str, Parameters]:
        """Return the statement, and its parameters as the driver wants them."""
        given = {**self._compiled.params, **parameters}
        if self._list is None:
            return self._compiled.string, _ordered(given, self._compiled.positiontup)
        values = given.pop(self._list)
        expanded = self._expanded.get(len(values))
        if expanded is None:
            expanded = self._expanded[len(values)] = self._compiled.construct_expanded_state(dict(parameters))
        given.update(zip(expanded.parameter_expansion[self._list], values, strict=True))
        return expanded.statement, _ordered(given, expanded.positiontup)

    def rows(self, found: Sequence[Row]) -> Sequence[Row]:
        """Convert what the driver returns."""
        return [self._row(values) for values in found] if self._converters else found

    def _row(self, values: Row) -> Row:
        converted = list(values)
        for index, converter in self._converters:
            if values[index] is not None:
                converted[index] = converter(values[index])
        return converted


def _ordered(given: Mapping[str, Any], names: Sequence[str] | None) -> Parameters:
    """Return parameters by name, or in the order that a driver without names wants."""
    return given if names is None else [given[name] for name in names]


class SqliteConnections:
    """A few connections to a file, each used by one thread at a time: one hop there and back for a question."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Take what opens a connection in autocommit mode that any thread may use."""
        self._connect = connect
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="records")
        self._idle: deque[sqlite3.Connection] = deque()
        self._closed = False

    async def fetch(self, sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        """Return all rows; whoever is cancelled leaves the thread to end what it does."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, sql, parameters)

    async def aclose(self) -> None:
        """Close the connections that are idle now, and the others as soon as they are."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._threads, self._close)
        self._threads.shutdown(wait=False)

    def _close(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _fetch(self, sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            found = connection.execute(sql, parameters).fetchall()
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if self._closed:
            self._close()
        return found


class _SessionEnded(ConnectionError):
    """The server, or the network, has ended a session."""


class PostgresqlConnections:
    """A few sessions in autocommit mode: one round trip for a question, and none to see whether the session lives."""

    def __init__(self, connect: Callable[[], Awaitable[Session]], *, patience: float) -> None:
        """Take what opens a session, and the seconds that a question waits for one that is free."""
        self._connect = connect
        self._patience = patience
        self._free = asyncio.Semaphore(READERS)
        self._idle: list[Session] = []

    async def fetch(self, sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        """Return all rows; where the server has ended the session meanwhile, a new one asks again."""
        async with asyncio.timeout(self._patience):
            await self._free.acquire()
        try:
            if self._idle:
                try:
                    return await self._ask(self._idle.pop(), sql, parameters)
                except _SessionEnded:
                    await self.aclose()  # what ended this one has ended the others
            return await self._ask(await self._connect(), sql, parameters)
        finally:
            self._free.release()

    async def aclose(self) -> None:
        """Close the sessions that are idle."""
        while self._idle:
            await self._idle.pop().close()

    async def _ask(self, session: Session, sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        try:
            found = await (await session.execute(sql.encode(), parameters)).fetchall()
        except BaseException as error:
            ended = session.broken
            await session.close()
            if ended:
                raise _SessionEnded from error
            raise
        self._idle.append(session)
        return found
