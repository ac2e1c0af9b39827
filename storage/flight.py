"""A medium on its way from the provider: any number of equal readers, at any offset, as far as it has arrived."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from storage.errors import MediaError, OriginFailed, OriginTimeout
from storage.spool import SpoolState
from storage.store import CHUNK_SIZE


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
        self._arrived = 0
        self._file: int | None = None
        self._changed = asyncio.get_running_loop().create_future()

    # What the task of the flight does ---------------------------------------------------------------------------

    def begin(self, state: SpoolState, file: int) -> None:
        """Tell the readers what is coming; ``file`` is a descriptor of the spool's bytes, closed by `close`."""
        self.state, self._file = state, file
        self._notify()

    def arrive(self, total: int, chunk: bytes = b"") -> None:
        """Tell the readers that the spool holds ``total`` bytes now; ``chunk`` are the newest, for the mirror."""
        if self.mirror is not None:
            self.mirror += chunk
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
        await self._until(lambda: self.state is not None, deadline)
        if self.state is None:  # `_until` saw it
            raise OriginFailed
        return self.state

    async def landed(self, deadline: float) -> Landed:
        """Wait until the bytes are there and right, at most ``deadline`` seconds."""
        await self._until(lambda: self.verified, deadline)
        state = self.state
        if state is None or state.size is None or state.sha256 is None:  # a verified state has both
            raise OriginFailed
        return Landed(self.name, state.size, state.sha256, state.content_type)

    async def read(self, start: int, stop: int | None, *, stall: float) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` to ``stop`` (exclusive; None: to the end) as they arrive.

        The medium's last byte is held back until the whole is verified. Gives up after ``stall`` seconds without news.
        """
        position = start
        while stop is None or position < stop:
            available = min(self._readable, stop if stop is not None else self._readable)
            if position < available:
                chunk = await self._chunk(position, available)
                position += len(chunk)
                yield chunk
            elif self.verified and stop is None:
                return
            else:
                seen = self._readable
                await self._until(lambda: self._readable > seen or self.verified, stall)  # noqa: B023 awaited at once

    @property
    def _readable(self) -> int:
        if self.verified or self.state is None:
            return self._arrived
        return max(0, min(self._arrived, (self.state.size or self._arrived) - 1))

    async def _chunk(self, position: int, available: int) -> bytes:
        if self.mirror is not None:
            return bytes(memoryview(self.mirror)[position : min(available, position + CHUNK_SIZE)])
        if self._file is None:
            raise OriginFailed
        chunk = await asyncio.to_thread(os.pread, self._file, min(CHUNK_SIZE, available - position), position)
        if not chunk:
            raise OriginFailed  # somebody truncated the spool below us
        return chunk

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    if self.failure is not None:
                        raise self.failure
                    await asyncio.shield(self._changed)
        except TimeoutError:
            raise OriginTimeout from None
