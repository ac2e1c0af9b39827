"""Reports what a store does, how it ends and how long it takes."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar

from storage.errors import ObjectFrozen, ObjectNotFound, StoreForbidden, StoreFull, StoreUnavailable
from storage.middleware.wrapper import Wrapper
from storage.store import ByteRange, ObjectMeta, ObjectReader, ObjectStore

T = TypeVar("T")

OUTCOMES: Final[dict[type[BaseException], str]] = {
    ObjectNotFound: "not_found",
    StoreForbidden: "store_forbidden",
    ObjectFrozen: "object_frozen",
    StoreFull: "store_full",
    StoreUnavailable: "store_unavailable",
    asyncio.CancelledError: "cancelled",
    GeneratorExit: "ok",  # the caller has seen enough of a listing
    BaseException: "error",
}
"""How a failure is named in metrics, looked up along its MRO; what does not fail is ``ok``."""


class Observer(Protocol):
    """Receives each operation of a store once, when it has ended."""

    def __call__(self, backend: str, operation: str, outcome: str, seconds: float) -> None:
        """Note it; ``outcome`` is ``ok`` or a value of `OUTCOMES`, ``seconds`` the time until the store answered."""
        ...


class MeteredStore(Wrapper):
    """Reports every operation to an observer exactly once, whether it ends, fails or is cancelled.

    Reading is part of ``open``: what breaks off later makes the outcome of the open, while its seconds end when the
    first byte may be read, because what follows is the pace of the client. In the same way the seconds of a listing end
    with its first object.
    """

    def __init__(
        self, inner: ObjectStore, observe: Observer, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Take whom to tell, and a clock in seconds that never runs backwards."""
        super().__init__(inner)
        self._observe = observe
        self._clock = clock

    def open(self, key: str, byte_range: ByteRange | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        """Open the object and report when it is left."""
        return _Opened(_Measurement(self, "open", self._clock), self.inner.open(key, byte_range))

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectMeta, None]:
        """Iterate over the wrapped store and report at the end."""
        measurement = _Measurement(self, "list", self._clock)
        try:
            async for meta in self.inner.list(prefix):
                measurement.answered()
                yield meta
        except BaseException as error:
            measurement.failed(error)
            raise
        finally:
            measurement.ended()

    async def run(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Call and report."""
        measurement = _Measurement(self, operation, self._clock)
        try:
            return await call()
        except BaseException as error:
            measurement.failed(error)
            raise
        finally:
            measurement.ended()

    def report(self, operation: str, outcome: str, seconds: float) -> None:
        """Tell the observer."""
        self._observe(self.backend, operation, outcome, seconds)


class _Measurement:
    """One operation under way: when it was answered, and the first thing that went wrong."""

    __slots__ = ("_began", "_clock", "_operation", "_outcome", "_seconds", "_store")

    def __init__(self, store: MeteredStore, operation: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._operation = operation
        self._clock = clock
        self._outcome = "ok"
        self._seconds: float | None = None
        self._began = clock()

    def answered(self) -> None:
        """Note that the store has answered, the first time that this is called."""
        if self._seconds is None:
            self._seconds = self._clock() - self._began

    def failed(self, error: BaseException) -> None:
        """Note the first failure as the outcome."""
        if self._outcome == "ok":
            self._outcome = next(OUTCOMES[cls] for cls in type(error).__mro__ if cls in OUTCOMES)

    def ended(self) -> None:
        """Report."""
        self.answered()
        self._store.report(self._operation, self._outcome, self._seconds or 0.0)


class _Opened:
    """An object that is read: a context, and the iterator over its bytes."""

    __slots__ = ("_chunks", "_inner", "_measurement")

    def __init__(self, measurement: _Measurement, inner: AbstractAsyncContextManager[ObjectReader]) -> None:
        self._measurement = measurement
        self._inner = inner
        self._chunks: AsyncIterator[bytes] | None = None

    async def __aenter__(self) -> ObjectReader:
        try:
            reader = await self._inner.__aenter__()
        except BaseException as error:
            self._measurement.failed(error)
            self._measurement.ended()
            raise
        self._measurement.answered()
        self._chunks = reader.chunks
        return ObjectReader(size=reader.size, chunks=self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._chunks = None
        if isinstance(error, asyncio.CancelledError):  # other errors in here are the caller's own
            self._measurement.failed(error)
        try:
            return await self._inner.__aexit__(kind, error, traceback)
        finally:
            self._measurement.ended()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._chunks is None:
            raise StopAsyncIteration
        try:
            return await self._chunks.__anext__()
        except StopAsyncIteration:
            raise
        except BaseException as error:
            self._measurement.failed(error)
            raise
