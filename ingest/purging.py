"""Has the CDN forget media: purges are ordered as durable jobs, and done many at a time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from ingest.cdn.purge import THROTTLED_RETRY_AFTER, PurgeItem, Purger, PurgeRefused, PurgeThrottled
from ingest.queue import PURGE, PURGES, Queue
from storage.cache import RECORD_TTL
from storage.records import InTransaction, Records

SETTLED: Final = RECORD_TTL + 3.0
"""Seconds after which no process believes any more what it has read before a change: a purge that came sooner would let
the CDN fetch what it has just forgotten."""
WINDOW: Final = 1.0  # seconds that the first purge of a batch waits for others
MAX_BATCH: Final = 100  # jobs; each of them keeps a thread of the worker waiting
PATIENCE: Final = 300.0  # seconds; with another batch before it, still well within the deadline of a job's step

_Order = tuple[PurgeItem, "asyncio.Future[None]"]


class PurgeOrders:
    """Writes the jobs that purge messages; where there is no CDN, nobody has one."""

    def __init__(self, queue: Queue, records: Records, *, settled: float = SETTLED) -> None:
        """Take the queue, the records and the seconds that a job waits at least, see `SETTLED`."""
        self._queue = queue
        self._records = records
        self._settled = settled

    @asynccontextmanager
    async def together(self) -> AsyncIterator[InTransaction]:
        """Yield what orders purges inside the records' transaction, by the ids of messages.

        Where the queue lives elsewhere, they are ordered on leaving, once the transaction is committed.

        Raises:
            RecordsUnavailable: The queue's own database does not answer, on leaving.
        """
        noted: list[str] = []
        within = await self._queue.within(PURGE, PURGES, delay=self._settled)
        yield within or (lambda _connection, message_ids: noted.extend(message_ids))
        await self._order(noted)

    async def of_object(self, object_id: str) -> None:
        """Order the purge of every message that refers to an object."""
        after = ""
        while message_ids := await self._records.referring(object_id, after=after):
            await self._order(message_ids)
            after = message_ids[-1]

    async def _order(self, message_ids: Sequence[str]) -> None:
        for message_id in message_ids:
            # Never taken for a job that is running: that may have asked the CDN before what this one is for.
            await self._queue.enqueue(PURGE, message_id, PURGES, delay=self._settled, once=False)


class Purging:
    """Gathers the purges of many jobs into few requests, one at a time."""

    def __init__(self, purger: Purger | None, *, window: float = WINDOW, patience: float = PATIENCE) -> None:
        """Take the CDN, None where there is none, and for how many seconds to gather, and to bear with a busy CDN."""
        self._purger = purger
        self._window = window
        self._patience = patience
        self._waiting: asyncio.Queue[_Order] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    @property
    def batch_size(self) -> int:
        """How many purges make a full batch, for which nobody waits any longer; no more jobs need to run at once."""
        return min(self._purger.batch_size, MAX_BATCH) if self._purger is not None else 1

    async def purge(self, item: PurgeItem) -> str:
        """Have the CDN forget a message, in one request with others; return ``purged``.

        Raises:
            PurgeError: The CDN did not take the batch, or there is none.
        """
        if self._purger is None:
            raise PurgeRefused("No CDN is configured.")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((item, done))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(self._purger), name="gathered purges")
        await done
        return "purged"

    async def _work(self, purger: Purger) -> None:
        while not self._waiting.empty():
            batch = await self._gather()
            error: Exception | None = None
            try:
                await self._ask(purger, [item for item, _ in batch])
            except Exception as caught:  # noqa: BLE001 it is every waiting job's to handle
                error = caught
            _settle(batch, error)

    async def _gather(self) -> list[_Order]:
        batch = [self._waiting.get_nowait()]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._window):
                while len(batch) < self.batch_size:
                    batch.append(await self._waiting.get())
        return batch

    async def _ask(self, purger: Purger, items: Sequence[PurgeItem]) -> None:
        """Purge a batch; a CDN that is busy costs nobody an attempt, and those behind in the queue wait too."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._patience
        while True:
            try:
                return await purger.purge(items)
            except PurgeThrottled as busy:
                pause = busy.retry_after or THROTTLED_RETRY_AFTER
                if clock() + pause > deadline:
                    raise
            await asyncio.sleep(pause)


def _settle(batch: Sequence[_Order], error: Exception | None) -> None:
    for _, done in batch:
        if done.done():  # its job has given up waiting
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
