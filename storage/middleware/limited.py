"""Limits how many operations a store does at once."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from storage.errors import StoreUnavailable
from storage.middleware.wrapper import Wrapper
from storage.store import ByteRange, ObjectMeta, ObjectReader, ObjectStore

T = TypeVar("T")


class LimitedStore(Wrapper):
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
        async with self._place(), self.inner.open(key, byte_range) as reader:
            yield reader

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectMeta, None]:
        """Iterate over the wrapped store."""
        found = self.inner.list(prefix)
        while meta := await self.run("list", partial(anext, found, None)):
            yield meta

    async def run(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002 - all are alike
        """Call as soon as there is a place."""
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
