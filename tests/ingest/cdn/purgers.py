"""A CDN in tests that takes purges as it is told, and remembers them."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest.cdn.purge import PurgeItem


@dataclass(slots=True)
class ScriptedCdn:
    """A `Purger` that fails as often as it is told to."""

    batch_size: int = 100
    failures: deque[Exception] = field(default_factory=deque)
    """What the next requests raise."""
    asked: list[list[PurgeItem]] = field(default_factory=list)
    gate: asyncio.Event | None = None
    """Requests wait for it."""
    running: int = 0
    most_running: int = 0

    async def purge(self, batch: Sequence[PurgeItem]) -> None:
        self.asked.append(list(batch))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.failures:
                raise self.failures.popleft()
        finally:
            self.running -= 1

    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.asked]

    def names(self) -> list[str]:
        return [item.message_id for batch in self.asked for item in batch]
