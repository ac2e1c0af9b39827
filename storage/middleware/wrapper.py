"""What all wrappers of a store have in common."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TypeVar

from storage.store import ByteRange, ObjectMeta, ObjectReader, ObjectStore, PresignedUrl, Presigner

T = TypeVar("T")


class Wrapper(ABC):
    """Sends the calls that end when they return through one `run`; the other two are each wrapper's own."""

    def __init__(self, inner: ObjectStore) -> None:
        """Take the store that is wrapped."""
        self.inner = inner

    @property
    def backend(self) -> str:
        """The name of the wrapped store."""
        return self.inner.backend

    def url(self, key: str) -> str:
        """Return the URL that the wrapped store gives the key."""
        return self.inner.url(key)

    async def put(self, key: str, file: Path, *, content_type: str) -> bool:
        """Put through the wrapped store."""
        return await self.run("put", partial(self.inner.put, key, file, content_type=content_type))

    async def head(self, key: str) -> ObjectMeta:
        """Ask the wrapped store."""
        return await self.run("head", partial(self.inner.head, key))

    async def delete(self, key: str) -> None:
        """Delete from the wrapped store."""
        await self.run("delete", partial(self.inner.delete, key))

    async def check(self) -> None:
        """Check the wrapped store."""
        await self.run("check", self.inner.check)

    async def presign(
        self, key: str, *, life: int, content_type: str, content_disposition: str, cache_control: str
    ) -> PresignedUrl | None:
        """Return what the wrapped store signs, if it can: no request, so neither tried again, limited nor measured."""
        if not isinstance(self.inner, Presigner):
            return None
        return await self.inner.presign(
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
    async def run(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Do one operation of the wrapped store."""
