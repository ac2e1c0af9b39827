"""Token buckets: how many requests and bytes each of any number of clients may have, in bounded memory."""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from time import monotonic_ns
from typing import Self

CAPACITY = 10_000  # clients that can owe something at once
_LOOKS = 4  # buckets that are looked at for being full again, for each new one
_SECOND = 1_000_000_000  # nanoseconds
_RATE = re.compile(r"([0-9]{1,15})/([0-9]{1,15})")


class RateExceeded(Exception):
    """A client asked for more than its limit allows."""

    def __init__(self, wait: float) -> None:
        """Take the seconds until it would be allowed."""
        super().__init__("Too many requests in too short a time.")
        self.retry_after = max(1, ceil(wait))
        """Whole seconds, rounded up: who waits for so long is let in."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many tokens a second for ever, and so many at once."""

    per_second: int
    burst: int

    def __post_init__(self) -> None:
        """Refuse what would let nobody in."""
        if self.per_second < 1 or self.burst < 1:
            raise ValueError("a rate and its burst are at least 1")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read ``100/1000``, which is 100 a second and 1,000 at once, or ``off``: None, no limit.

        Raises:
            ValueError: It is neither.
        """
        if text == "off":
            return None
        found = _RATE.fullmatch(text)
        if found is None:
            raise ValueError("must be off, or a number per second, a slash and a number at once, such as 100/1000")
        return cls(int(found[1]), int(found[2]))


class TokenBuckets:
    """One token bucket for each key.

    A bucket is kept as the moment when it will be full again, and one that is full as nothing at all: forgetting it
    loses nothing. One that is not full is never forgotten, so that a flood of other keys is no way around a limit.
    Where ``capacity`` keys owe something at once, new ones share one bucket until there is room. To keep it so takes
    ``capacity`` times the rate, in tokens a second: more than one process can serve.
    """

    def __init__(self, rate: Rate, *, capacity: int = CAPACITY, clock: Callable[[], int] = monotonic_ns) -> None:
        """Take the clock in nanoseconds that never goes back."""
        # Moments are counted in nanoseconds times tokens a second: then all are integers, and nothing is rounded.
        self._unit = rate.per_second
        self._depth = rate.burst * _SECOND
        self._capacity = capacity
        self._clock = clock
        self._full_at: OrderedDict[str, int] = OrderedDict()
        self._overflow = 0

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._full_at)

    def take(self, key: str, tokens: int = 1) -> float:
        """Take tokens if they are there; return 0, or the seconds until they would be.

        No tokens at all can be taken unless the bucket is overdrawn. More than the burst are never there.
        """
        return self.draw(key, tokens, needed=tokens)

    def draw(self, key: str, tokens: int, *, needed: int) -> float:
        """Take tokens if so many as are ``needed`` are there; return 0, or the seconds until they would be."""
        now = self._clock() * self._unit
        known = self._full_at.get(key)
        if known is None:
            return self._draw_new(key, tokens, needed, now)
        full_at = known if known > now else now  # noqa: FURB136 max() costs a call, on every request
        excess = full_at + needed * _SECOND - now - self._depth
        if excess > 0:
            return -(-excess // self._unit) / _SECOND
        if tokens:
            self._full_at[key] = full_at + tokens * _SECOND
            self._full_at.move_to_end(key)
        return 0.0

    def _draw_new(self, key: str, tokens: int, needed: int, now: int) -> float:
        """Draw from a bucket that is full, or from the one that newcomers share."""
        remembered = self._is_remembered(key, now)
        full_at = self._full_after(key, 0, now, remembered=remembered)
        excess = full_at + needed * _SECOND - now - self._depth
        if excess > 0:
            return -(-excess // self._unit) / _SECOND
        if tokens:
            self._set(key, full_at + tokens * _SECOND, remembered=remembered)
        return 0.0

    def spend(self, key: str, tokens: int) -> None:
        """Take tokens whether they are there or not."""
        now = self._now()
        remembered = self._is_remembered(key, now)
        self._set(key, self._full_after(key, tokens, now, remembered=remembered), remembered=remembered)

    def give_back(self, key: str, tokens: int = 1) -> None:
        """Return tokens that somebody else pays for."""
        if key in self._full_at:
            self._full_at[key] -= tokens * _SECOND

    def _now(self) -> int:
        return self._clock() * self._unit

    def _full_after(self, key: str, tokens: int, now: int, *, remembered: bool) -> int:
        full_at = self._full_at.get(key, now) if remembered else self._overflow
        return max(now, full_at) + tokens * _SECOND

    def _set(self, key: str, full_at: int, *, remembered: bool) -> None:
        if remembered:
            self._full_at[key] = full_at
            self._full_at.move_to_end(key)
        else:
            self._overflow = full_at

    def _is_remembered(self, key: str, now: int) -> bool:
        """Whether there is a bucket for the key, or room for one: else it shares the one of all newcomers."""
        if key in self._full_at:
            return True
        for _ in range(min(_LOOKS, len(self._full_at))):
            oldest, full_at = self._full_at.popitem(last=False)
            if full_at > now:
                self._full_at[oldest] = full_at  # behind all others, which are looked at before it is again
        return len(self._full_at) < self._capacity


class Limits:
    """What each client of one kind may have: of addresses, or of credentials."""

    def __init__(
        self,
        requests: Rate | None,
        traffic: Rate | None,
        *,
        capacity: int = CAPACITY,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        """Take the rate of requests and that of bytes sent; None is no limit."""
        self._requests = TokenBuckets(requests, capacity=capacity, clock=clock) if requests is not None else None
        self._traffic = TokenBuckets(traffic, capacity=capacity, clock=clock) if traffic is not None else None

    @property
    def remembered(self) -> int:
        """How many buckets are kept in memory."""
        return sum(len(buckets) for buckets in (self._requests, self._traffic) if buckets is not None)

    def admit(self, client: str, size: int = 0) -> None:
        """Let a client make one request, and charge it for ``size`` bytes that it will be sent.

        Raises:
            RateExceeded: It made too many, or has yet to wait for bytes that it was sent; it is charged nothing.
        """
        wait = self._traffic.draw(client, size, needed=0) if self._traffic is not None else 0.0
        if not wait and self._requests is not None:
            wait = self._requests.draw(client, 1, needed=1)
            if wait and size and self._traffic is not None:
                self._traffic.give_back(client, size)
        if wait:
            raise RateExceeded(wait)

    def excuse(self, client: str, size: int = 0) -> None:
        """Take back that a client was admitted: somebody else pays for the request."""
        if self._requests is not None:
            self._requests.give_back(client)
        if size and self._traffic is not None:
            self._traffic.give_back(client, size)

    def sent(self, client: str, size: int) -> None:
        """Charge bytes that were sent; a client may owe some, and is then not admitted until it does not."""
        if self._traffic is not None and size:
            self._traffic.spend(client, size)
