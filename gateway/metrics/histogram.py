"""Histograms that take many observations at once, and the bounds of their buckets."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Final

import prometheus_client

FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # seconds
SLOW: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)  # seconds


class Histogram(prometheus_client.Histogram):
    """A histogram for what happens more often than it can be observed one by one."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Observe each amount, where there are no labels left to be given."""
        self._sum.inc(sum(amounts))
        for bucket, count in Counter(bisect_left(self._upper_bounds, amount) for amount in amounts).items():
            self._buckets[bucket].inc(count)
