"""Asks a store over kept connections; for an answer that is late, over two."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from time import perf_counter

from storage.errors import StoreUnavailable
from storage.s3.connection import Connection
from storage.s3.heads import Head
from storage.s3.hedging import Hedging
from storage.s3.pool import Pool

Answer = tuple[Connection, Head]
"""A head, and the connection on which the body follows."""


class Client:
    """Sends requests that may be sent twice."""

    def __init__(self, pool: Pool, hedging: Hedging, *, clock: Callable[[], float] = perf_counter) -> None:
        """Take the connections, the policy for late answers, and a clock in seconds that never runs backwards."""
        self._pool = pool
        self._hedging = hedging
        self._clock = clock
        self._loop = asyncio.get_running_loop()

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for the head of the answer.

        A store may close a kept connection in the moment in which it is used again: that is no failure, if it has not
        begun to answer, and the same is asked on a new one.

        Raises:
            StoreUnavailable: There is no answer.
            OSError: The store cannot be reached.
        """
        connection = self._pool.kept() or await self._pool.take()
        used = connection.answered > 0
        try:
            return await self._answer(connection, request)
        except StoreUnavailable:
            if not (used and connection.silent):
                raise
        return await self._answer(await self._pool.take(anew=True), request)

    def leave(self, connection: Connection) -> None:
        """Give back the connection of an answer, whether its body has been read or not."""
        self._pool.give(connection)

    async def _answer(self, connection: Connection, request: bytes) -> Answer:
        connection.send(request)
        began, delay = self._clock(), self._hedging.delay
        reminder = None if delay is None else self._loop.call_later(delay, connection.remind)
        try:
            head = await self._head(connection)
        finally:
            if reminder is not None:
                reminder.cancel()
        answer = (connection, head) if head is not None else await self._late(connection, request)
        self._hedging.answered(self._clock() - began)
        return answer

    async def _head(self, connection: Connection) -> Head | None:
        try:
            return await connection.head()
        except BaseException:
            self._pool.drop(connection)
            raise

    async def _late(self, connection: Connection, request: bytes) -> Answer:
        if self._pool.full or not self._hedging.allowed():
            return await self._patiently(connection)
        first = asyncio.create_task(self._patiently(connection))
        second = asyncio.create_task(self._again(request))
        try:
            winner = await _winner(first, second)
        except asyncio.CancelledError:
            self._abandon(first)
            self._abandon(second)
            raise
        self._hedging.observe("won" if winner is second else "lost")
        self._abandon(first if winner is second else second)
        return await winner

    async def _patiently(self, connection: Connection) -> Answer:
        while (head := await self._head(connection)) is None:
            continue  # reminded in the moment in which it was late
        return connection, head

    async def _again(self, request: bytes) -> Answer:
        connection = self._pool.kept() or await self._pool.take()
        connection.send(request)
        return await self._patiently(connection)

    def _abandon(self, loser: asyncio.Task[Answer]) -> None:
        """Close the connection of a request that is not needed any more, whether it has been answered or not."""
        loser.cancel()
        loser.add_done_callback(self._drop_answer)

    def _drop_answer(self, loser: asyncio.Task[Answer]) -> None:
        if not loser.cancelled() and loser.exception() is None:
            self._pool.drop(loser.result()[0])


async def _winner(first: asyncio.Task[Answer], second: asyncio.Task[Answer]) -> asyncio.Task[Answer]:
    """Return the first that has an answer, or if neither has one, the first: what it met is what counts."""
    running = {first, second}
    while running:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for each in (first, second):
            if each in done and _is_answer(each):
                return each
    return first


def _is_answer(task: asyncio.Task[Answer]) -> bool:
    """Whether the store has said something of the object, and not of itself only."""
    return task.exception() is None and task.result()[1].status < HTTPStatus.INTERNAL_SERVER_ERROR
