"""Asks a store again where that may help."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TypeVar

import stamina

from storage.errors import StorageError
from storage.middleware.wrapper import Wrapper
from storage.store import ByteRange, ObjectMeta, ObjectReader, ObjectStore

T = TypeVar("T")


class RetryingStore(Wrapper):
    """Tries again where that may help: after a `StorageError` that is not permanent.

    An object is opened again only until the context is entered, and a listing is not begun again at all: what the
    caller has seen cannot be taken back. What succeeds at once, as almost everything does, costs nothing here.
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
        self._attempts = attempts
        self._timeout = timeout
        self._wait_initial = wait_initial
        self._wait_max = wait_max

    def open(self, key: str, byte_range: ByteRange | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        """Open the object, with retries until that succeeds once."""
        return _Opening(self, key, byte_range)

    def list(self, prefix: str = "") -> AsyncIterator[ObjectMeta]:
        """Iterate over the wrapped store, without retries."""
        return self.inner.list(prefix)

    async def run(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002 - all are alike
        """Call, and again where that may help."""
        began = time.monotonic()
        try:
            return await call()
        except StorageError as error:
            failure = error
        return await self._again(failure, call, time.monotonic() - began)

    async def _again(self, failure: StorageError, call: Callable[[], Awaitable[T]], spent: float) -> T:
        """Go on after a first attempt that has failed, as though it had been made here."""
        failures = [failure]

        async def attempt() -> T:
            if failures:
                raise failures.pop()
            return await call()

        retry = stamina.AsyncRetryingCaller(
            attempts=self._attempts,
            timeout=self._timeout - spent,
            wait_initial=self._wait_initial,
            wait_max=self._wait_max,
            wait_jitter=self._wait_initial,
        )
        return await retry.on(self._backoff)(attempt)

    def _backoff(self, error: Exception) -> bool | float:
        return backoff(error, self._wait_max)


class _Opening:
    """One object, from the first attempt to open it until it is left."""

    __slots__ = ("_key", "_opened", "_range", "_store")

    def __init__(self, store: RetryingStore, key: str, byte_range: ByteRange | None) -> None:
        self._store = store
        self._key = key
        self._range = byte_range
        self._opened: AbstractAsyncContextManager[ObjectReader]

    async def __aenter__(self) -> ObjectReader:
        return await self._store.run("open", self._open)

    async def _open(self) -> ObjectReader:
        self._opened = self._store.inner.open(self._key, self._range)
        return await self._opened.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._opened.__aexit__(kind, error, traceback)


def backoff(error: Exception, wait_max: float) -> bool | float:
    """Decide whether to try again after ``error``: no, yes, or yes in as many seconds as the store asked for."""
    if not isinstance(error, StorageError) or error.permanent:
        return False
    if error.retry_after is None:
        return True
    return error.retry_after if error.retry_after <= wait_max else False
