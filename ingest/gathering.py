"""One transaction for everybody who comes while another one is under way: what a burst of webhooks is written by."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain

from storage.errors import RecordsError, RecordsUnavailable
from storage.record import NewMessage

MAX_MESSAGES = 500  # in one transaction, unless one caller alone brings more
MAX_WAITING = 2000  # callers; more are sent away at once

Write = Callable[[Sequence[NewMessage]], Awaitable[list[str]]]
"""Writes messages in one transaction, and returns the ids of those that were new."""


class Gathering:
    """Gathers writers into transactions. Alone, a writer waits for nobody; in a crowd, they share the cost."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._waiting: list[tuple[Sequence[NewMessage], asyncio.Future[int]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def add(self, new: Sequence[NewMessage]) -> int:
        """Write messages, and return how many of them were new once they are durable.

        Raises:
            RecordsError: None of them was written.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise RecordsUnavailable("Too many writers are waiting.", retry_after=1.0)
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((new, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._work(), name="gathered writes")
        return await done

    async def _work(self) -> None:
        while self._waiting:
            group = self._next()
            try:
                await self._commit(group)
            except RecordsUnavailable as error:
                _fail(group, error)
            except RecordsError:
                for each in group:  # one of them is to blame; the others shall not suffer
                    await self._alone(each)
            except BaseException as error:
                _fail(group, RecordsError() if isinstance(error, Exception) else RecordsUnavailable())
                raise

    def _next(self) -> list[tuple[Sequence[NewMessage], asyncio.Future[int]]]:
        count = size = 0
        for new, _ in self._waiting:
            size += len(new)
            if count > 0 and size > MAX_MESSAGES:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _commit(self, group: list[tuple[Sequence[NewMessage], asyncio.Future[int]]]) -> None:
        inserted = set(await self._write(list(chain.from_iterable(new for new, _ in group))))
        for new, done in group:
            ids = {message.message_id for message in new} & inserted
            inserted -= ids  # a twin in the same transaction is a repeat
            if not done.done():  # its caller may have left
                done.set_result(len(ids))

    async def _alone(self, each: tuple[Sequence[NewMessage], asyncio.Future[int]]) -> None:
        try:
            await self._commit([each])
        except RecordsError as error:
            _fail([each], error)


def _fail(group: list[tuple[Sequence[NewMessage], asyncio.Future[int]]], error: Exception) -> None:
    for _, done in group:
        if not done.done():
            done.set_exception(error)
