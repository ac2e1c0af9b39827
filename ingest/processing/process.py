"""A child process as its parent sees it: its start, a job for it, what it answers, its end."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from ingest.processing.answers import LINE_LIMIT, Answer, Ready, parse
from ingest.processing.jobs import Job, Setup
from ingest.processing.limits import OUT_OF_MEMORY, Limits
from ingest.processing.scratch import Workplace

CHILD = "ingest.processing.child"
START_TIMEOUT = 30.0  # seconds
END_TIMEOUT = 10.0  # seconds; a killed process goes at once, unless the kernel itself hangs in it
LAST_BREATH = 2.0  # seconds between the end of what it says and its own
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "131072",  # bytes; a child that waits gives back what its last picture took
}
_INHERITED = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # where an interpreter that was moved finds its own library

# What a death by a signal that is not ours means; SIGKILL is how the kernel takes memory back.
_DEATHS = {-signal.SIGKILL: OUT_OF_MEMORY, -signal.SIGXCPU: "too-slow"}

log = structlog.get_logger()


class ChildFault(Exception):
    """A child died, took too long, or said what no child of ours says; it must be replaced."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Child:
    """One process; whoever starts it closes it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        jobs: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        workplace: Workplace,
    ) -> None:
        self._process = process
        self._jobs = jobs
        self._answers = answers
        self.workplace = workplace
        self.started = 0
        """How many jobs it has been given."""
        self.worn = False
        """Whether it should get no more."""

    @classmethod
    async def start(cls, workplace: Workplace, limits: Limits, *, kinds: str, import_from: Path | None) -> "Child":
        """Start a process that knows nothing of ours but what is said here; raises OSError."""
        setup = Setup(
            parent=os.getpid(),
            kinds=kinds,
            import_from=import_from,
            inbox=workplace.inbox,
            outbox=workplace.outbox,
            limits=limits,
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", CHILD, setup.line()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=LINE_LIMIT,
            cwd=workplace.outbox,
            env=_environment(workplace),
            start_new_session=True,  # an interrupt of the terminal is the parent's, and all that it starts die with it
        )
        if process.stdin is None or process.stdout is None:
            raise AssertionError("asked for, both are pipes")
        return cls(process, process.stdin, process.stdout, workplace)

    @property
    def alive(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ready(self) -> Ready:
        """Wait until it is confined; raises ChildFault."""
        answer = await self.answer(START_TIMEOUT)
        if not isinstance(answer, Ready):
            raise ChildFault("bad-answer")
        return answer

    def send(self, job: Job) -> None:
        """Give it a job; if it has died meanwhile, its answer shows that."""
        self._jobs.write(job.line().encode() + b"\n")  # far shorter than a pipe's buffer: there is nothing to wait for

    async def answer(self, seconds: float) -> Answer:
        """Return what it says next.

        Raises:
            ChildFault: It died, said nothing for so many seconds, or nothing that makes sense.
        """
        try:
            async with asyncio.timeout(seconds):
                line = await self._answers.readline()
            if line.endswith(b"\n"):
                return parse(line)
        except TimeoutError:
            raise ChildFault("too-slow") from None
        except ValueError:  # a line too long, or not of the form
            raise ChildFault("bad-answer") from None
        raise ChildFault(await self._cause_of_death())

    def kill(self) -> None:
        """End it, with all that it may have started."""
        if self.alive:
            with suppress(ProcessLookupError):  # it has just ended
                os.killpg(self._process.pid, signal.SIGKILL)

    async def wait(self, seconds: float = END_TIMEOUT) -> int | None:
        """Wait for its end, and return its exit status; None where it does not come."""
        try:
            async with asyncio.timeout(seconds):
                return await self._process.wait()
        except TimeoutError:
            return None

    async def close(self) -> None:
        """Kill it, wait for its end, and delete its folder."""
        self.kill()
        self._jobs.close()
        if await self.wait() is None:
            log.error("processing child cannot be killed", pid=self._process.pid)
        else:
            await self._answers.read()  # what was left in the pipe, which closes at its end
        await asyncio.to_thread(self.workplace.remove)

    async def _cause_of_death(self) -> str:
        status = await self.wait(LAST_BREATH)
        return "bad-answer" if status is None else _DEATHS.get(status, "crashed")  # the former lives on without a word


def _environment(workplace: Workplace) -> Mapping[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return _ENVIRONMENT | {"TMPDIR": str(workplace.outbox)} | inherited
