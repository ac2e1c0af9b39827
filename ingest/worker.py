"""The ingest worker: runs the jobs, shows that it lives, takes over from dead workers, sweeps up what was forgotten."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import time
from uuid import uuid4

import structlog
from dbos import DBOS, DBOSConfig

from ingest.queue import (
    APPLICATION_VERSION,
    DEAD,
    DELETE,
    FILMS,
    HIGH,
    INGEST,
    LOW,
    PROCESS,
    PROCESSING,
    PURGE,
    PURGES,
    QUEUE_OF,
    QUEUES,
    Job,
    Queue,
)
from ingest.queue_connections import APPLICATION
from ingest.workflows import Workflows
from storage.database import sync_url
from storage.errors import MediaError
from storage.flights import Flights
from storage.liveness import Liveness
from storage.record import Processing, Status
from storage.records import Records
from storage.renditions import Renditions

HEARTBEAT = 5.0  # seconds
DEAD_AFTER = 30.0  # seconds without a heartbeat; sooner where the process is seen to be gone
KEEP_JOBS = timedelta(days=7)
KEEP_DEAD = timedelta(days=30)
DEAD_LETTERS = 500  # that a sweep looks at, the newest

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """How often and after what time the worker cares for what was forgotten; seconds."""

    ingest: bool = True
    """Whether forgotten records get jobs at all."""

    interval: float = 60.0
    idle: float = 600.0
    """A pending record that nothing has touched for so long gets a new job."""
    revive: float = 3600.0
    """A failed one too, while the provider may still have the medium; and any job that has died."""
    spool_age: float = 86_400.0
    """A day: while the store is down, a verified spool may be the only copy that there is."""
    spool_bytes: int = 2 * 1024**3


class Worker:
    """One process that runs jobs until it is told to stop."""

    def __init__(
        self,
        *,
        queue_url: str,
        queue: Queue,
        records: Records,
        renditions: Renditions,
        flights: Flights,
        liveness: Liveness,
        sweep_files: Callable[[timedelta], Awaitable[int]],
        upkeep: Upkeep,
        on_beat: Callable[[], None],
    ) -> None:
        """Take the collaborators.

        ``sweep_files`` deletes what was left unfinished in the store or in work for so long; ``on_beat`` is called
        with every heartbeat, for what is to be seen of this process from outside.
        """
        self._on_beat = on_beat
        self.executor_id = uuid4().hex
        self._queue_url = queue_url
        self._queue = queue
        self._records = records
        self._renditions = renditions
        self._flights = flights
        self._liveness = liveness
        self._sweep_files = sweep_files
        self._upkeep = upkeep

    @asynccontextmanager
    async def running(
        self,
        define: Callable[[], Workflows],
        *,
        concurrency: int,
        processors: int,
        purges: int,
        polling: float,
        grace: float,
    ) -> AsyncIterator[None]:
        """Run jobs while inside; on leaving, take no new ones and let the running ones end for ``grace`` seconds.

        Args:
            define: Registers the workflows, between the construction of DBOS and its launch.
            concurrency: How many jobs of ``media-high`` run at once; half as many of ``media-low``.
            processors: How many media are processed at once; of films one less, so that pictures need not wait.
            purges: How many messages are purged at once.
            polling: Seconds between two looks into the queue.
            grace: Seconds.
        """
        await self._beat()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(_repeated(self._beat, HEARTBEAT))  # until the last job has ended
            await asyncio.to_thread(self._launch, define, _slots(concurrency, processors, purges), polling)
            stack.push_async_callback(self._stop, grace)
            await stack.enter_async_context(_repeated(self._recover, HEARTBEAT))
            await stack.enter_async_context(_repeated(self._sweep, self._upkeep.interval))
            yield

    def _launch(self, define: Callable[[], Workflows], slots: dict[str, int], polling: float) -> None:
        config = DBOSConfig(
            name=APPLICATION,
            system_database_url=sync_url(self._queue_url),
            application_version=APPLICATION_VERSION,
            executor_id=self.executor_id,
            log_level="WARNING",
            run_migrations=False,
            max_executor_threads=sum(slots.values()) + 8,
        )
        DBOS(config=config)
        define()
        DBOS.listen_queues(list(QUEUES))
        DBOS.launch()
        for queue, running in slots.items():
            DBOS.register_queue(
                queue, worker_concurrency=running, polling_interval_sec=polling, on_conflict="always_update"
            )

    async def _stop(self, grace: float) -> None:
        # Our row stays: a job that takes longer than the grace is taken over by who finds us dead.
        await asyncio.to_thread(lambda: DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=int(grace)))

    async def _beat(self) -> None:
        self._on_beat()
        await self._liveness.beat(self.executor_id, _host(), os.getpid())

    async def _recover(self) -> None:
        """Take over the jobs of workers that are dead."""
        dead = await self._liveness.dead(_host(), silent_for=DEAD_AFTER)
        dead = [executor_id for executor_id in dead if executor_id != self.executor_id]
        if not dead:
            return
        # DBOS recovers an executor's own jobs at its start; those of others only through its hosted part, or this.
        handles = await asyncio.to_thread(DBOS._recover_pending_workflows, dead)  # noqa: SLF001 no public name
        if handles:
            log.warning("took over from dead workers", workers=len(dead), jobs=len(handles))
        for executor_id in dead:
            await self._liveness.end(executor_id)

    async def _sweep(self) -> None:
        """Write the jobs that were never written or were lost, delete what nobody needs."""
        dead = await self._bury(await self._queue.jobs(status=DEAD, limit=DEAD_LETTERS))
        idle, revive = timedelta(seconds=self._upkeep.idle), timedelta(seconds=self._upkeep.revive)
        if self._upkeep.ingest:
            for message_id in await self._records.unfinished(idle=idle, revive=revive):
                await self._enqueue(INGEST, message_id, dead)
        for object_id in await self._records.doomed_objects():
            await self._enqueue(DELETE, object_id, dead)
        for object_id in {job.subject for job in dead if job.kind == PROCESS}:  # a scanner or a store was away
            await self._enqueue(PROCESS, object_id, dead)
        await self._records.forget_changes()
        await self._records.fold_tallies()
        now = datetime.now(UTC)
        await self._queue.prune(completed_before=(now - KEEP_JOBS).isoformat())
        await self._queue.prune(completed_before=(now - KEEP_DEAD).isoformat(), status=DEAD)
        age = timedelta(seconds=self._upkeep.spool_age)
        await self._flights.sweep(older_than=age, max_bytes=self._upkeep.spool_bytes)
        await self._sweep_files(age)

    async def _enqueue(self, kind: str, subject: str, dead: list[Job]) -> None:
        """Write a job in place of dead ones, unless the last of them is too young for another try."""
        before = [job for job in dead if (job.kind, job.subject) == (kind, subject)]
        if all(job.created_at < time() - self._upkeep.revive for job in before):
            await self._queue.enqueue(kind, subject, QUEUE_OF[kind] if kind == PROCESS else LOW)
            await self._queue.forget([job.id for job in before])

    async def _bury(self, dead: list[Job]) -> list[Job]:
        """Forget the dead jobs whose work was done by others since; return the rest."""
        answered = [job.id for job in dead if await self._answered(job)]
        await self._queue.forget(answered)
        return [job for job in dead if job.id not in answered]

    async def _answered(self, job: Job) -> bool:
        if job.kind == PURGE:
            return False  # nobody else asks the CDN
        if job.kind == DELETE:
            return await self._records.doomed(job.subject) is None
        if job.kind == PROCESS:
            stored = await self._renditions.object(job.subject)
            return stored is None or stored.processing_status == Processing.COMPLETED
        record = await self._records.get(job.subject)
        return record is None or record.deleted_at is not None or record.status is Status.COMPLETED


@asynccontextmanager
async def _repeated(work: Callable[[], Awaitable[None]], interval: float) -> AsyncIterator[None]:
    """Do some upkeep again and again while inside."""
    task = asyncio.create_task(_forever(work, interval), name=work.__name__)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _forever(work: Callable[[], Awaitable[None]], interval: float) -> None:
    while True:
        try:
            await work()
        except MediaError as error:  # the database or store is away; the next round comes
            log.warning("upkeep failed", work=work.__name__, error=type(error).__name__)
        except Exception:  # the queue's own errors have no common class; a bug must not end the heartbeat either
            log.exception("upkeep failed", work=work.__name__)
        await asyncio.sleep(interval)


def _slots(concurrency: int, processors: int, purges: int) -> dict[str, int]:
    """Return how many jobs of each queue are taken at once."""
    return {
        HIGH: concurrency,
        LOW: max(1, concurrency // 2),
        PROCESSING: 2 * processors,  # the next ones wait for a child, or it would wait for the next look into the queue
        FILMS: max(1, processors - 1),
        PURGES: purges,
    }


def _host() -> str:
    return socket.gethostname()
