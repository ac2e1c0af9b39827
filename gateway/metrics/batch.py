"""Answers from memory, counted many at once: one by one it takes a sixth of the time of such an answer."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

SETTLE: Final = 1.0  # seconds that an answer may stay uncounted; whoever shows the metrics settles before
MOST: Final = 1000  # answers in one batch


class Answer(NamedTuple):
    """What is counted of an answer, and the same for all that are like it."""

    route: str
    method: str
    status: int
    source: str
    sent: int
    """Bytes of the medium."""
    from_memory: bool
    """Whether bytes were read from the memory cache."""


class Counts(Protocol):
    """Where batches are counted."""

    def answered_alike(self, answer: Answer, seconds: Sequence[float]) -> None:
        """Count as many answers as there are durations."""


class Batch:
    """Answers that are not counted yet."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._waiting: list[tuple[Answer, float]] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, answer: Answer, seconds: float) -> None:
        """Have an answer counted soon."""
        self._waiting.append((answer, seconds))
        if len(self._waiting) >= MOST:
            self.settle()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SETTLE, self.settle)

    def settle(self) -> None:
        """Count what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        alike: defaultdict[Answer, list[float]] = defaultdict(list)
        for answer, seconds in self._waiting:
            alike[answer].append(seconds)
        self._waiting.clear()
        for answer, durations in alike.items():
            self._counts.answered_alike(answer, durations)
