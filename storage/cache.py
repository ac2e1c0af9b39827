"""What a process keeps in memory: small bodies by bytes, records for a moment, and one load for many askers."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from cachetools import LRUCache, TTLCache

from storage.record import MediaRecord

RECORD_TTL = 2.0  # seconds; how long another process's change may stay unseen
MAX_RECORDS = 10_000

K = TypeVar("K")
V = TypeVar("V")


class BodyCache:
    """An LRU of whole bodies, bounded by their bytes."""

    def __init__(self, max_bytes: int, *, max_item: int) -> None:
        self.max_item = min(max_item, max_bytes)
        self._bodies: LRUCache[tuple[str, str], bytes] = LRUCache(max_bytes, getsizeof=len)

    @property
    def size(self) -> int:
        """The bytes held now."""
        return int(self._bodies.currsize)

    def get(self, workspace_id: str, sha256: str) -> bytes | None:
        """Return a body, and count it as used."""
        return self._bodies.get((workspace_id, sha256))

    def put(self, workspace_id: str, sha256: str, body: bytes) -> None:
        """Keep a body whose hash has been verified, if it is small enough."""
        if len(body) <= self.max_item:
            self._bodies[workspace_id, sha256] = body


class Coalesced(Generic[K, V]):
    """Lets everybody who asks for the same thing at the same time share one answer.

    The work belongs to a task of its own, so that no asker's departure cancels it for the others.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}

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


class RecordCache:
    """Records for a moment: a crowd that asks for one message asks the database once."""

    def __init__(
        self,
        load: Callable[[str], Awaitable[MediaRecord | None]],
        *,
        ttl: float = RECORD_TTL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what asks the database, for how many seconds to believe it, and a clock that never goes back."""
        self._load = load
        self._records: TTLCache[str, MediaRecord] = TTLCache(MAX_RECORDS, ttl, clock)
        self._loading: Coalesced[str, MediaRecord | None] = Coalesced()
        self._changes = 0

    async def get(self, message_id: str) -> MediaRecord | None:
        """Return a message's record, at most a moment old; unknown messages are never remembered."""
        record = self._records.get(message_id)
        if record is not None:
            return record
        return await self._loading.get(message_id, lambda: self._fetch(message_id))

    def forget(self, message_id: str) -> None:
        """Drop a record that this process has changed."""
        self._changes += 1
        self._records.pop(message_id, None)
        self._loading.forget(message_id)

    async def _fetch(self, message_id: str) -> MediaRecord | None:
        changes = self._changes
        record = await self._load(message_id)
        if record is not None and changes == self._changes:  # else it may be what was there before the change
            self._records[message_id] = record
        return record
