"""Wraps an object store in retries, a limit or measurements; every wrapper is an object store itself."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

import stamina

from storage.errors import ObjectFrozen, ObjectNotFound, StorageError, StoreForbidden, StoreFull, StoreUnavailable
from storage.store import ByteRange, ObjectMeta, ObjectReader, ObjectStore, PresignedUrl, Presigner

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


class _Wrapper(ABC):
    """Sends the calls that end when they return through one `_run`; the other two are each wrapper's own."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner

    @property
    def backend(self) -> str:
        """The name of the wrapped store."""
        return self._inner.backend

    def url(self, key: str) -> str:
        """Return the URL that the wrapped store gives the key."""
        return self._inner.url(key)

    async def put(self, key: str, file: Path, *, content_type: str) -> bool:
        """Put through the wrapped store."""
        return await self._run("put", partial(self._inner.put, key, file, content_type=content_type))

    async def head(self, key: str) -> ObjectMeta:
        """Ask the wrapped store."""
        return await self._run("head", partial(self._inner.head, key))

    async def delete(self, key: str) -> None:
        """Delete from the wrapped store."""
        await self._run("delete", partial(self._inner.delete, key))

    async def check(self) -> None:
        """Check the wrapped store."""
        await self._run("check", self._inner.check)

    async def presign(
        self, key: str, *, life: int, content_type: str, content_disposition: str, cache_control: str
    ) -> PresignedUrl | None:
        """Return what the wrapped store signs, if it can: no request, so neither tried again, limited nor measured."""
        if not isinstance(self._inner, Presigner):
            return None
        return await self._inner.presign(
            key,
            life=life,
            content_type=content_type,
            content_disposition=content_disposition,
            cache_control=cache_control,
        )

    @abstractmethod
    def open(self, key: str, byte_range: ByteRange | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        """Open an object of the wrapped store."""

    @abstractmethod
    def list(self, prefix: str = "") -> AsyncIterator[ObjectMeta]:
        """Iterate over the wrapped store."""

    @abstractmethod
    async def _run(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Do one operation of the wrapped store."""


class RetryingStore(_Wrapper):
    """Tries again where that may help: after a `StorageError` that is not permanent.

    An object is opened again only until the context is entered, and a listing is not begun again at all: what the
    caller has seen cannot be taken back.
    """

    def __init__(
        self,
        inner: ObjectStore,
        *,
        attempts: int = 3,
        timeout: float = 30.0,
        wait_initial: float = 0.1,
        wait_max: float = 2.0,
    ) -> None:
        """Take how often to try in all, and in seconds how long in all and how long between two attempts.

        A store that asks for more patience (``Retry-After``) than ``wait_max`` is not tried again: its caller has
        another source to turn to.
        """
        super().__init__(inner)
        self._wait_max = wait_max
        self._retry = stamina.AsyncRetryingCaller(
            attempts=attempts, timeout=timeout, wait_initial=wait_initial, wait_max=wait_max, wait_jitter=wait_initial
        ).on(self._backoff)

    @asynccontextmanager
    async def open(self, key: str, byte_range: ByteRange | None = None) -> AsyncIterator[ObjectReader]:
        """Open the object, with retries until that succeeds once."""
        async with AsyncExitStack() as stack:
            yield await self._retry(lambda: stack.enter_async_context(self._inner.open(key, byte_range)))

    def list(self, prefix: str = "") -> AsyncIterator[ObjectMeta]:
        """Iterate over the wrapped store, without retries."""
        return self._inner.list(prefix)

    async def _run(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002 - all are alike
        return await self._retry(call)

    def _backoff(self, error: Exception) -> bool | float:
        return backoff(error, self._wait_max)


def backoff(error: Exception, wait_max: float) -> bool | float:
    """Decide whether to try again after ``error``: no, yes, or yes in as many seconds as the store asked for."""
    if not isinstance(error, StorageError) or error.permanent:
        return False
    if error.retry_after is None:
        return True
    return error.retry_after if error.retry_after <= wait_max else False


class LimitedStore(_Wrapper):
    """Lets a bounded number of operations into a store at once; an open object is one until it is left.

    A listing takes part only while it fetches, so that its caller may use the store for what it finds.
    """

    def __init__(self, inner: ObjectStore, limit: int, *, timeout: float = 10.0) -> None:
        """Take how many operations run at once, and for how many seconds others wait before `StoreUnavailable`."""
        super().__init__(inner)
        self._places = asyncio.Semaphore(limit)
        self._timeout = timeout

    @asynccontextmanager
    async def open(self, key: str, byte_range: ByteRange | None = None) -> AsyncIterator[ObjectReader]:
        """Open the object as soon as there is a place, and keep the place."""
        async with self._place(), self._inner.open(key, byte_range) as reader:
            yield reader

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectMeta, None]:
        """Iterate over the wrapped store."""
        found = self._inner.list(prefix)
        while meta := await self._run("list", partial(anext, found, None)):
            yield meta

    async def _run(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002 - all are alike
        async with self._place():
            return await call()

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout):
                await self._places.acquire()
        except TimeoutError as error:
            raise StoreUnavailable("The object store is busy.") from error
        try:
            yield
        finally:
            self._places.release()


class Observer(Protocol):
    """Receives each operation of a store once, when it has ended."""

    def __call__(self, backend: str, operation: str, outcome: str, seconds: float) -> None:
        """Note it; ``outcome`` is ``ok`` or a value of `OUTCOMES`, ``seconds`` the time until the store answered."""
        ...


class MeteredStore(_Wrapper):
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

    @asynccontextmanager
    async def open(self, key: str, byte_range: ByteRange | None = None) -> AsyncIterator[ObjectReader]:
        """Open the object and report when it is left."""
        with self._measured("open") as measurement:
            async with AsyncExitStack() as stack:
                with measurement.failures():
                    reader = await stack.enter_async_context(self._inner.open(key, byte_range))
                measurement.answered()
                chunks = await stack.enter_async_context(aclosing(_watched(reader.chunks, measurement)))
                with measurement.failures(asyncio.CancelledError):  # other errors in here are the caller's own
                    yield replace(reader, chunks=chunks)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectMeta, None]:
        """Iterate over the wrapped store and report at the end."""
        with self._measured("list") as measurement, measurement.failures():
            async for meta in self._inner.list(prefix):
                measurement.answered()
                yield meta

    async def _run(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        with self._measured(operation) as measurement, measurement.failures():
            return await call()

    @contextmanager
    def _measured(self, operation: str) -> Iterator["_Measurement"]:
        measurement = _Measurement(self._clock)
        try:
            yield measurement
        finally:
            self._observe(self.backend, operation, measurement.outcome, measurement.answered())


class _Measurement:
    """One operation under way: when it was answered, and the first thing that went wrong."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.outcome = "ok"
        self._clock = clock
        self._began = clock()
        self._seconds: float | None = None

    def answered(self) -> float:
        """Return the seconds until this was called first."""
        if self._seconds is None:
            self._seconds = self._clock() - self._began
        return self._seconds

    @contextmanager
    def failures(self, kind: type[BaseException] = BaseException) -> Iterator[None]:
        """Note the first failure of this kind as the outcome, and let it pass."""
        try:
            yield
        except kind as error:
            if self.outcome == "ok":
                self.outcome = next(OUTCOMES[cls] for cls in type(error).__mro__ if cls in OUTCOMES)
            raise


async def _watched(chunks: AsyncIterator[bytes], measurement: _Measurement) -> AsyncGenerator[bytes, None]:
    with measurement.failures():
        async for chunk in chunks:
            yield chunk
