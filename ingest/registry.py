"""What the host application may do to a message's medium, each as one durable act: register, copy, retry, delete."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime

from ingest.purging import PurgeOrders
from ingest.queue import DELETE, HIGH, INGEST, LOW, Queue
from ingest.webhook import MEDIA_LIFE
from storage.cache import RecordCache
from storage.errors import RecordsUnavailable
from storage.flights import Flights
from storage.origin import MediaRef
from storage.record import Cursor, MediaRecord, NewMessage, Status
from storage.records import InTransaction, Records
from storage.renditions import Renditions


class Registry:
    """The host application's side of the records; keeps this process's caches in step."""

    def __init__(
        self,
        *,
        records: Records,
        renditions: Renditions,
        cache: RecordCache,
        queue: Queue,
        flights: Flights,
        forget: Callable[[MediaRef], None],
        ingest: bool,
        purges: PurgeOrders | None = None,
    ) -> None:
        """Take the collaborators.

        Args:
            records: The database.
            renditions: Knows what has yet to be processed.
            cache: Records that readers of this process have seen.
            queue: Where jobs are written.
            flights: Whose spools a deletion drops.
            forget: Lets the provider be asked again for a medium that it has refused.
            ingest: False writes no jobs: MEDIA_INGEST=off.
            purges: Has the CDN forget what is deleted or replaced; None where there is no CDN.
        """
        self._records = records
        self._renditions = renditions
        self._cache = cache
        self._queue = queue
        self._flights = flights
        self._forget = forget
        self._ingest = ingest
        self._purges = purges

    async def get(self, message_id: str) -> MediaRecord | None:
        """Return a message's record as the database has it now."""
        return await self._records.get(message_id)

    async def get_many(self, message_ids: Sequence[str]) -> dict[str, MediaRecord]:
        """Return the records of those messages that are known, by id; one question to the database."""
        return await self._records.get_many(message_ids)

    async def page(
        self, *, workspace_id: str | None, status: Status | None, after: Cursor | None, limit: int
    ) -> tuple[list[MediaRecord], Cursor | None]:
        """Return a page of records; see `Records.page`."""
        return await self._records.page(workspace_id=workspace_id, status=status, after=after, limit=limit)

    async def register(self, new: NewMessage, *, ingest: bool = True) -> tuple[MediaRecord, bool]:
        """Record a message and, unless told not to, its job; True where it is new."""
        ingest = ingest and self._ingest
        new = replace(new, expires_at=new.expires_at or datetime.now(UTC) + MEDIA_LIFE)
        record, created = await self._write(new, await self._queue.within(INGEST) if ingest else None)
        if ingest and record.status is Status.PENDING:
            await self._queue.after(INGEST, [new.message_id])
        return record, created

    async def copy(self, new: NewMessage, source: MediaRecord, *, ingest: bool = True) -> tuple[MediaRecord, bool]:
        """Let a message refer to the medium of another one of its workspace.

        It is served as the source is, whatever type is declared for it here.
        """
        new = replace(
            new,
            workspace_id=source.workspace_id,
            provider_media_id=source.provider_media_id,
            phone_number_id=source.phone_number_id,
            kind=new.kind or source.kind,
            filename=new.filename or source.filename,
            declared_type=new.declared_type or source.content_type or source.declared_type,
            declared_sha256=source.stored.sha256 if source.stored else source.declared_sha256,
            declared_size=source.declared_size,
            expires_at=source.expires_at,
        )
        if source.stored is None:
            return await self.register(new, ingest=ingest)
        _, created = await self._write(new, None)
        content_type = source.content_type or source.stored.content_type
        await self._records.adopt(new.message_id, source.stored, content_type=content_type)
        await self._renditions.settle(new.message_id)  # its object's own job is under way, if it needs one
        self._cache.forget(new.message_id)
        record = await self._records.get(new.message_id)
        if record is None:
            raise RecordsUnavailable
        return record, created

    async def retry(self, record: MediaRecord) -> None:
        """Have a message's medium ingested again, whatever was remembered of earlier failures."""
        if record.ref is not None:
            self._forget(record.ref)
        await self._records.mark(record.message_id, Status.PENDING)
        self._cache.forget(record.message_id)
        await self._queue.enqueue(INGEST, record.message_id, HIGH)

    async def delete(self, message_id: str) -> bool:
        """Turn a message into a tombstone at once; its object goes with the last message that refers to it."""
        record = await self._records.get(message_id)
        if record is None:
            return False
        async with self._purging() as purge:
            deleting = await self._queue.within(DELETE, LOW)
            deleted = await self._records.delete(message_id, and_then=purge, and_if_doomed=deleting)
            self._cache.forget(message_id)
        await self._flights.discard(record.spool)
        if deleted and record.stored is not None and await self._records.doomed(record.stored.id) is not None:
            await self._queue.after(DELETE, [record.stored.id], LOW)
        return deleted

    async def _write(self, new: NewMessage, job: InTransaction | None) -> tuple[MediaRecord, bool]:
        """Write a registration with its jobs; True where the message is new."""
        before = await self._records.get(new.message_id)
        async with self._purging() as purge:
            record, created = await self._records.register(new, and_then=job, and_if_replaced=purge)
            self._cache.forget(new.message_id)
        if before is not None and before.spool != record.spool:
            await self._flights.discard(before.spool)
        return record, created

    def _purging(self) -> AbstractAsyncContextManager[InTransaction | None]:
        return self._purges.together() if self._purges is not None else nullcontext()
