"""The two layers of a read: what is stored, with the memory of this process before it, and what the provider sends."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from cachetools import TTLCache

from storage.bodies import BodyCache
from storage.cache import Coalesced
from storage.errors import ObjectNotFound, OriginGone, StoreUnavailable
from storage.flight import Flight
from storage.flights import Flights
from storage.pilot import Order
from storage.record import MediaRecord, Status, StoredObject
from storage.representation import Opened, Ranges, Representation, Source, Want, from_memory
from storage.store import ByteRange, Copying, ObjectStore

LOADS_AT_ONCE = 32
OPENINGS_AT_ONCE = 64
LOADED_AT_SIGHT: Final = 256 * 1024  # bytes; a larger body is not read into memory for the first who asks
HASHED_AT_ONCE: Final = 64 * 1024  # bytes; what takes less time than a trip to a thread and back
ABSENT_TTL: Final = 3.0  # seconds; how long an object that has come back may stay unseen
MAX_ABSENT: Final = 10_000
EXPIRED = "media-expired"  # the error of a record whose medium the provider no longer has

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each layer may take, in seconds."""

    storage_first_byte: float = 2.0
    """Short: while the store is slow, the provider may still have the medium."""
    storage_whole: float = 10.0
    """For a body that is small enough to be cached."""
    provider_first_byte: float = 25.0
    """CDNs give an origin 30 seconds."""
    provider_stall: float = 30.0
    """Between two chunks of a flight."""


