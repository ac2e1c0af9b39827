"""The provider's error budget: remembers what it has answered, and stops asking before it stops answering."""

import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace

from cachetools import LRUCache, TLRUCache

from ingest.whatsapp.breaker import Breaker, BreakerPolicy, BreakerState
from storage.errors import OriginBusy, OriginError, OriginGone, OriginRefused, OriginTooLarge
from storage.origin import Download, MediaRef, Origin

MAX_REMEMBERED = 50_000
MAX_ACCOUNTS = 10_000
_HOPELESS = (OriginGone, OriginTooLarge)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPolicy:
    """For how many seconds an answer is remembered, by its cause."""

    gone: float = 3600.0
    """Of one medium; also one that is too large."""
    refused: float = 60.0
    """Of a whole account."""
    busy: float = 60.0
    """Of one medium, where the provider does not say how long; the breaker speaks for the account."""
    failed: float = 0.5
    """Of one medium."""
    jitter: float = 0.5
    """The share by which busy and failed are stretched at most, lest all come back at once."""

    def seconds(self, error: OriginError, *, jitter: float) -> float:
        """Tell for how long to remember an error, given a random number from 0 to 1."""
        match error:
            case OriginGone() | OriginTooLarge():
                return self.gone
            case OriginRefused():
                return self.refused
            case OriginBusy():
                return (error.retry_after or self.busy) * (1 + self.jitter * jitter)
            case _:
                return (error.retry_after or self.failed) * (1 + self.jitter * jitter)


@dataclass(frozen=True, slots=True)
class _Remembered:
    kind: type[OriginError]
    message: str
    until: float

    def error(self, now: float) -> OriginError:
        waiting_helps = self.kind not in _HOPELESS
        return self.kind(self.message, retry_after=self.until - now if waiting_helps else None)


_Key = tuple[str, str | None]  # workspace and medium; None: the whole account


class BudgetedOrigin:
    """An `Origin` around another, which it spares.

    Args:
        inner: The one that asks the provider.
        breaker: When an account's breaker opens.
        memory: How long answers are remembered.
        capacity: How many are remembered at most.
        clock: Seconds that never go back.
        jitter: Random numbers from 0 to 1.
    """

    def __init__(
        self,
        inner: Origin,
        *,
        breaker: BreakerPolicy,
        memory: MemoryPolicy | None = None,
        capacity: int = MAX_REMEMBERED,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._policy = breaker
        self._memory = memory or MemoryPolicy()
        self._clock = clock
        self._jitter = jitter
        self._remembered: TLRUCache[_Key, _Remembered, float] = TLRUCache(
            capacity, lambda _key, remembered, _now: remembered.until, clock
        )
        self._breakers: LRUCache[str, Breaker] = LRUCache(MAX_ACCOUNTS)

    @asynccontextmanager
    async def open(self, ref: MediaRef) -> AsyncIterator[Download]:
        """Begin a download; see `Origin.open`.

        Raises:
            OriginError: As the inner one, or as it did a short while ago; `OriginBusy` while the breaker is open.
        """
        self._admit(ref)
        failure: OriginError | None = None

        async def watched(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
            nonlocal failure
            try:
                async for chunk in chunks:
                    yield chunk
            except OriginError as error:
                failure = error
                raise

        async with AsyncExitStack() as stack:
            download = await self._begin(ref, stack)
            chunks = await stack.enter_async_context(aclosing(watched(download.chunks)))
            try:
                yield replace(download, chunks=chunks)
            except OriginError as error:  # the reader's own, such as a wrong hash, is about these bytes too
                failure = error
                raise
            finally:
                if failure is not None:
                    self._remember(ref, failure)
                    self._update(ref, self._breaker(ref).counted(failure, self._clock()))

    def forget(self, ref: MediaRef) -> None:
        """Ask again for this medium, and for its account, next time; an open breaker stays open."""
        for key in _keys(ref):
            with suppress(KeyError):
                del self._remembered[key]

    def states(self) -> Mapping[str, BreakerState]:
        """Tell the state of every account's breaker, by workspace ID."""
        now = self._clock()
        return {workspace_id: breaker.state(now) for workspace_id, breaker in self._breakers.items()}

    def _admit(self, ref: MediaRef) -> None:
        now = self._clock()
        for key in _keys(ref):
            with suppress(KeyError):
                raise self._remembered[key].error(now)
        if (wait := self._breaker(ref).wait(now)) > 0:
            raise OriginBusy("The provider is being spared after too many errors.", retry_after=wait)

    async def _begin(self, ref: MediaRef, stack: AsyncExitStack) -> Download:
        self._update(ref, self._breaker(ref).admitted())
        try:
            download = await stack.enter_async_context(self._inner.open(ref))
        except OriginError as error:
            self._remember(ref, error)
            self._update(ref, self._breaker(ref).failed(error, self._clock()))
            raise
        except BaseException:  # a cancellation is nobody's fault, and a bug is ours
            self._update(ref, self._breaker(ref).abandoned())
            raise
        self._update(ref, self._breaker(ref).succeeded(self._clock()))
        return download

    def _remember(self, ref: MediaRef, error: OriginError) -> None:
        seconds = self._memory.seconds(error, jitter=self._jitter())
        until = self._clock() + seconds
        if not isinstance(error, _HOPELESS):
            error.retry_after = seconds  # sooner, it would be refused from memory
        medium, account = _keys(ref)
        key = account if isinstance(error, OriginRefused) else medium
        self._remembered[key] = _Remembered(type(error), str(error), until)

    def _breaker(self, ref: MediaRef) -> Breaker:
        return self._breakers.get(ref.workspace_id) or Breaker(policy=self._policy)

    def _update(self, ref: MediaRef, breaker: Breaker) -> None:
        self._breakers[ref.workspace_id] = breaker


def _keys(ref: MediaRef) -> tuple[_Key, _Key]:
    return (ref.workspace_id, ref.provider_media_id), (ref.workspace_id, None)
