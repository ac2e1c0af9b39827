"""The layered read: memory, then the store, then the provider; the first that delivers wins."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import structlog

from storage.cache import BodyCache, Coalesced
from storage.errors import MediaError, ObjectNotFound, OriginError, OriginGone, StorageError, StoreUnavailable
from storage.flight import Flight
from storage.flights import Flights, StoredMeanwhile
from storage.pilot import Order
from storage.record import MediaRecord, Status, StoredObject
from storage.spool import SpoolState
from storage.store import CHUNK_SIZE, ByteRange, ObjectReader, ObjectStore

EXPIRED = "media-expired"  # the error of a record whose medium the provider no longer has

log = structlog.get_logger()


class Source(StrEnum):
    """The layer that answered."""

    CACHE = "cache"
    STORAGE = "storage"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """What is served for a message, from whatever source; the same from every one of them."""

    content_type: str
    size: int | None
    sha256: str | None
    last_modified: datetime
    source: Source
    verified: bool
    """False while the bytes are still on their way and may turn out wrong."""


Ranges = Sequence[ByteRange]
Want = Callable[[Representation], Ranges | None]
"""Which bytes of it are wanted; None: all, an empty sequence: none."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A medium that is ready to be read."""

    representation: Representation
    read: Callable[[ByteRange | None], AsyncIterator[bytes]]
    """Yields the bytes of one of the wanted ranges, in their order; None: all bytes."""


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


class RetrievalObserver(Protocol):
    """What wants to know of reads, such as metrics."""

    def cache_read(self, *, hit: bool) -> None:
        """The memory cache was asked."""

    def fallback(self, outcome: str) -> None:
        """A stored medium had to be asked from the provider: ``ok`` or the name of the error."""


