"""A medium on its way from the provider: any number of equal readers, at any offset, as far as it has arrived."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from storage.errors import MediaError, OriginFailed, OriginTimeout
from storage.spool import SpoolState
from storage.store import CHUNK_SIZE

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Landed:
    """A verified spool: what a flight leaves behind."""

    name: str
    size: int
    sha256: str
    content_type: str


class Flight:
    """A medium on its way: readable at any offset, as far as it has arrived."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.readers = 0
        self.task: asyncio.Task[None] | None = None
        self.followed = False
        """Whether another process was seen to fly it."""
        self.state: SpoolState | None = None
        self.failure: MediaError | None = None
        self.mirror: bytearray | None = None
        """The bytes that have arrived, in memory, where the medium is small."""
        self.reserved = 0
        """The bytes of memory that are set aside for the mirror."""
        self._file: int | None = None
        self._arrived = 0
        self._changed = asyncio.get_running_loop().create_future()

    # What the task of the flight does ---------------------------------------------------------------------------

    def open(self, path: Path, flags: int) -> int:
        """Open the spool's bytes and return the descriptor. Blocking: call it in a thread."""
        self._file = os.open(path, flags | os.O_CLOEXEC, 0o600)
        return self._file

    def begin(self, state: SpoolState) -> None:
        """Tell the readers what is coming, from the file that is open."""
        self.state = state
        self._notify()

    def arrive(self, total: int, chunk: bytes = b"") -> None:
        """Tell the readers that the spool holds ``total`` bytes now; ``chunk`` are the newest, for the mirror."""
        if self.mirror is not None:
            self.mirror += chunk
        if total != self._arrived:
            self._arrived = total
            self._notify()

    def settle(self, state: SpoolState) -> None:
        """Tell the readers that all bytes are there and right."""
        self.state, self._arrived = state, state.size or 0
        self._notify()

    def fail(self, failure: MediaError) -> None:
        """Tell the readers that no more will come."""
        self.failure = failure
        self._notify()

    def close(self) -> None:
        """Release the spool's file; nobody reads any more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self.mirror = None

    @property
    def descriptor(self) -> int:
        """The file that is open."""
        if self._file is None:
            raise OriginFailed
        return self._file

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)

    # What readers do --------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether somebody reads, or more is to come."""
        return self.readers > 0 or self.task is None or not self.task.done()

    @property
    def verified(self) -> bool:
        """Whether all bytes are there and right."""
        return self.state is not None and self.state.phase == "verified"

    async def declared(self, deadline: float) -> SpoolState:
        """Wait until it is known what is coming, at most ``deadline`` seconds."""
        return await self._until(lambda: self.state if self.failure is None else None, deadline)

    async def landed(self, deadline: float) -> Landed:
        """Wait until the bytes are there and right, at most ``deadline`` seconds."""
        state = await self._until(lambda: self.state if self.verified else None, deadline)
        if state.size is None or state.sha256 is None:  # a verified state has both
            raise OriginFailed
        return Landed(self.name, state.size, state.sha256, state.content_type)

    async def read(self, start: int, stop: int | None, *, stall: float) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` to ``stop`` (exclusive; None: to the end) as they arrive.

        The medium's last byte is held back until the whole is verified. Gives up after ``stall`` seconds without news.
        """
        position = start
        while stop is None or position < stop:
            available = self._readable if stop is None else min(self._readable, stop)
            if position < available:
                chunk = await self._chunk(position, available)
                position += len(chunk)
                yield chunk
            elif self.verified:
                return
            else:
                seen = self._readable
                await self._until(lambda: self._readable > seen or self.verified or None, stall)  # noqa: B023 awaited at once

    @property
    def _readable(self) -> int:
        if self.verified or self.state is None:
            return self._arrived
        return max(0, min(self._arrived, (self.state.size or self._arrived) - 1))

    async def _chunk(self, position: int, available: int) -> bytes:
        if self.mirror is not None:
            return bytes(memoryview(self.mirror)[position : min(available, position + CHUNK_SIZE)])
        chunk = await asyncio.to_thread(os.pread, self.descriptor, min(CHUNK_SIZE, available - position), position)
        if not chunk:
            raise OriginFailed  # somebody truncated the spool below us
        return chunk

    async def _until(self, known: Callable[[], T | None], seconds: float) -> T:
        """Wait until something is known, and return it."""
        try:
            async with asyncio.timeout(seconds):
                while (answer := known()) is None:
                    if self.failure is not None:
                        raise copy(self.failure) from self.failure  # each reader adds to the traceback of its own
                    await asyncio.shield(self._changed)
        except TimeoutError:
            raise OriginTimeout from None
        return answer
