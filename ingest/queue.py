"""The durable queue: any process may write to it, in the records' own transaction where they share a database.

DBOS keeps the jobs. A job's *attempt* is a workflow of its own, enqueued with a delay, so that waiting for the next try
occupies no worker.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import anyio.to_thread
from dbos import DBOS, DBOSClient, EnqueueOptions
from dbos import error as dbos_error
from sqlalchemy import Connection, Engine, create_engine, func, literal_column, make_url, select, table
from sqlalchemy.exc import SQLAlchemyError

from storage.database import BUSY_TIMEOUT, CONNECT_TIMEOUT, POOL_TIMEOUT, sync_url
from storage.errors import RecordsUnavailable
from storage.records import InTransaction

HIGH = "media-high"  # what has just arrived or been asked for
LOW = "media-low"  # sweeps, deletions, upkeep
PROCESSING = "media-processing"  # pictures, sound and documents
FILMS = "media-films"  # apart, so that no picture waits for a film
PURGES = "media-purge"  # apart, so that nothing waits for a CDN
QUEUES = (HIGH, LOW, PROCESSING, FILMS, PURGES)
INGEST = "ingest"
PROCESS = "process"
DELETE = "delete"
PURGE = "purge"
QUEUE_OF = {INGEST: HIGH, PROCESS: FILMS, DELETE: LOW, PURGE: PURGES}
"""Where a job waits that is done again; whatever is processed again among the films, where nothing is urgent."""
APPLICATION = "media-gateway"
APPLICATION_VERSION = "1"  # fixed: a new release takes over the jobs of the old one
PRIORITY = 10
UPKEEP = 100  # the priority of what can wait for all else
DEAD = ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
WAITING = ("ENQUEUED", "DELAYED")
DONE = ("SUCCESS", "CANCELLED")


_BACKLOG: Any = (
    select(
        literal_column("queue_name"),
        func.count().label("depth"),
        func.min(literal_column("created_at")).label("oldest"),
    )
    .where(literal_column("status").in_(WAITING))
    .group_by(literal_column("queue_name"))
)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in a queue."""

    queue: str
    depth: int
    oldest: float | None
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt of a job, as operators see it."""

    id: str
    kind: str
    subject: str
    """The message's or object's id."""
    queue: str
    status: str
    attempt: int
    created_at: float
    """Seconds since the epoch."""
    error: str | None


def migrate(url: str) -> None:
    """Create or upgrade the queue's tables; blocking."""
    DBOS.migrate(sync_url(url))


