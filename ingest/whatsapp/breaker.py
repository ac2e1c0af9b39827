"""A circuit breaker as a pure value: it counts errors, opens, lets one probe through, and closes."""

import sys
from dataclasses import dataclass, replace
from typing import Literal

from storage.errors import OriginError

BreakerState = Literal["closed", "open", "half-open"]

PROBE_WAIT = 5.0  # seconds after which it is worth asking how a call that is under way has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens, and for how long."""

    errors: int
    """Counted within ``window`` seconds, they open the breaker."""
    window: float
    cooldown: float
    """In seconds; then one probe may pass."""
    ceiling: int = sys.maxsize
    """What errors in the window and calls under way may be together: calls in a burst may all fail."""
    counts_permanent: bool = False
    """Whether the provider counts errors that are the medium's or the token's fault too."""

    def counts(self, error: OriginError) -> bool:
        """Tell whether an error speaks for opening the breaker."""
        return self.counts_permanent or not error.permanent


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """One account's breaker at one moment; each event makes a new one. Times are seconds of any one clock.

    Errors stay counted after a probe has succeeded, as they do at the provider: until they leave the window, the next
    one opens the breaker again.
    """

    policy: BreakerPolicy
    errors: tuple[float, ...] = ()
    """When they happened, oldest first; few, for an open breaker admits no calls that could fail."""
    open_until: float | None = None
    """None: closed."""
    under_way: int = 0
    """Calls that were admitted and have neither succeeded nor failed."""

    def state(self, now: float) -> BreakerState:
        """Name the state; an open breaker becomes half-open by time alone."""
        if self.open_until is None:
            return "closed"
        return "open" if now < self.open_until else "half-open"

    def wait(self, now: float) -> float:
        """Tell in how many seconds a call may be admitted; 0: now."""
        if self.open_until is not None and now < self.open_until:
            return self.open_until - now
        recent, ceiling = self._recent(now), self.policy.ceiling
        is_full = len(recent) + self.under_way >= ceiling
        if self.under_way and (is_full or self.open_until is not None):
            return PROBE_WAIT
        return recent[-ceiling] + self.policy.window - now if is_full else 0.0

    def admitted(self) -> "Breaker":
        """A call begins."""
        return replace(self, under_way=self.under_way + 1)

    def abandoned(self) -> "Breaker":
        """A call was given up, and proves nothing."""
        return replace(self, under_way=max(0, self.under_way - 1))

    def succeeded(self, now: float) -> "Breaker":
        """A call has brought its first bytes."""
        half_open = self.state(now) == "half-open"
        return replace(self.abandoned(), open_until=None if half_open else self.open_until)

    def failed(self, error: OriginError, now: float) -> "Breaker":
        """A call has brought an error instead of its first bytes; one that does not count proves the provider alive."""
        return self.abandoned().counted(error, now) if self.policy.counts(error) else self.succeeded(now)

    def counted(self, error: OriginError, now: float) -> "Breaker":
        """An error has happened, whether a call ends by it or its bytes break off."""
        if not self.policy.counts(error):
            return self
        errors = (*self._recent(now), now)
        opens = self.state(now) == "half-open" or (self.open_until is None and len(errors) >= self.policy.errors)
        return replace(self, errors=errors, open_until=now + self.policy.cooldown if opens else self.open_until)

    def _recent(self, now: float) -> tuple[float, ...]:
        return tuple(at for at in self.errors if at > now - self.policy.window)
