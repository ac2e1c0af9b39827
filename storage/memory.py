"""The object store of every unit test: it keeps objects in memory and fails where a test tells it to."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from storage.errors import ObjectNotFound, StorageError, StoreUnavailable
from storage.store import CHUNK_SIZE, ByteRange, ObjectMeta, ObjectReader

Operation = Literal["put", "open", "read", "head", "delete", "list", "check"]
"""What can be made to fail, and is counted; ``read`` is each chunk of an open object."""


@dataclass(frozen=True, slots=True)
class _Held:
    content: bytes
    last_modified: datetime


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryStore:
    """Objects in a dictionary; what a test scripted to fail does so once, in the order of the script.

    Example::

        store = MemoryStore()
        store.fail_next("open", StoreUnavailable())  # once; the second open works
        released = store.hang("head")  # heads wait until released.set()
    """

    backend = "memory"

    def __init__(self, clock: Callable[[], datetime] = _utc_now) -> None:
        self.calls: Counter[Operation] = Counter()
        """How often each operation was begun, failed and hanging ones included."""
        self._clock = clock
        self._objects: dict[str, _Held] = {}
        self._faults: defaultdict[Operation, deque[StorageError | None]] = defaultdict(deque)
        self._gates: dict[Operation, asyncio.Event] = {}
        self._break_after: int | None = None

    def fail_next(self, operation: Operation, error: StorageError, *, after: int = 0) -> None:
        """Make one call of ``operation`` raise ``error``, once ``after`` more calls have succeeded."""
        self._faults[operation].extend([*[None] * after, error])

    def break_stream_after(self, size: int | None) -> None:
        """Make every body break off with `StoreUnavailable` after ``size`` bytes; None mends them."""
        self._break_after = size

    def hang(self, operation: Operation) -> asyncio.Event:
        """Make all calls of ``operation`` wait until the event that is returned is set."""
        return self._gates.setdefault(operation, asyncio.Event())

    def url(self, key: str) -> str:
        """Return ``memory:///`` and the key: there is no bucket."""
        return f"memory:///{key}"

    async def put(self, key: str, file: Path, *, content_type: str) -> bool:  # noqa: ARG002 - nobody asks for it
        """Keep a copy of the file's bytes, unless the key is taken."""
        await self._begin("put")
        content = await asyncio.to_thread(file.read_bytes)
        held = _Held(content, self._clock())
        return self._objects.setdefault(key, held) is held

    @asynccontextmanager
    async def open(self, key: str, byte_range: ByteRange | None = None) -> AsyncIterator[ObjectReader]:
        """Open the object as it is now: a later delete does not break the reader."""
        await self._begin("open")
        content = self._held(key).content
        if byte_range and byte_range.start >= len(content):
            raise StoreUnavailable("The stored object is shorter than expected.")
        part = content[byte_range.start : byte_range.stop] if byte_range else content
        async with aclosing(self._chunks(part)) as chunks:
            yield ObjectReader(size=len(content), chunks=chunks)

    async def head(self, key: str) -> ObjectMeta:
        """Return size and time of the object."""
        await self._begin("head")
        return self._meta(key)

    async def delete(self, key: str) -> None:
        """Forget the object."""
        await self._begin("delete")
        self._objects.pop(key, None)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectMeta, None]:
        """Iterate over the objects that exist now."""
        await self._begin("list")
        for meta in [self._meta(key) for key in self._objects if key.startswith(prefix)]:
            yield meta

    async def check(self) -> None:
        """Fail only where told to."""
        await self._begin("check")

    async def _begin(self, operation: Operation) -> None:
        self.calls[operation] += 1
        if gate := self._gates.get(operation):
            await gate.wait()
        faults = self._faults[operation]
        if faults and (fault := faults.popleft()):
            raise fault

    def _held(self, key: str) -> _Held:
        if key not in self._objects:
            raise ObjectNotFound
        return self._objects[key]

    def _meta(self, key: str) -> ObjectMeta:
        held = self._held(key)
        return ObjectMeta(key=key, size=len(held.content), last_modified=held.last_modified)

    async def _chunks(self, content: bytes) -> AsyncGenerator[bytes, None]:
        whole = len(content) if self._break_after is None else min(self._break_after, len(content))
        for start in range(0, whole, CHUNK_SIZE):
            await self._begin("read")
            yield content[start : min(start + CHUNK_SIZE, whole)]
        if whole < len(content):
            raise StoreUnavailable("The object broke off.")
