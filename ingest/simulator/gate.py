"""A turnstile that a test moves, where the simulator would otherwise have to wait for real time."""

import asyncio
from collections.abc import Callable


class Gate:
    """Holds back whoever passes through, one permit each, until it is open.

    It belongs to one event loop: open it, release it and wait for it there.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._arrived = 0
        self._permits = 0
        self._moved = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many are held back; not those who may go on, though they have not moved yet."""
        return 0 if self.is_open else max(0, self._arrived - self._permits)

    def open(self) -> None:
        """Let everybody through, now and later."""
        self.is_open = True
        self._announce()

    def close(self) -> None:
        """Hold everybody back, and forget permits that were not used."""
        self.is_open = False
        self._permits = 0

    def release(self, permits: int = 1) -> None:
        """Let this many through."""
        self._permits += permits
        self._announce()

    async def reached(self, waiting: int = 1) -> None:
        """Wait until at least this many are held back; the caller sets the time limit."""
        await self._until(lambda: self.waiting >= waiting)

    async def pass_through(self) -> None:
        """Wait for the gate to be open, or use up one permit."""
        self._arrived += 1
        self._announce()
        try:
            await self._until(lambda: self.is_open or self._permits > 0)
        finally:
            self._arrived -= 1
        # No await since the condition was true: nobody else can have taken the permit.
        if not self.is_open:
            self._permits -= 1

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._moved.wait()

    def _announce(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
