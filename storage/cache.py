"""What a process knows for a moment, such as records, and one load for many askers."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from math import inf
from typing import Generic, TypeVar

from cachetools import LRUCache

from storage.changes import Feed
from storage.record import MediaRecord, Variant

RECORD_TTL = 2.0  # seconds; how long another process's change may stay unseen
MAX_AGE = 300.0  # seconds after which the database is asked again, although no change has been told
UNKNOWN_TTL = 1.0  # seconds; a message that has just become known to another process is told of by nobody
MAX_RECORDS = 10_000
MAX_UNKNOWN = 1000
_EVERYTHING = ""  # no key

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


class Remembered(Generic[V]):
    """Answers of the database, each for as long as it is known to be true.

    That is a moment from when it was asked for; or from the last look into the feed of changes, which drops what has
    changed until then. So nothing is believed longer than a moment after it has changed, whatever fails.
    """

    def __init__(
        self,
        load: Callable[[str], Awaitable[V | None]],
        *,
        feed: Feed | None = None,
        ttl: float = RECORD_TTL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what asks the database by a key, and what tells of changes.

        Args:
            load: Returns what there is now, or None.
            feed: Without it, and while it fails, every answer is believed for a moment only.
            ttl: The moment, in seconds.
            clock: That of the feed.
        """
        self._load = load
        self._feed = feed
        self._ttl = ttl
        self._clock = clock
        self._known: OrderedDict[str, tuple[V, float]] = OrderedDict()
        self._keys_about: dict[str, set[str]] = {}
        self._unknown: LRUCache[str, float] = LRUCache(MAX_UNKNOWN)
        self._loading: Coalesced[tuple[str, int], V | None] = Coalesced()
        self._dropped: dict[object, set[str]] = {}  # by every question that waits for its answer
        if feed is not None:
            feed.tell(self)

    def about(self, value: V) -> str | None:
        """Return the id of the object by whose changes an answer changes too, if that is not its key."""
        del value
        return None

    def peek(self, key: str) -> V | None:
        """Return what `get` would without asking the database, or None.

        It is one object for as long as the answer stays the same, even if the database has been asked again.
        """
        known = self._known.get(key)
        if known is None:
            return None
        value, asked = known
        now = self._clock()
        if now - asked >= self._ttl and (
            self._feed is None or now - self._feed.current >= self._ttl or now - asked >= MAX_AGE
        ):
            return None
        self._known.move_to_end(key)
        return value

    async def get(self, key: str) -> V | None:
        """Return what is known by that key."""
        known = self.peek(key)
        if known is not None or self._clock() - self._unknown.get(key, -inf) < UNKNOWN_TTL:
            return known
        # Nobody joins who comes more than a moment after the question: the answer may be older than that.
        return await self._loading.get((key, self._moment()), lambda: self._fetch(key))

    def forget(self, key: str) -> None:
        """Drop what this process has changed; whoever asks from now on sees the change."""
        self.drop([key])
        self._loading.forget((key, self._moment()))

    def drop(self, subjects: Collection[str] | None) -> None:
        """Drop what has changed, by its key or its object's id; everything for None."""
        for dropped in self._dropped.values():
            dropped.update(subjects if subjects is not None else [_EVERYTHING])
        if subjects is None:
            for forgotten in (self._known, self._keys_about, self._unknown):
                forgotten.clear()
            return
        for subject in subjects:
            self._unknown.pop(subject, None)
            for key in (subject, *self._keys_about.get(subject, ())):
                self._remove(key)

    def _moment(self) -> int:
        return int(self._clock() / self._ttl)

    async def _fetch(self, key: str) -> V | None:
        question, asked = object(), self._clock()
        dropped = self._dropped[question] = set()
        try:
            found = await self._load(key)
        finally:
            del self._dropped[question]
        about = self.about(found) if found is not None else None
        if not dropped.isdisjoint((key, about, _EVERYTHING)):
            return found  # it may be what was there before the change
        if found is None:
            self._unknown[key] = asked
            return None
        return self._keep(key, found, asked)

    def _keep(self, key: str, value: V, asked: float) -> V:
        before, before_asked = self._known.get(key, (None, -inf))
        if before is not None and (before_asked > asked or before == value):
            self._known[key] = (before, max(asked, before_asked))
            return before
        self._remove(key)
        self._known[key] = (value, asked)
        about = self.about(value)
        if about is not None:
            self._keys_about.setdefault(about, set()).add(key)
        if len(self._known) > MAX_RECORDS:
            self._remove(next(iter(self._known)))
        return value

    def _remove(self, key: str) -> None:
        known = self._known.pop(key, None)
        about = self.about(known[0]) if known is not None else None
        if about is not None:
            keys = self._keys_about[about]
            keys.discard(key)
            if not keys:
                del self._keys_about[about]


class RecordCache(Remembered[MediaRecord]):
    """Records by the id of their message."""

    def about(self, value: MediaRecord) -> str | None:
        """Return the id of the object that the message refers to."""
        return value.stored.id if value.stored is not None else None


class VariantCache(Remembered[dict[str, Variant]]):
    """Variants by name, by the id of their object."""