class Queue:
    """Writes jobs and answers questions about them; runs none."""

    def __init__(self, url: str, *, records_url: str, busy_timeout: float = BUSY_TIMEOUT) -> None:
        """Take both URLs, and the seconds that a writer waits for SQLite's one write lock."""
        self._client = DBOSClient(
            system_database_url=sync_url(url),
            application_name=APPLICATION,
            retry_connection_errors=False,
            lazy=True,
            system_database_pool_size=5,
        )
        self._shared = sync_url(url) == sync_url(records_url)
        self._engine = _open_engine(sync_url(url), busy_timeout)

    async def __aenter__(self) -> Self:
        """Connect lazily, with the first job."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await anyio.to_thread.run_sync(self._client.destroy)
        await anyio.to_thread.run_sync(self._engine.dispose)

    def within(self, kind: str, queue: str = HIGH, *, delay: float = 0.0) -> InTransaction | None:
        """Return what writes jobs inside the records' transaction, or None where the queue lives elsewhere.

        ``delay`` is in seconds: the jobs begin no sooner.
        """
        options = _options(kind, queue, delay=delay)
        return (lambda connection, ids: self._write(connection, options, ids)) if self._shared else None

    async def after(self, kind: str, subjects: Sequence[str], queue: str = HIGH) -> None:
        """Write the jobs of records that are committed already, where `within` could not; else do nothing."""
        if not self._shared:
            for subject in subjects:
                await self.enqueue(kind, subject, queue)

    async def enqueue(
        self,
        kind: str,
        subject: str,
        queue: str = HIGH,
        *,
        priority: int = PRIORITY,
        delay: float = 0.0,
        once: bool = True,
    ) -> None:
        """Write a job that begins after ``delay`` seconds at the soonest.

        With ``once`` it is not written where this has written one of the same kind and subject that has not ended yet.
        What `within` writes is not counted, nor what is in another queue: jobs may meet, and the steps allow for it.

        Raises:
            RecordsUnavailable: The queue's database does not answer.
        """
        options = _options(kind, queue, priority, delay)
        if once:
            options["deduplication_id"] = f"{kind}:{subject}"

        def write() -> None:
            # In a transaction of ours: the client's own waits for a locked database without end.
            with suppress(dbos_error.DBOSQueueDeduplicatedError), self._engine.begin() as connection:
                self._client.enqueue_in_transaction(connection, options, subject, 0)

        await self._ask(write)

    async def jobs(self, *, status: Sequence[str] = (*DEAD, *WAITING, "PENDING"), limit: int = 100) -> list[Job]:
        """Return the newest jobs of those states."""
        found = await self._ask(lambda: self._client.list_workflows(status=list(status), limit=limit, sort_desc=True))
        return [_job(each) for each in found]

    async def cancel(self, job_id: str) -> None:
        """Keep a job from running (again)."""
        await self._ask(lambda: self._client.cancel_workflow(job_id))

    async def forget(self, job_ids: Sequence[str]) -> None:
        """Drop jobs from the books, such as dead ones that are tried again."""
        if job_ids:
            await self._ask(lambda: self._client.delete_workflows(list(job_ids)))

    async def prune(self, *, completed_before: str, status: Sequence[str] = DONE, limit: int = 500) -> int:
        """Forget jobs that ended before a moment (ISO 8601) in one of those states; return how many."""
        found = await self._ask(
            lambda: self._client.list_workflows(
                status=list(status),
                completed_before=completed_before,
                limit=limit,
                load_input=False,
                load_output=False,
            )
        )
        await self.forget([each.workflow_id for each in found])
        return len(found)

    async def backlog(self) -> list[Backlog]:
        """Return how much waits in each queue, and since when."""

        def count() -> list[Backlog]:
            schema = None if self._engine.dialect.name == "sqlite" else "dbos"
            status = table("workflow_status", schema=schema)
            with self._engine.connect() as connection:
                rows = connection.execute(_BACKLOG.select_from(status)).all()
            waiting = {row.queue_name: Backlog(row.queue_name, row.depth, row.oldest / 1000) for row in rows}
            return [waiting.get(name, Backlog(name, 0, None)) for name in QUEUES]

        found: list[Backlog] = await self._ask(count)
        return found

    async def check(self) -> None:
        """Prove that the queue's database answers; raises `RecordsUnavailable` where not."""
        await self.backlog()

    async def _ask(self, question: Any) -> Any:
        try:
            return await anyio.to_thread.run_sync(question)
        except (SQLAlchemyError, OSError) as error:
            raise RecordsUnavailable("The job queue's database is unavailable.") from error

    def _write(self, connection: Connection, options: EnqueueOptions, subjects: Sequence[str]) -> None:
        for subject in subjects:
            self._client.enqueue_in_transaction(connection, options, subject, 0)


def _open_engine(url: str, busy_timeout: float) -> Engine:
    sqlite = make_url(url).get_backend_name() == "sqlite"
    arguments = {"timeout": busy_timeout} if sqlite else {"connect_timeout": CONNECT_TIMEOUT}
    return create_engine(
        url, pool_size=4, max_overflow=0, pool_timeout=POOL_TIMEOUT, pool_pre_ping=True, connect_args=arguments
    )


def processing_queue(content_type: str) -> str:
    """Return the queue in which media of a type wait to be processed."""
    return FILMS if content_type.startswith("video/") else PROCESSING


def _options(kind: str, queue: str, priority: int = PRIORITY, delay: float = 0.0) -> EnqueueOptions:
    options = EnqueueOptions(workflow_name=kind, queue_name=queue, priority=priority)
    if delay:
        options["delay_seconds"] = delay
    return options


def _job(status: Any) -> Job:
    arguments = (status.input or {"args": ()})["args"]
    return Job(
        id=status.workflow_id,
        kind=status.name,
        subject=str(arguments[0]) if arguments else "",
        queue=status.queue_name or "",
        status=status.status,
        attempt=int(arguments[1]) if len(arguments) > 1 else 0,
        created_at=(status.created_at or 0) / 1000,
        error=str(status.error) if status.error is not None else None,
    )
