"""What a process knows for a moment, such as records, and one load for many askers."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from cachetools import TTLCache

from storage.record import MediaRecord, Variant

RECORD_TTL = 2.0  # seconds; how long another process's change may stay unseen
MAX_RECORDS = 10_000

K = TypeVar("K")
V = TypeVar("V")


class Coalesced(Generic[K, V]):
    """Lets everybody who asks for the same thing at the same time share one answer.

    The work belongs to a task of its own, so that no asker's departure cancels it for the others.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        """Return how many answers are being worked on."""
        return len(self._tasks)

    def __contains__(self, key: object) -> bool:
        """Whether somebody has asked for this already."""
        return key in self._tasks

    async def get(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """Return what ``work`` returns, or raise what it raises, started now or by an earlier asker."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.ensure_future(_run(work))
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    def forget(self, key: K) -> None:
        """Let nobody join what has been started: its answer may be out of date."""
        self._tasks.pop(key, None)

    def _done(self, key: K, task: asyncio.Task[V]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled():
            task.exception()  # every asker may have left; the error was theirs


async def _run(work: Callable[[], Awaitable[V]]) -> V:
    return await work()


class Momentary(Generic[V]):
    """Answers of the database for a moment: a crowd that asks for one thing asks the database once."""

    def __init__(
        self,
        load: Callable[[str], Awaitable[V | None]],
        *,
        ttl: float = RECORD_TTL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what asks the database, for how many seconds to believe it, and a clock that never goes back."""
        self._load = load
        self._known: TTLCache[str, V] = TTLCache(MAX_RECORDS, ttl, clock)
        self._loading: Coalesced[str, V | None] = Coalesced()
        self._changes = 0

    def peek(self, key: str) -> V | None:
        """Return what `get` would without asking the database, or None; one object for as long as it is valid."""
        return self._known.get(key)

    async def get(self, key: str) -> V | None:
        """Return what is known by that key, at most a moment old; what is unknown is never remembered."""
        known = self.peek(key)
        if known is not None:
            return known
        return await self._loading.get(key, lambda: self._fetch(key))

    def forget(self, key: str) -> None:
        """Drop what this process has changed."""
        self._changes += 1
        self._known.pop(key, None)
        self._loading.forget(key)

    async def _fetch(self, key: str) -> V | None:
        changes = self._changes
        found = await self._load(key)
        if found is not None and changes == self._changes:  # else it may be what was there before the change
            self._known[key] = found
        return found


RecordCache = Momentary[MediaRecord]
VariantCache = Momentary[dict[str, Variant]]
"""Variants by name, by the id of their object."""
