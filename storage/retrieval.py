"""The layered read: memory, then the store, then the provider; the first that delivers wins."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

import structlog

from storage.bodies import BodyCache
from storage.errors import MediaError, ObjectNotFound, OriginGone, StorageError
from storage.flight import Flight
from storage.flights import Flights, StoredMeanwhile
from storage.layers import Deadlines, ProviderLayer, StorageLayer
from storage.record import MediaRecord, StoredObject
from storage.representation import Opened, Representation, Want
from storage.store import ByteRange, ObjectStore

log = structlog.get_logger()


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
        deadlines = deadlines or Deadlines()
        self._storage = StorageLayer(
            cache, store, deadlines=deadlines, cache_read=lambda hit: observer.cache_read(hit=hit)
        )
        self._provider = ProviderLayer(
            flights, deadlines=deadlines, stored_since=self._stored_since, landed=self._on_landed
        )
        self._flights = flights
        self._reload = reload
        self._landed = landed
        self._observer = observer
        self._storage_first = storage_first

    def readable(self, record: MediaRecord) -> StoredObject | None:
        """Return the record's object if the configured store can read it."""
        return self._storage.readable(record)

    async def describe(self, record: MediaRecord) -> Representation:
        """Return what is known of a record's medium without touching a store or the provider."""
        stored = self.readable(record)
        if stored is not None:
            return self._storage.describe(record, stored)
        flying = await self._provider.describe(record)
        if flying is not None:
            return flying
        # Only now: a spool is dropped after its medium has been recorded as stored.
        now = await self._reload(record.message_id)
        if now is None or (stored := self.readable(now)) is None:
            return Representation.of_record(record)
        return self._storage.describe(now, stored)

    @asynccontextmanager
    async def open(self, record: MediaRecord, want: Want) -> AsyncIterator[Opened]:
        """Open a record's original at the first layer that has it; a layer that failed holds nothing any more.

        Raises:
            OriginError: It is not stored, and the provider did not deliver it.
            StorageError: It is stored, but neither the store nor the provider delivered it.
        """
        async with AsyncExitStack() as stack:
            yield await self._first(record, want, stack)

    @asynccontextmanager
    async def open_stored(self, record: MediaRecord, byte_range: ByteRange | None) -> AsyncIterator[Opened]:
        """Open a record's object, or one range of it, in the store or in memory, and nowhere else.

        Raises:
            StorageError: It cannot be read there, or is to be asked from the provider first.
        """
        stored = self.readable(record)
        if stored is None or not self._storage_first:
            raise ObjectNotFound
        ranges = (byte_range,) if byte_range is not None else None
        async with self._storage.open(record, stored, lambda _: ranges) as opened:
            yield opened

    async def _first(self, record: MediaRecord, want: Want, stack: AsyncExitStack) -> Opened:
        stored = self.readable(record)
        if stored is None:
            return await self._from_provider(record, want, stack)
        if not self._storage_first:
            try:
                return await self._from_provider(record, want, stack)
            except MediaError as failure:
                log.warning("provider failed, asking the store", error=type(failure).__name__)
                return await stack.enter_async_context(self._storage.open(record, stored, want))
        try:
            return await stack.enter_async_context(self._storage.open(record, stored, want))
        except StorageError as failure:
            log.warning("store failed, asking the provider", error=type(failure).__name__)
            return await self._fallback(record, want, stack, failure)

    async def _fallback(self, record: MediaRecord, want: Want, stack: AsyncExitStack, failure: StorageError) -> Opened:
        try:
            opened = await self._from_provider(record, want, stack)
        except MediaError as error:
            self._observer.fallback(type(error).__name__)
            if isinstance(failure, ObjectNotFound):
                raise
            # A store that is down still has the medium: saying "expired" would make clients forget it.
            raise failure from error
        self._observer.fallback("ok")
        return opened

    async def _from_provider(self, record: MediaRecord, want: Want, stack: AsyncExitStack) -> Opened:
        try:
            return await stack.enter_async_context(self._provider.open(record))
        except StoredMeanwhile:
            now = await self._reload(record.message_id)
            if now is None or now.deleted_at is not None or self.readable(now) is None:
                raise OriginGone from None
            return await self._first(now, want, stack)

    async def _stored_since(self, record: MediaRecord) -> bool:
        """Whether the medium is stored in a way that we have not tried yet, or not to be fetched any more."""
        now = await self._reload(record.message_id)
        if now is None or now.deleted_at is not None:
            return True
        stored = self.readable(now)
        return stored is not None and (record.stored is None or stored.id != record.stored.id)

    async def _on_landed(self, record: MediaRecord, flight: Flight) -> None:
        state = flight.state
        if flight.mirror is not None and state is not None and state.sha256 is not None:
            self._storage.keep(record.workspace_id, state.sha256, bytes(flight.mirror))
        try:
            now = await self._reload(record.message_id)
            if now is None or now.spool != record.spool:  # nobody would ever look for it
                await self._flights.discard(record.spool)
            else:
                await self._landed(record)
        except MediaError:
            log.exception("ingest could not be scheduled", message_id=record.message_id)
