"""Decides when a request is late enough to be sent a second time, and how often that may happen.

After Dean and Barroso, "The Tail at Scale" (CACM 56/2, 2013): the second request waits until the first is slower than
almost all others, so that it costs little and cuts off the tail.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

Outcome = Literal["won", "lost"]

PERCENTILE: Final = 0.99
WINDOW: Final = 1000  # requests that count as recent
ENOUGH: Final = 100  # requests before there is a percentile to speak of
REFRESH: Final = 50  # requests for which a percentile is good
FLOOR: Final = 0.02  # seconds; below, a second request could hardly come first
SHARE: Final = 0.03  # second requests for each first one: where all are late, the store needs no more of them
BURST: Final = 10.0  # second requests that may be saved up


class Hedging:
    """What is known of the recent requests to one store."""

    def __init__(
        self,
        observe: Callable[[Outcome], None] = lambda _: None,
        *,
        floor: float = FLOOR,
        share: float = SHARE,
        burst: float = BURST,
    ) -> None:
        """Take who is told whether a second request came first, and the bounds: seconds, share and number."""
        self.observe = observe
        self._floor = floor
        self._share = share
        self._burst = burst
        self._saved = burst
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._stale = 0
        self.delay: float | None = None
        """Seconds after which a request is late; None: nobody knows yet."""

    def answered(self, seconds: float) -> None:
        """Take into account after how many seconds a request was answered."""
        self._saved = min(self._burst, self._saved + self._share)
        self._recent.append(seconds)
        self._stale += 1
        if self._stale >= (ENOUGH if self.delay is None else REFRESH):
            self._stale = 0
            self.delay = max(self._floor, sorted(self._recent)[int(PERCENTILE * len(self._recent))])

    def allowed(self) -> bool:
        """Return whether one more second request may be sent, and count it if so."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