class Retrieval:
    """Serves a record's original from the first layer that has it."""

    def __init__(
        self,
        *,
        cache: BodyCache,
        store: ObjectStore,
        flights: Flights,
        reload: Callable[[str], Awaitable[MediaRecord | None]],
        landed: Callable[[MediaRecord], Awaitable[None]],
        observer: RetrievalObserver,
        deadlines: Deadlines | None = None,
        storage_first: bool = True,
    ) -> None:
        """Take the layers and their neighbours.

        Args:
            cache: Whole small bodies in memory.
            store: The durable store.
            flights: The way to the provider.
            reload: Reads a record past every cache.
            landed: Called once for every medium that was fetched from the provider, to have it ingested.
            observer: Metrics.
            deadlines: How long each layer may take.
            storage_first: False asks the provider first and the store when it fails.
        """
        self._cache = cache
        self._store = store
        self._flights = flights
        self._reload = reload
        self._landed = landed
        self._observer = observer
        self._deadlines = deadlines or Deadlines()
        self._storage_first = storage_first
        self._loads: Coalesced[tuple[str, str], bytes] = Coalesced()

    def readable(self, record: MediaRecord) -> StoredObject | None:
        """Return the record's object if the configured store can read it."""
        stored = record.stored
        if stored is None or stored.backend != self._store.backend:
            return None
        moved = stored.backend == "local"  # the folder may have been moved as a whole
        return stored if moved or self._store.url(stored.key) == stored.url else None

    def describe(self, record: MediaRecord) -> Representation:
        """Return what is known of a record's medium without touching a store or the provider."""
        stored = self.readable(record)
        if stored is not None:
            cached = self._cache.get(stored.workspace_id, stored.sha256) is not None
            return _representation(record, stored, Source.CACHE if cached else Source.STORAGE)
        return Representation(
            content_type=record.content_type or record.declared_type or "application/octet-stream",
            size=record.declared_size,
            sha256=record.declared_sha256,
            last_modified=record.created_at,
            source=Source.PROVIDER,
            verified=False,
        )

    @asynccontextmanager
    async def open(self, record: MediaRecord, want: Want) -> AsyncIterator[Opened]:
        """Open a record's original at the first layer that has it.

        Raises:
            OriginError: It is not stored, and the provider did not deliver it.
            StorageError: It is stored, but neither the store nor the provider delivered it.
        """
        async with AsyncExitStack() as stack:
            yield await self._layers(record, want, stack)

    async def _layers(self, record: MediaRecord, want: Want, stack: AsyncExitStack) -> Opened:
        stored = self.readable(record)
        if stored is None:
            return await self._provider(record, want, stack)
        if not self._storage_first:
            try:
                return await self._provider(record, want, stack)
            except OriginError:
                return await self._storage(record, stored, want, stack)
        try:
            return await self._storage(record, stored, want, stack)
        except StorageError as failure:
            log.warning("store failed, asking the provider", error=type(failure).__name__)
            return await self._fallback(record, want, stack, failure)

    async def _fallback(self, record: MediaRecord, want: Want, stack: AsyncExitStack, failure: StorageError) -> Opened:
        try:
            opened = await self._provider(record, want, stack)
        except OriginError as error:
            self._observer.fallback(type(error).__name__)
            # A store that is down still has the medium: saying "expired" would make clients forget it.
            raise (error if isinstance(failure, ObjectNotFound) else failure) from error
        self._observer.fallback("ok")
        return opened

    # Storage and memory -----------------------------------------------------------------------------------------

    async def _storage(self, record: MediaRecord, stored: StoredObject, want: Want, stack: AsyncExitStack) -> Opened:
        body = self._cache.get(stored.workspace_id, stored.sha256)
        self._observer.cache_read(hit=body is not None)
        if body is not None:
            return _from_memory(_representation(record, stored, Source.CACHE), body)
        representation = _representation(record, stored, Source.STORAGE)
        if stored.size <= self._cache.max_item:
            body = await self._loads.get((stored.workspace_id, stored.sha256), lambda: self._load(stored))
            return _from_memory(representation, body)
        ranges = want(representation)
        if ranges is not None and not ranges:
            return _from_memory(representation, b"")
        first = ranges[0] if ranges else None
        return Opened(representation, await self._stream(stored, first, stack))

    async def _load(self, stored: StoredObject) -> bytes:
        """Read a small object whole, and keep it if it is what was stored."""
        try:
            async with asyncio.timeout(self._deadlines.storage_whole):
                async with AsyncExitStack() as stack:
                    reader = await self._open(stored, None, stack)
                    body = b"".join([chunk async for chunk in reader.chunks])
        except TimeoutError:
            raise StoreUnavailable("The object store is too slow.") from None
        digest = await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())
        if digest != stored.sha256:
            log.error("stored object is damaged", object_id=stored.id)
            raise StoreUnavailable("The stored object is damaged.")
        self._cache.put(stored.workspace_id, stored.sha256, body)
        return body

    async def _stream(
        self, stored: StoredObject, first: ByteRange | None, stack: AsyncExitStack
    ) -> Callable[[ByteRange | None], AsyncIterator[bytes]]:
        """Open the first range now, while another layer can still stand in, and the others when their turn comes."""
        reader = await self._open(stored, first, stack)

        async def read(byte_range: ByteRange | None) -> AsyncIterator[bytes]:
            if byte_range == first:
                async for chunk in reader.chunks:
                    yield chunk
                return
            async with AsyncExitStack() as later:
                async for chunk in (await self._open(stored, byte_range, later)).chunks:
                    yield chunk

        return read

    async def _open(self, stored: StoredObject, byte_range: ByteRange | None, stack: AsyncExitStack) -> ObjectReader:
        """Open an object and see its first byte within the deadline."""
        try:
            async with asyncio.timeout(self._deadlines.storage_first_byte):
                reader = await stack.enter_async_context(self._store.open(stored.key, byte_range))
                if reader.size != stored.size:
                    raise StoreUnavailable("The stored object has another size than recorded.")
                head = await anext(reader.chunks, b"")
        except TimeoutError:
            raise StoreUnavailable("The object store is too slow.") from None
        return ObjectReader(size=reader.size, chunks=_chained(head, reader.chunks))

    # Provider ---------------------------------------------------------------------------------------------------

    async def _provider(self, record: MediaRecord, want: Want, stack: AsyncExitStack) -> Opened:
        ref = record.ref
        if ref is None or (record.status is Status.FAILED and record.error == EXPIRED):
            raise OriginGone
        order = Order(ref=ref, declared_type=record.declared_type, declared_sha256=record.declared_sha256)
        joined = self._flights.join(
            record.spool,
            order,
            recheck=lambda: self._stored_since(record),
            landed=lambda flight: self._on_landed(record, flight),
        )
        flight = await stack.enter_async_context(joined)
        try:
            state = await flight.declared(self._deadlines.provider_first_byte)
        except StoredMeanwhile:
            return await self._stored_meanwhile(record, want, stack)
        return self._from_flight(record, flight, state)

    def _from_flight(self, record: MediaRecord, flight: Flight, state: SpoolState) -> Opened:
        representation = Representation(
            content_type=state.content_type,
            size=state.size,
            sha256=state.sha256,
            last_modified=record.created_at,
            source=Source.PROVIDER,
            verified=flight.verified,
        )

        def read(byte_range: ByteRange | None) -> AsyncIterator[bytes]:
            start, stop = (byte_range.start, byte_range.stop) if byte_range else (0, state.size)
            return flight.read(start, stop, stall=self._deadlines.provider_stall)

        return Opened(representation, read)

    async def _stored_since(self, record: MediaRecord) -> bool:
        """Whether the medium is stored in a way that we have not tried yet, or not to be fetched any more."""
        now = await self._reload(record.message_id)
        if now is None or now.deleted_at is not None:
            return True
        return now.stored is not None and (record.stored is None or now.stored.id != record.stored.id)

    async def _stored_meanwhile(self, record: MediaRecord, want: Want, stack: AsyncExitStack) -> Opened:
        now = await self._reload(record.message_id)
        stored = self.readable(now) if now is not None else None
        if now is None or stored is None:
            raise OriginGone
        return await self._storage(now, stored, want, stack)

    async def _on_landed(self, record: MediaRecord, flight: Flight) -> None:
        state = flight.state
        if flight.mirror is not None and state is not None and state.sha256 is not None:
            self._cache.put(record.workspace_id, state.sha256, bytes(flight.mirror))
        try:
            await self._landed(record)
        except MediaError:
            log.exception("ingest could not be scheduled", message_id=record.message_id)


def _representation(record: MediaRecord, stored: StoredObject, source: Source) -> Representation:
    return Representation(
        content_type=record.content_type or stored.content_type,
        size=stored.size,
        sha256=stored.sha256,
        last_modified=record.created_at,
        source=source,
        verified=True,
    )


def _from_memory(representation: Representation, body: bytes) -> Opened:
    async def read(byte_range: ByteRange | None) -> AsyncIterator[bytes]:
        start, stop = (byte_range.start, byte_range.stop) if byte_range else (0, len(body))
        for position in range(start, stop, CHUNK_SIZE):
            yield body[position : min(position + CHUNK_SIZE, stop)]

    return Opened(representation, read)


async def _chained(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if head:
        yield head
    async for chunk in rest:
        yield chunk
