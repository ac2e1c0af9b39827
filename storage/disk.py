"""Keeps copies of a far store's objects on a disk of the node, shared by all its processes."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Protocol, Self, TypeVar

import structlog

from storage.copies import HEADER, Copy, Draft, open_copy, trim
from storage.errors import StoreUnavailable
from storage.middleware.wrapper import Wrapper
from storage.store import CHUNK_SIZE, ByteRange, ObjectMeta, ObjectReader, ObjectStore
from storage.threads import settled

READ_SIZE: Final = 4 * CHUNK_SIZE  # bytes for one trip to a thread
SLACK: Final = 16  # which part of the disk a process fills before it looks what is there
LARGEST: Final = 4  # which part one object may take

Event = Literal["hit", "miss", "kept", "left", "failed", "evicted"]

T = TypeVar("T")
log = structlog.get_logger()


class DiskObserver(Protocol):
    """What wants to know of the disk cache, such as metrics."""

    def disk_cache(self, event: Event, count: int = 1) -> None:
        """So many reads or copies had this fate."""

    def disk_cache_holds(self, size: int) -> None:
        """The folder was looked through: so many bytes are in it."""


class DiskCachedStore(Wrapper):
    """Reads objects from copies that whole reads have left on a disk, else from the wrapped store.

    A copy has its name only when it is complete, and says its size itself: one that was cut, as by a loss of power
    (nothing is synced), is dropped and read anew. Other damage is found by who knows the object's hash, and says
    `forget`. The order of use is that of the files' times, so there is no index that processes would have to agree on.
    What is deleted through this store goes at once; copies on other nodes cannot be asked for any more, for the record
    is gone, and age out.

    Of many who read an object at the same time the first leaves the copy, if he reads all of it.
    """

    def __init__(self, inner: ObjectStore, folder: Path, *, max_bytes: int, observer: DiskObserver) -> None:
        """Take the store, a folder that belongs to such caches alone, and the bytes that may lie in it.

        A process looks through the folder at its start and whenever it has filled a sixteenth, and fills no more than
        another one meanwhile: one keeps to the bound, each other one may add an eighth.
        """
        super().__init__(inner)
        self._folder = folder
        self._max_bytes = max_bytes
        self._observer = observer
        self._drafts: dict[str, Draft] = {}
        self._unseen = 0
        self._trimming: asyncio.Task[None] | None = None
        self._fails = False

    async def __aenter__(self) -> Self:
        """Look through what there is."""
        await self._trim()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the last look."""
        if self._trimming is not None:
            await self._trimming

    @asynccontextmanager
    async def open(self, key: str, byte_range: ByteRange | None = None) -> AsyncIterator[ObjectReader]:
        """Open the copy if there is one, else the object; reading all of it leaves a copy."""
        path = self._path(key)
        async with AsyncExitStack() as stack:
            copy = await settled(asyncio.to_thread(_open_in, stack, path))
            self._observer.disk_cache("miss" if copy is None else "hit")
            if copy is not None:
                size, chunks = copy.size, _read(copy, byte_range)
            else:
                reader = await stack.enter_async_context(self.inner.open(key, byte_range))
                if not self._is_worth_filling(path, reader.size, byte_range):
                    yield reader
                    return
                size, chunks = reader.size, self._copied(path, reader)
            yield ObjectReader(size=size, chunks=await stack.enter_async_context(aclosing(chunks)))

    async def put(self, key: str, file: Path, *, content_type: str) -> bool:
        """Put through the wrapped store, and believe no copy of what was there before."""
        try:
            return await super().put(key, file, content_type=content_type)
        finally:
            await self.forget(key)

    async def delete(self, key: str) -> None:
        """Delete from the wrapped store, and the copy."""
        try:
            await super().delete(key)
        finally:
            await self.forget(key)

    async def forget(self, key: str) -> None:
        """Drop the copy of an object; those who read it read on."""
        path = self._path(key)
        if (draft := self._drafts.get(path.name)) is not None:
            draft.is_void = True
        try:
            await settled(asyncio.to_thread(path.unlink, missing_ok=True))
        except OSError as error:
            self._failed(error)

    def list(self, prefix: str = "") -> AsyncIterator[ObjectMeta]:
        """Iterate over the wrapped store."""
        return self.inner.list(prefix)

    async def run(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002 - all are alike
        """Ask the wrapped store."""
        return await call()

    def _path(self, key: str) -> Path:
        return self._folder / sha256(self.inner.url(key).encode("utf-8", "surrogatepass")).hexdigest()

    def _is_worth_filling(self, path: Path, size: int, byte_range: ByteRange | None) -> bool:
        whole = byte_range is None or (byte_range.start == 0 and byte_range.stop >= size)
        return whole and 0 < size <= self._max_bytes // LARGEST - HEADER and path.name not in self._drafts

    async def _copied(self, path: Path, reader: ObjectReader) -> AsyncGenerator[bytes, None]:
        """Pass the bytes on, and leave a copy if all of them come and are taken."""
        draft = self._drafts[path.name] = Draft(path, reader.size)
        try:
            async for chunk in reader.chunks:
                await self._write(draft, chunk)  # first: who has the last byte does not ask for more
                yield chunk
        finally:
            del self._drafts[path.name]
            self._observer.disk_cache("kept" if draft.is_kept else "left")
            await settled(asyncio.to_thread(draft.close))

    async def _write(self, draft: Draft, chunk: bytes) -> None:
        draft.is_void |= self._is_behind
        if draft.is_void:
            return
        try:
            await settled(asyncio.to_thread(draft.write, chunk))
        except OSError as error:
            draft.is_void = True
            self._failed(error)
            return
        self._fails = self._fails and not draft.is_kept
        self._unseen += len(chunk)
        if self._unseen >= self._max_bytes // SLACK and not self._is_trimming:
            self._unseen = 0
            self._trimming = asyncio.create_task(self._trim())

    @property
    def _is_trimming(self) -> bool:
        return self._trimming is not None and not self._trimming.done()

    @property
    def _is_behind(self) -> bool:
        """Whether copies come faster than others go: no reader waits for that."""
        return self._is_trimming and self._unseen >= self._max_bytes // SLACK

    async def _trim(self) -> None:
        try:
            room = self._max_bytes - 2 * (self._max_bytes // SLACK)
            size, evicted = await settled(asyncio.to_thread(trim, self._folder, room))
        except OSError as error:
            self._failed(error)
            return
        self._observer.disk_cache_holds(size)
        self._observer.disk_cache("evicted", evicted)

    def _failed(self, error: OSError) -> None:
        """Count, and say so once until it works again: reading goes on without copies."""
        self._observer.disk_cache("failed")
        if not self._fails:
            log.warning("disk cache failed", error=os.strerror(error.errno or 0))
        self._fails = True


def _open_in(stack: AsyncExitStack, path: Path) -> Copy | None:
    """Open a copy, which the stack closes: also for somebody who is cancelled meanwhile."""
    copy = open_copy(path)
    if copy is not None:
        stack.callback(os.close, copy.descriptor)
    return copy


def _read(copy: Copy, byte_range: ByteRange | None) -> AsyncGenerator[bytes, None]:
    start, stop = (byte_range.start, min(byte_range.stop, copy.size)) if byte_range else (0, copy.size)
    if byte_range and start >= copy.size:
        raise StoreUnavailable("The stored object is shorter than expected.")
    return _chunks(copy, start, stop)


async def _chunks(copy: Copy, start: int, stop: int) -> AsyncGenerator[bytes, None]:
    while start < stop:
        try:
            chunk = await settled(asyncio.to_thread(copy.read, start, min(start + READ_SIZE, stop)))
        except OSError as error:
            raise StoreUnavailable("The copy of the object cannot be read.") from error
        if not chunk:
            raise StoreUnavailable("The copy of the object is shorter than it was.")
        start += len(chunk)
        yield chunk
