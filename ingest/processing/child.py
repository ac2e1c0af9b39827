"""A child process: decodes media for its parent, one job at a time, confined before the first.

``python -I -m ingest.processing.child SETUP``, where SETUP is a `Setup`. Reads one job per line from standard
input, and writes one answer per line to what was its standard output, each as soon as there is something to say.
"""

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from ingest.processing.confinement import confine, grant_cpu
from ingest.processing.jobs import Job, Setup, duration_after
from ingest.processing.limits import NO_SPACE, OUT_OF_MEMORY, Limits
from ingest.processing.steps import Ceilings, Result, Source, Step, Unprocessable

_CODES = {
    errno.ENOMEM: OUT_OF_MEMORY,
    errno.EFBIG: "output-too-large",
    errno.EMFILE: "too-many-files",
    errno.ENOSPC: NO_SPACE,
}
"""Causes that are no fault of the medium's form; everything else that a decoder raises makes it undecodable."""

Steps = Callable[[Source, Ceilings], list[Step]]


def main() -> None:
    """Serve jobs until standard input ends."""
    setup = Setup.parse(sys.argv[1])
    jobs, answers = _private_pipes()
    if setup.import_from is not None:
        sys.path.append(str(setup.import_from))
    confinement = confine(setup.limits, parent=setup.parent, readable=setup.inbox, writable=setup.outbox)
    worker = _Worker(import_module(setup.kinds).steps, setup.limits, answers)
    worker.say("ready", **asdict(confinement))
    for line in jobs:
        worker.serve(Job.parse(line))


class _Worker:
    """Runs the steps of one job after the other, and says what comes of each."""

    def __init__(self, steps: Steps, limits: Limits, answers: IO[bytes]) -> None:
        self._steps = steps
        self._limits = limits
        self._answers = answers
        self._began = 0.0

    def say(self, event: str, **details: object) -> None:
        """Send one answer; raises ValueError or TypeError where it is not JSON."""
        self._answers.write(json.dumps({"event": event, **details}, allow_nan=False).encode() + b"\n")
        self._answers.flush()

    def serve(self, job: Job) -> None:
        """Run a job's steps, each as if the others had not been."""
        duration = job.duration
        self._begin(duration)
        try:
            steps = self._steps(job.source, job.ceilings)
        except Exception as error:  # noqa: BLE001 whatever a decoder raises is its answer
            self._say_failed("", error)
            steps = []
        for step in filter(job.wants, steps):
            facts = self._run(step, job.folder, duration)
            duration = duration_after(facts, duration, job.ceilings)
        self.say("done")

    def _run(self, step: Step, folder: Path, duration: float) -> Mapping[str, Any]:
        """Run one step, and return what it has learned."""
        self.say("began", step=step.name)
        self._begin(duration)
        try:
            result = step.run(folder)
            self._say_made(step.name, result)
        except Exception as error:  # noqa: BLE001 whatever a decoder raises is its answer
            self._say_failed(step.name, error)
            return {}
        return result.facts

    def _begin(self, duration: float) -> None:
        self._began = time.monotonic()
        grant_cpu(self._limits.step_seconds(duration))

    def _say_made(self, step: str, result: Result) -> None:
        made = [{"name": made.name, "path": str(made.path), "content_type": made.content_type} for made in result.made]
        self.say("made", step=step, seconds=self._seconds(), made=made, facts=dict(result.facts))

    def _say_failed(self, step: str, error: Exception) -> None:
        self.say("failed", step=step, seconds=self._seconds(), code=code_of(error), error=type(error).__name__)

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def code_of(error: Exception) -> str:
    """Return why a medium, or a step of it, could not be processed, in a word."""
    if isinstance(error, Unprocessable):
        return error.code
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY
    return _CODES.get(getattr(error, "errno", None) or 0, "undecodable")


def _private_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Keep the pipes to the parent for ourselves: libraries read and print, into the void from now on."""
    for descriptor in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
        if descriptor > 2:  # noqa: PLR2004 standard error
            with suppress(OSError):  # the listing's own is closed already
                os.close(descriptor)
    jobs, answers = os.dup(0), os.dup(1)
    void = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(void, standard)
    os.close(void)
    return os.fdopen(jobs, "rb"), os.fdopen(answers, "wb")


if __name__ == "__main__":
    main()
