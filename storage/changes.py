"""What other processes have changed: a feed in the database by which a cache knows that what it has is still true.

Triggers write a row for every change of a message, an object or a variant, in the transaction of the change itself.
A process that has read the feed knows all changes which were committed before it began to read.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy import BigInteger, Integer, Text, bindparam, delete, func, select, text

from storage.database import Database, writing
from storage.errors import MediaError
from storage.reader import Question
from storage.schema import changes

INTERVAL = 0.5  # seconds between the end of a look into the feed and the next
PATIENCE = 2.0  # seconds; what a look finds out later is of no use
MAX_NEWS = 5000  # changes that are read at once; behind more, everything is in doubt
KEEP = timedelta(hours=1)
PRUNE = 5000  # rows that one transaction deletes

log = structlog.get_logger()


class Cache(Protocol):
    """What has to be told of changes."""

    def drop(self, subjects: Collection[str] | None) -> None:
        """Forget what is known by these ids of messages or objects, or everything for None."""
        ...


class Source(Protocol):
    """Where the news of a database are."""

    async def news(self) -> Collection[str] | None:
        """Return the ids of what has changed since the last call that returned, or None: anything may have."""
        ...


class Feed:
    """Tells caches of changes, and says until when it knew them all."""

    def __init__(
        self,
        source: Source,
        *,
        clock: Callable[[], float] = time.monotonic,
        observe: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Take the source, a clock that never goes back, and what is told after every look how old the news are."""
        self.current = -float("inf")
        """When the last look began that succeeded: of what was committed until then, every cache has been told."""
        self._source = source
        self._clock = clock
        self._observe = observe
        self._caches: list[Cache] = []
        self._failing = False

    def tell(self, cache: Cache) -> None:
        """Tell a cache of changes from now on."""
        self._caches.append(cache)

    async def look(self) -> None:
        """Tell of what has changed since the last look; raises what the source does, or TimeoutError."""
        began = self._clock()
        async with asyncio.timeout(PATIENCE):
            subjects = await self._source.news()
            # Without an await from here on: nobody may look at the news and then lose them.
            for cache in self._caches:
                cache.drop(subjects)
            self.current = began

    async def follow(self, interval: float = INTERVAL) -> None:
        """Look again and again, whatever happens."""
        while True:
            await self._try()
            self._observe(self._clock() - self.current)
            await asyncio.sleep(interval)

    async def _try(self) -> None:
        try:
            await self.look()
        except (MediaError, TimeoutError) as error:
            if not self._failing:
                log.warning("changes by others cannot be followed", error=type(error).__name__)
            self._failing = True
        else:
            if self._failing:
                log.info("changes by others can be followed again")
            self._failing = False


@asynccontextmanager
async def following(database: Database, observe: Callable[[float], None]) -> AsyncIterator[Feed]:
    """Provide a feed that is followed meanwhile."""
    feed = Feed(source_of(database), observe=observe)
    task = asyncio.create_task(feed.follow(), name="feed of changes")
    try:
        yield feed
    finally:
        task.cancel()
        await asyncio.wait([task])


def source_of(database: Database) -> Source:
    """Return the source of news of a database."""
    return SqliteSource(database) if database.dialect.name == "sqlite" else PostgresqlSource(database)


class SqliteSource:
    """Reads on by id: there is one writer at a time, so that ids become visible in their order."""

    _newest = Question(select(func.coalesce(func.max(changes.c.id), 0)))
    _newer = Question(
        select(changes.c.id, changes.c.subject, select(func.min(changes.c.id)).scalar_subquery())
        .where(changes.c.id > bindparam("seen", type_=Integer))
        .order_by(changes.c.id)
        .limit(MAX_NEWS)
    )

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: int | None = None

    async def news(self) -> Collection[str] | None:
        """Return what has changed since the last call; None the first time, and where news may be gone already."""
        found = await self._database.fetch(self._newer, seen=self._seen) if self._seen is not None else ()
        if self._seen is None or len(found) == MAX_NEWS:
            ((self._seen,),) = await self._database.fetch(self._newest)
            return None
        pruned = bool(found) and found[0][2] > self._seen
        self._seen = found[-1][0] if found else self._seen
        return None if pruned else {subject for _, subject, _ in found}


class PostgresqlSource:
    """Reads what the last snapshot did not see: a row may become visible long after those with higher ids have.

    No news are read twice, nor missed, however long the transaction took that wrote them.
    """

    _newest = Question(text("SELECT CAST(pg_current_snapshot() AS text) AS snapshot").columns(snapshot=Text))
    _newer = Question(
        text("""
            SELECT CAST(pg_current_snapshot() AS text) AS snapshot, newer.subject, oldest.transaction_id
            FROM (SELECT min(transaction_id) AS transaction_id FROM changes) AS oldest LEFT JOIN (
                SELECT subject FROM changes
                WHERE transaction_id >= :unsure
                AND NOT pg_visible_in_snapshot(CAST(CAST(transaction_id AS text) AS xid8), CAST(:seen AS pg_snapshot))
                LIMIT :limit
            ) AS newer ON true
        """)
        .bindparams(bindparam("unsure", type_=BigInteger), bindparam("seen", type_=Text), limit=MAX_NEWS)
        .columns(snapshot=Text, subject=Text, transaction_id=BigInteger)
    )

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: str | None = None

    async def news(self) -> Collection[str] | None:
        """Return what has changed since the last call; None the first time, and where news may be gone already."""
        if self._seen is None:
            ((self._seen,),) = await self._database.fetch(self._newest)
            return None
        unsure, beyond = _bounds(self._seen)
        found = await self._database.fetch(self._newer, unsure=unsure, seen=self._seen)
        subjects = {subject for _, subject, _ in found if subject is not None}
        pruned = bool(subjects) and found[0][2] >= beyond
        self._seen = found[0][0]
        # A server that has counted fewer transactions is another one.
        elsewhere = _bounds(self._seen)[1] < beyond
        return None if pruned or elsewhere or len(found) == MAX_NEWS else subjects


def _bounds(snapshot: str) -> tuple[int, int]:
    """Return the oldest transaction that a snapshot does not see whole, and the first of which it knows nothing."""
    unsure, beyond, _ = snapshot.split(":")
    return int(unsure), int(beyond)


async def prune(database: Database, *, before: datetime) -> int:
    """Delete the news that are older, and return how many.

    The newest stay: by them, whoever was away for so long sees that something is gone.
    """
    deleted = 0
    oldest = select(changes.c.id, changes.c.changed_at).order_by(changes.c.id).limit(PRUNE).subquery()
    newest = select(func.max(changes.c.id)).scalar_subquery()
    old = select(oldest.c.id).where(oldest.c.changed_at < before, oldest.c.id < newest)
    while True:
        async with writing(database) as connection:
            count = (await connection.execute(delete(changes).where(changes.c.id.in_(old)))).rowcount
        deleted += count
        if count < PRUNE:
            return deleted
