"""The children of a pool: started when needed, lent to one job at a time, reused, replaced after any fault."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import structlog

from ingest.processing.answers import Ready
from ingest.processing.limits import Limits
from ingest.processing.process import Child, ChildFault
from ingest.processing.scratch import Scratch
from storage.threads import settled

log = structlog.get_logger()


class PoolUnavailable(Exception):
    """The medium could not be processed now, for no fault of its own: no room, no process, or the pool is closed."""


class ChildObserver(Protocol):
    """What wants to know of children, such as metrics."""

    def child_ended(self, reason: str) -> None:
        """A child is gone.

        It ``crashed``, was ``too-slow``, ran ``out-of-memory``, gave a ``bad-answer``; its job was ``abandoned`` by the
        caller; it had no job for long (``idle``), many or a large one (``worn``), or all were ``closed``.
        """


class Children:
    """At most so many at a time; who waits for one is served in the order of coming."""

    def __init__(
        self,
        scratch: Scratch,
        *,
        most: int,
        limits: Limits,
        observer: ChildObserver,
        kinds: str,
        import_from: Path | None,
    ) -> None:
        self._scratch = scratch
        self._turns = asyncio.Semaphore(most)
        self._limits = limits
        self._observer = observer
        self._kinds = kinds
        self._import_from = import_from
        self._alive: set[Child] = set()
        self._idle: dict[Child, asyncio.TimerHandle] = {}  # the last one has rested for the shortest time
        self._tasks: set[asyncio.Task[None]] = set()
        self._reported = False
        self.closed = False

    def __len__(self) -> int:
        return len(self._alive)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until there may be a child for one more; `lend` within it."""
        async with self._turns:
            yield

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Child]:
        """Lend a child; one that is given back by an exception of any kind is killed, and gone when this returns.

        Raises:
            PoolUnavailable: None can be started.
        """
        child = await self._take()
        try:
            yield child
        except BaseException as error:
            await settled(self._end(child, error.code if isinstance(error, ChildFault) else "abandoned"))
            raise
        if self.closed or child.worn or child.started >= self._limits.jobs:
            await settled(self._end(child, "worn"))
        else:
            self._rest(child)

    async def aclose(self) -> None:
        """Kill all, and wait for their end."""
        self.closed = True
        for child in self._alive:
            child.kill()
        for child in tuple(self._idle):
            self._retire(child, "closed")
        while self._tasks:  # also children that are just being started
            await asyncio.wait(self._tasks)
        # Those that are lent are closed by who reads what they say, now that it breaks off.
        await asyncio.gather(*(child.wait() for child in self._alive))
        await asyncio.to_thread(self._scratch.close)

    async def _take(self) -> Child:
        while not self.closed:
            if not self._idle:  # a cancelled caller leaves the child to the next one
                await settled(self._own(self._start()))
                continue
            child, timer = self._idle.popitem()
            timer.cancel()
            if child.alive:
                return child
            await settled(self._end(child, "crashed"))
        raise PoolUnavailable("The pool is closed.")

    async def _start(self) -> None:
        """Start one child, and let it wait for a job."""
        try:
            workplace = await asyncio.to_thread(self._scratch.workplace)
            child = await Child.start(workplace, self._limits, kinds=self._kinds, import_from=self._import_from)
        except OSError as error:
            raise PoolUnavailable("No child can be started.") from error
        self._alive.add(child)
        try:
            self._report(await child.ready())
        except ChildFault as fault:
            await self._end(child, fault.code)
            raise PoolUnavailable("A child does not start.") from fault
        if self.closed:
            await self._end(child, "closed")
        else:
            self._rest(child)

    def _rest(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        self._idle[child] = loop.call_later(self._limits.idle, self._retire, child, "idle")

    def _retire(self, child: Child, reason: str) -> None:
        self._idle.pop(child).cancel()
        self._own(self._end(child, reason))

    async def _end(self, child: Child, reason: str) -> None:
        await child.close()
        self._alive.discard(child)
        self._observer.child_ended("closed" if self.closed else reason)

    def _own(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _report(self, ready: Ready) -> None:
        if not self._reported:
            self._reported = True
            tell = log.warning if ready.missing else log.info
            tell("processing children are confined", by=ready.active, missing=ready.missing)