class StorageLayer:
    """Media that are stored; what is small or asked for again is read once, and then from memory."""

    def __init__(
        self, cache: BodyCache, store: ObjectStore, *, deadlines: Deadlines, cache_read: Callable[[bool], None]
    ) -> None:
        """Take the memory, the store and its deadlines; ``cache_read`` is told of every look whether it was a hit."""
        self._cache = cache
        self._store = store
        self._deadlines = deadlines
        self._cache_read = cache_read
        self._loads: Coalesced[tuple[str, str], bytes] = Coalesced()
        self._absent: TTLCache[tuple[str, str], None] = TTLCache(MAX_ABSENT, ABSENT_TTL, _loop_time)
        # A deadline measures the store: who waits for his turn here must not take our own crowd for a slow store.
        self._loading = asyncio.Semaphore(LOADS_AT_ONCE)
        self._opening = asyncio.Semaphore(OPENINGS_AT_ONCE)

    def readable(self, record: MediaRecord) -> StoredObject | None:
        """Return the record's object if the configured store can read it."""
        stored = record.stored
        if stored is None or stored.backend != self._store.backend:
            return None
        moved = stored.backend == "local"  # the folder may have been moved as a whole
        return stored if moved or self._store.url(stored.key) == stored.url else None

    def describe(self, record: MediaRecord, stored: StoredObject) -> Representation:
        """Return what is known of a stored medium without touching the store."""
        cached = self._cache.holds(stored.workspace_id, stored.sha256)
        return Representation.of_stored(record, stored, Source.CACHE if cached else Source.STORAGE)

    def keep(self, workspace_id: str, sha256: str, body: bytes) -> None:
        """Remember a body whose hash has been verified, if it is small enough."""
        self._cache.put(workspace_id, sha256, body)

    @asynccontextmanager
    async def open(self, record: MediaRecord, stored: StoredObject, want: Want) -> AsyncIterator[Opened]:
        """Open the record's object.

        Raises:
            ObjectNotFound: The object is absent, or was a moment ago.
            StorageError: The store did not show the first byte, or the whole of what is loaded, in time.
        """
        body = self._cache.get(stored.workspace_id, stored.sha256)
        self._cache_read(body is not None)
        representation = Representation.of_stored(record, stored, Source.STORAGE if body is None else Source.CACHE)
        if body is not None:
            yield from_memory(representation, body)
            return
        ranges = want(representation)
        if ranges is not None and not ranges:
            yield from_memory(representation, b"")
        elif self._worth_loading(stored, ranges):
            body = await self._loads.get((stored.workspace_id, stored.sha256), lambda: self._load(stored))
            yield from_memory(representation, body)
        else:
            async with self._stream(representation, stored, ranges[0] if ranges else None) as opened:
                yield opened

    def _worth_loading(self, stored: StoredObject, ranges: Ranges | None) -> bool:
        """Decide whether to read all of an object into memory, or only what is wanted of it.

        Most media are asked for once, or in parts by one player: only what is small and wanted whole is read at the
        first sight, everything else when it is asked for again.
        """
        if stored.size > self._cache.max_item:
            return False
        if (stored.workspace_id, stored.sha256) in self._loads:
            return True
        whole = ranges is None or sum(part.length for part in ranges) >= stored.size
        if whole and stored.size <= LOADED_AT_SIGHT:
            return True
        return self._cache.wanted(stored.workspace_id, stored.sha256)

    async def _load(self, stored: StoredObject) -> bytes:
        """Read an object whole, and keep it if it is what was stored."""
        try:
            async with (
                self._loading,
                asyncio.timeout(self._deadlines.storage_whole),
                self._object(stored, None) as chunks,
            ):
                body = b"".join([chunk async for chunk in chunks])
        except TimeoutError:
            raise StoreUnavailable("The object store is too slow.") from None
        if await _sha256(body) != stored.sha256:
            log.error("stored object is damaged", object_id=stored.id)
            await self._distrust(stored)
            raise StoreUnavailable("The stored object is damaged.")
        self.keep(stored.workspace_id, stored.sha256, body)
        return body

    @asynccontextmanager
    async def _stream(
        self, representation: Representation, stored: StoredObject, first: ByteRange | None
    ) -> AsyncIterator[Opened]:
        """Open the first range now, while another layer can still stand in, and the others when their turn comes."""
        async with self._object(stored, first) as begun, AsyncExitStack() as later:

            async def read(byte_range: ByteRange | None) -> AsyncIterator[bytes]:
                chunks = begun
                if byte_range != first:
                    await later.aclose()  # the range before this one has been read
                    chunks = await later.enter_async_context(self._object(stored, byte_range))
                async for chunk in chunks:
                    yield chunk

            yield Opened(representation, read)

    @asynccontextmanager
    async def _object(self, stored: StoredObject, byte_range: ByteRange | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an object and see its first byte within the deadline."""
        if (stored.id, stored.url) in self._absent:
            raise ObjectNotFound
        async with AsyncExitStack() as stack:
            try:
                async with self._opening, asyncio.timeout(self._deadlines.storage_first_byte):
                    reader = await stack.enter_async_context(self._store.open(stored.key, byte_range))
                    if reader.size != stored.size:
                        await self._distrust(stored)
                        raise StoreUnavailable("The stored object has another size than recorded.")
                    head = await anext(reader.chunks, b"")
            except ObjectNotFound:
                self._absent[stored.id, stored.url] = None  # else a crowd would ask again and again
                raise
            except TimeoutError:
                raise StoreUnavailable("The object store is too slow.") from None
            yield _chained(head, reader.chunks)

    async def _distrust(self, stored: StoredObject) -> None:
        if isinstance(self._store, Copying):
            await self._store.forget(stored.key)


class ProviderLayer:
    """Media that the provider has."""

    def __init__(
        self,
        flights: Flights,
        *,
        deadlines: Deadlines,
        stored_since: Callable[[MediaRecord], Awaitable[bool]],
        landed: Callable[[MediaRecord, Flight], Awaitable[None]],
    ) -> None:
        """Take the flights, what `Flights.join` asks about a record, and what it does once with all bytes."""
        self._flights = flights
        self._deadlines = deadlines
        self._stored_since = stored_since
        self._landed = landed

    async def describe(self, record: MediaRecord) -> Representation | None:
        """Return what is known of a medium that is on its way or has arrived; None: nobody has asked for it yet."""
        state = await self._flights.known(record.spool)
        return Representation.of_flight(record, state) if state is not None else None

    @asynccontextmanager
    async def open(self, record: MediaRecord) -> AsyncIterator[Opened]:
        """Join the flight of the record's medium.

        Raises:
            OriginError: The provider did not deliver it.
            StoredMeanwhile: The record is out of date.
            MediaError: It could not be kept on its way.
        """
        if record.ref is None or (record.status is Status.FAILED and record.error == EXPIRED):
            raise OriginGone
        order = Order(ref=record.ref, declared_type=record.declared_type, declared_sha256=record.declared_sha256)
        joined = self._flights.join(
            record.spool,
            order,
            recheck=lambda: self._stored_since(record),
            landed=lambda flight: self._landed(record, flight),
        )
        async with joined as flight:
            state = await flight.declared(self._deadlines.provider_first_byte)
            if state.size == 0:  # there is no last byte to be held back
                await flight.landed(self._deadlines.provider_first_byte)

            def read(byte_range: ByteRange | None) -> AsyncIterator[bytes]:
                start, stop = (byte_range.start, byte_range.stop) if byte_range else (0, state.size)
                return flight.read(start, stop, stall=self._deadlines.provider_stall)

            yield Opened(Representation.of_flight(record, state), read)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


async def _sha256(body: bytes) -> str:
    if len(body) <= HASHED_AT_ONCE:
        return hashlib.sha256(body).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())


async def _chained(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if head:
        yield head
    del head  # or it would be kept for as long as a slow client reads the rest
    async for chunk in rest:
        yield chunk
