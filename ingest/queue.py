"""The durable queue: any process may write to it, in the records' own transaction where they share a database.

DBOS keeps the jobs. A job's *attempt* is a workflow of its own, enqueued with a delay, so that waiting for the next try
occupies no worker.
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from ingest.queue_connections import Connections
from storage.database import BUSY_TIMEOUT, sync_url
from storage.errors import RecordsUnavailable
from storage.records import InTransaction

if TYPE_CHECKING:
    from dbos import DBOSClient, EnqueueOptions

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
APPLICATION_VERSION = "1"  # fixed: a new release takes over the jobs of the old one
PRIORITY = 10
UPKEEP = 100  # the priority of what can wait for all else
PRIORITIES = (PRIORITY, UPKEEP)
DEAD = ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
WAITING = ("ENQUEUED", "DELAYED")
DONE = ("SUCCESS", "CANCELLED")

COUNTED = 100_000
"""Jobs of a queue that are counted: who asks how it is going must not wait for an answer about millions."""

# SQLite uses an index of some rows only where their condition stands in the query word for word, without parameters.
_ENQUEUED = "queue_name = :queue AND status = 'ENQUEUED' AND status IN ('ENQUEUED', 'PENDING')"


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in a queue."""

    queue: str
    depth: int
    """Up to `COUNTED`, and as many that are delayed."""
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


class DeadLetter(Exception):
    """A job that will not be tried again; the message is the reason."""


class Queue:
    """Writes jobs and answers questions about them; runs none."""

    def __init__(self, url: str, *, records_url: str, busy_timeout: float = BUSY_TIMEOUT) -> None:
        """Take both URLs, and the seconds that a writer waits for SQLite's one write lock."""
        self._shared = sync_url(url) == sync_url(records_url)
        self._connections = Connections(sync_url(url), busy_timeout)
        self._engine = self._connections.engine
        self._table = "workflow_status" if self._engine.dialect.name == "sqlite" else "dbos.workflow_status"

    async def __aenter__(self) -> Self:
        """Connect lazily, with the first job."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._connections.aclose()

    async def within(self, kind: str, queue: str = HIGH, *, delay: float = 0.0) -> InTransaction | None:
        """Return what writes jobs inside the records' transaction, or None where the queue lives elsewhere.

        ``delay`` is in seconds: the jobs begin no sooner.
        """
        if not self._shared:
            return None
        client = await self._connections.opened_client()
        options = _options(kind, queue, delay=delay)

        def write(connection: Connection, subjects: Sequence[str]) -> None:
            for subject in subjects:
                client.enqueue_in_transaction(connection, options, subject, 0)

        return write

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
            client = self._client()
            from dbos import error  # noqa: PLC0415 see `Connections.client`

            # In a transaction of ours: the client's own waits for a locked database without end.
            with suppress(error.DBOSQueueDeduplicatedError), self._engine.begin() as connection:
                client.enqueue_in_transaction(connection, options, subject, 0)

        await self._ask(write)

    async def jobs(self, *, status: Sequence[str] = (*DEAD, *WAITING, "PENDING"), limit: int = 100) -> list[Job]:
        """Return the newest jobs of those states."""
        found = await self._ask(lambda: self._client().list_workflows(status=list(status), limit=limit, sort_desc=True))
        return [_job(each) for each in found]

    async def cancel(self, job_id: str) -> None:
        """Keep a job from running (again)."""
        await self._ask(lambda: self._client().cancel_workflow(job_id))

    async def forget(self, job_ids: Sequence[str]) -> None:
        """Drop jobs from the books, such as dead ones that are tried again."""
        if job_ids:
            await self._ask(lambda: self._client().delete_workflows(list(job_ids)))

    async def prune(self, *, completed_before: str, status: Sequence[str] = DONE, limit: int = 500) -> int:
        """Forget jobs that ended before a moment (ISO 8601) in one of those states; return how many."""
        found = await self._ask(
            lambda: self._client().list_workflows(
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
            with self._engine.connect() as connection:
                delayed = self._delayed(connection)
                return [self._backlog(connection, queue, delayed[queue]) for queue in QUEUES]

        found: list[Backlog] = await self._ask(count)
        return found

    def _delayed(self, connection: Connection) -> dict[str, list[int]]:
        """Return when those jobs were written that are to begin later, by queue."""
        query = f"SELECT queue_name, created_at FROM {self._table} WHERE status = 'DELAYED' LIMIT {COUNTED}"  # noqa: S608 ours
        found: defaultdict[str, list[int]] = defaultdict(list)
        for queue, created_at in connection.exec_driver_sql(query):
            found[queue].append(created_at)
        return found

    def _backlog(self, connection: Connection, queue: str, delayed: list[int]) -> Backlog:
        enqueued = f"FROM {self._table} WHERE {_ENQUEUED}"
        depth = text(f"SELECT count(*) FROM (SELECT 1 {enqueued} LIMIT {COUNTED}) AS counted")  # noqa: S608 ours
        # By an index that begins with the priority: the first of each is at hand, the first of all is not.
        first = text(f"SELECT created_at {enqueued} AND priority = :priority ORDER BY created_at LIMIT 1")
        count = connection.execute(depth, {"queue": queue}).scalar_one()
        firsts = [connection.execute(first, {"queue": queue, "priority": each}).scalar() for each in PRIORITIES]
        oldest = min([each for each in firsts if each is not None] + delayed, default=None)
        return Backlog(queue, count + len(delayed), oldest / 1000 if oldest is not None else None)

    async def check(self) -> None:
        """Prove that the queue's database answers; raises `RecordsUnavailable` where not."""

        def look() -> None:
            with self._engine.connect() as connection:
                connection.exec_driver_sql(f"SELECT 1 FROM {self._table} LIMIT 1")  # noqa: S608 ours

        await self._ask(look)

    def _client(self) -> "DBOSClient":
        return self._connections.client()

    async def _ask(self, question: Any) -> Any:
        try:
            return await self._connections.run(question)
        except (SQLAlchemyError, OSError) as error:
            raise RecordsUnavailable("The job queue's database is unavailable.") from error


def processing_queue(content_type: str) -> str:
    """Return the queue in which media of a type wait to be processed."""
    return FILMS if content_type.startswith("video/") else PROCESSING


def _options(kind: str, queue: str, priority: int = PRIORITY, delay: float = 0.0) -> "EnqueueOptions":
    options: EnqueueOptions = {"workflow_name": kind, "queue_name": queue, "priority": priority}
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
