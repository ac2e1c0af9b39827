"""Decodes media in child processes: a crash, a hang or a bomb costs one step, never more."""

import asyncio
import errno
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import structlog

from ingest.processing.answers import Answer, JobDone, MadeFile, StepBegan, StepFailed, StepMade
from ingest.processing.children import ChildObserver, Children, PoolUnavailable
from ingest.processing.limits import NO_SPACE, OUT_OF_MEMORY, Limits
from ingest.processing.process import Child, ChildFault
from ingest.processing.run import Run
from ingest.processing.scratch import NotMade, Scratch
from ingest.processing.steps import Ceilings, Source
from storage.threads import settled

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rendition:
    """A file that a step has made, in the folder that the caller gave; size and hash are of this very file."""

    name: str
    path: Path
    content_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A step has done what it can."""

    step: str
    renditions: tuple[Rendition, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """A step has made nothing, ``code`` says why in a word; without a name, there is no step that could be tried."""

    step: str
    code: str


Event = Finished | Failed


class PoolObserver(ChildObserver, Protocol):
    """What wants to know of children and their work, such as metrics."""

    def step_ended(self, step: str, outcome: str, seconds: float) -> None:
        """A step took so long; the outcome is ``made``, ``failed``, or the child's own (see `ChildObserver`)."""


class Pool:
    """Runs the steps of media in children, at most so many media at a time."""

    def __init__(
        self,
        *,
        scratch: Path,
        children: int,
        limits: Limits,
        ceilings: Ceilings,
        observer: PoolObserver,
        kinds: str = "ingest.processing.kinds",
        import_from: Path | None = None,
    ) -> None:
        """Take what bounds the work.

        Args:
            scratch: A folder to work in, on the file system of the sources if possible; it may be shared by pools.
            children: How many at most.
            limits: What one child may use.
            ceilings: What is too much to decode.
            observer: Is told of steps and children.
            kinds: The module whose ``steps(source, ceilings)`` children run.
            import_from: The folder of that module, if it is not installed.
        """
        self._limits = limits
        self._ceilings = ceilings
        self._observer = observer
        self._children = Children(
            Scratch(scratch), most=children, limits=limits, observer=observer, kinds=kinds, import_from=import_from
        )

    @property
    def alive(self) -> int:
        """How many children there are."""
        return len(self._children)

    async def process(
        self, source: Source, folder: Path, *, wanted: frozenset[str] | None = None, duration: float = 0.0
    ) -> AsyncGenerator[Event, None]:
        """Run a medium's steps in a child, and yield what comes of each as soon as it has ended.

        Use it with ``contextlib.aclosing``: leaving early kills the child. Waits for its turn, in the order of coming.

        Args:
            source: The original, which is only read.
            folder: Where the renditions go; empty, and the caller's to clear.
            wanted: The variants that are needed; None: all, and the facts.
            duration: In seconds, if it is known from before; a long medium gets more time (see `Limits`).

        Raises:
            PoolUnavailable: Trying again later may help.
        """
        run = Run(source, folder, wanted, duration)
        async with self._children.turn():
            while not run.over:
                try:
                    async with self._children.lend() as child, aclosing(self._attempt(child, run)) as events:
                        async for event in events:
                            yield event
                except ChildFault as fault:
                    if self._children.closed:
                        raise PoolUnavailable("The pool is closed.") from fault
                    lost = self._blame(run, fault)
                    if lost is not None:
                        yield Failed(lost, fault.code)
                except OSError as error:
                    raise PoolUnavailable("There is no room to process the medium.") from error

    async def aclose(self) -> None:
        """Kill all children and wait for their end; whoever still waits for one gets `PoolUnavailable`."""
        await self._children.aclose()

    async def _attempt(self, child: Child, run: Run) -> AsyncGenerator[Event, None]:
        """Run the steps that have not ended yet in one child; raises ChildFault, or OSError where there is no room."""
        child.started += 1
        number = child.started
        original, made = await settled(asyncio.to_thread(child.workplace.begin, number, run.source.path))
        child.send(run.job(original, made, self._ceilings))
        while not isinstance(answer := await child.answer(self._limits.step_seconds(run.duration)), JobDone):
            event = await self._take(answer, child, run)
            if event is not None:
                yield event
        run.finish()
        await settled(asyncio.to_thread(child.workplace.end, number))

    async def _take(self, answer: Answer, child: Child, run: Run) -> Event | None:
        match answer:
            case StepBegan():
                run.begin(answer.step)
                return None
            case StepMade():
                return await self._finished(answer, child, run)
            case StepFailed():
                return self._failed(answer, child, run)
        raise ChildFault("bad-answer")

    def _failed(self, answer: StepFailed, child: Child, run: Run) -> Failed:
        run.end(answer.step)
        log.info("processing step failed", step=answer.step, code=answer.code, error=answer.error)
        self._observer.step_ended(answer.step, "failed", answer.seconds)
        if answer.code == NO_SPACE:
            raise OSError(errno.ENOSPC, "in a child")
        if answer.code == OUT_OF_MEMORY:
            child.worn = True  # what is left of its memory is in pieces
        return Failed(answer.step, answer.code)

    async def _finished(self, answer: StepMade, child: Child, run: Run) -> Finished:
        run.expect(answer.step, frozenset(file.name for file in answer.made))
        renditions = [await self._adopt(file, child, run) for file in answer.made]
        run.end(answer.step)
        run.learn(answer.facts, self._ceilings)
        self._observer.step_ended(answer.step, "made", answer.seconds)
        return Finished(answer.step, tuple(renditions), answer.facts)

    async def _adopt(self, file: MadeFile, child: Child, run: Run) -> Rendition:
        adopt = partial(child.workplace.adopt, child.started, file.path, run.folder, limit=self._limits.output)
        try:
            copy = await settled(asyncio.to_thread(adopt))
        except NotMade:
            raise ChildFault("bad-answer") from None
        return Rendition(file.name, copy.path, file.content_type, copy.size, copy.sha256)

    def _blame(self, run: Run, fault: ChildFault) -> str | None:
        log.warning("processing child was lost", step=run.current, code=fault.code)
        if run.current is not None:
            self._observer.step_ended(run.current, fault.code, time.monotonic() - run.began)
        return run.blame(fault.code)
