"""The jobs as DBOS workflows: which steps in which order, when to try again, and when to give up."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Final, Protocol

import structlog
from dbos import DBOS, EnqueueOptions

from ingest.cdn.purge import PurgeItem
from ingest.purging import Purging
from ingest.queue import DELETE, INGEST, PRIORITY, PROCESS, PURGE, QUEUE_OF, DeadLetter
from ingest.rendering import Rendering
from ingest.tasks import Failure, Tasks, next_delay
from storage.errors import MediaError

STEP_DEADLINE = 900.0  # seconds; a step that takes longer is a bug, and its worker must not hang for ever
PROCESS_DEADLINE = 4 * 3600.0  # a film may take as long as it lasts for each of its variants
PURGE_DELAYS: Final = (60.0, 120.0, 300.0, 600.0, 1800.0)  # seconds; a CDN that is down must not keep what was deleted

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Attempt:
    kind: str
    subject: str
    number: int
    began: float = field(default_factory=perf_counter)


class JobObserver(Protocol):
    """What wants to know of jobs, such as metrics."""

    def job_ended(self, kind: str, outcome: str, seconds: float) -> None:
        """An attempt ended, such as ``stored``, ``kept``, ``processed``, ``purged``, ``retried`` or ``dead``."""


class Workflows:
    """Runs `Tasks` under DBOS. DBOS calls from threads of its own; the tasks live on the worker's event loop."""

    def __init__(
        self,
        tasks: Tasks,
        rendering: Rendering,
        purging: Purging,
        loop: asyncio.AbstractEventLoop,
        *,
        delays: tuple[float, ...],
        purge_delays: tuple[float, ...] = PURGE_DELAYS,
        observer: JobObserver,
    ) -> None:
        """Register the workflows; ``delays`` are the seconds before the second, third, … attempt."""
        self._tasks = tasks
        self._rendering = rendering
        self._purging = purging
        self._loop = loop
        self._delays = delays
        self._purge_delays = purge_delays
        self._observer = observer

        # DBOS marks the functions it registers, which a bound method does not allow.
        @DBOS.workflow(name=INGEST)
        def ingest(message_id: str, attempt: int) -> str:
            return self._ingest(message_id, attempt)

        @DBOS.workflow(name=PROCESS)
        def process(object_id: str, attempt: int) -> str:
            return self._process(object_id, attempt)

        @DBOS.workflow(name=DELETE)
        def delete(object_id: str, attempt: int) -> str:
            return self._delete(object_id, attempt)

        @DBOS.workflow(name=PURGE)
        def purge(message_id: str, attempt: int, ordered_at: str | None = None) -> str:
            return self._purge(message_id, attempt, ordered_at)

    def _ingest(self, message_id: str, attempt: int) -> str:
        job = _Attempt(INGEST, message_id, attempt)
        result = self._step("original", lambda: self._tasks.original(message_id, fresh=attempt == 0))
        if "failure" not in result and result["outcome"] != "deleted":
            result |= self._step("publish", lambda: self._tasks.publish(message_id))
        if "failure" not in result:
            return self._ended(job, result["outcome"])
        failure = Failure(**result["failure"])
        delay = next_delay(failure, attempt, self._delays)
        self._step("fail", lambda: self._tasks.fail(message_id, failure, attempt, dead=delay is None))
        return self._again(job, failure, delay)

    def _process(self, object_id: str, attempt: int) -> str:
        job = _Attempt(PROCESS, object_id, attempt)
        result = self._step("process", lambda: self._rendering.process(object_id), deadline=PROCESS_DEADLINE)
        if "failure" not in result:
            return self._ended(job, result["outcome"])
        failure = Failure(**result["failure"])
        delay = next_delay(failure, attempt, self._delays)
        if delay is None:
            self._step("give up", lambda: self._rendering.give_up(object_id, failure.code))
        return self._again(job, failure, delay)

    def _delete(self, object_id: str, attempt: int) -> str:
        job = _Attempt(DELETE, object_id, attempt)
        result = self._step("delete", lambda: self._tasks.delete(object_id))
        if "failure" not in result:
            return self._ended(job, "deleted")
        failure = Failure(**result["failure"])
        return self._again(job, failure, next_delay(failure, attempt, self._delays))

    def _purge(self, message_id: str, attempt: int, ordered_at: str | None) -> str:
        job = _Attempt(PURGE, message_id, attempt)
        # A step, whose result is kept: every attempt and every worker names the same moment.
        moment = ordered_at or DBOS.run_step({"name": "order"}, _now)
        item = PurgeItem(message_id=message_id, deleted_at=datetime.fromisoformat(moment))
        result = self._step("purge", lambda: self._purging.purge(item))
        if "failure" not in result:
            return self._ended(job, result["outcome"])
        failure = Failure(**result["failure"])
        return self._again(job, failure, next_delay(failure, attempt, self._purge_delays), moment)

    def _again(self, job: "_Attempt", failure: Failure, delay: float | None, *arguments: str) -> str:
        """Enqueue the next attempt, or give up."""
        if delay is None:
            self._ended(job, "dead")
            log.error("job is dead", kind=job.kind, subject=job.subject, attempts=job.number + 1, code=failure.code)
            raise DeadLetter(f"{failure.code}: {failure.detail}")
        options = EnqueueOptions(
            workflow_name=job.kind, queue_name=QUEUE_OF[job.kind], priority=PRIORITY, delay_seconds=delay
        )
        DBOS.enqueue_workflow_with_options(options, job.subject, job.number + 1, *arguments)
        return self._ended(job, "retried")

    def _ended(self, job: "_Attempt", outcome: str) -> str:
        self._observer.job_ended(job.kind, outcome, perf_counter() - job.began)
        return outcome

    def _step(
        self, name: str, work: Callable[[], Coroutine[Any, Any, str | None]], *, deadline: float = STEP_DEADLINE
    ) -> dict[str, Any]:
        """Do one step of a job, once: its result is kept in the queue's database."""

        def run() -> dict[str, Any]:
            future = asyncio.run_coroutine_threadsafe(_result(work()), self._loop)
            try:
                return future.result(deadline)
            finally:
                future.cancel()

        return DBOS.run_step({"name": name}, run)


def _now() -> str:
    return datetime.now(UTC).isoformat()


async def _result(work: Coroutine[Any, Any, str | None]) -> dict[str, Any]:
    """Return what a task returned, or why it failed: an exception would end the job at once."""
    try:
        outcome = await work
    except MediaError as error:
        log.warning("job step failed", error=type(error).__name__, detail=str(error))
        return {"failure": asdict(Failure.of(error))}
    except Exception as error:  # a bug; tried again like any other failure, and named in the dead letter
        log.exception("job step crashed")
        return {"failure": asdict(Failure(MediaError.code, type(error).__name__, permanent=False, retry_after=None))}
    return {"outcome": outcome} if outcome is not None else {}
