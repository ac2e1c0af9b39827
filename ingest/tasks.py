"""What the ingest and delete jobs do: fetch, verify, adopt or store, publish. Each step may be killed and run again."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import uuid4

from storage.errors import MediaError, ObjectNotFound, OriginGone, StoreForbidden
from storage.flight import Landed
from storage.flights import Flights, StoredMeanwhile
from storage.origin import MediaRef
from storage.pilot import Order
from storage.record import MediaRecord, Status, StoredObject
from storage.records import Records
from storage.renditions import Renditions
from storage.sniff import SNIFF_LENGTH, effective_type
from storage.spool import Spools
from storage.store import ByteRange, ObjectStore

DOWNLOAD_DEADLINE = 300.0  # seconds
HOLD_DEADLINE = 60.0  # seconds to wait until nobody on this node flies the medium any more


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step failed, in a form that survives the process."""

    code: str
    detail: str
    permanent: bool
    retry_after: float | None

    @classmethod
    def of(cls, error: MediaError) -> "Failure":
        """Describe an error without anything secret."""
        return cls(error.code, str(error), error.permanent, error.retry_after)


def next_delay(failure: Failure, attempt: int, delays: tuple[float, ...]) -> float | None:
    """Return the seconds until the next attempt, or None where the job is dead.

    ``attempt`` counts from 0. A provider that says when to come back is taken at its word.
    """
    if failure.permanent or attempt >= len(delays):
        return None
    return max(delays[attempt], failure.retry_after or 0.0)


class Tasks:
    """The steps of the jobs, over the collaborators of one worker."""

    def __init__(
        self,
        *,
        records: Records,
        store: ObjectStore,
        flights: Flights,
        spools: Spools,
        renditions: Renditions,
        forget: Callable[[MediaRef], None],
        process: Callable[[StoredObject], Awaitable[None]],
        deduplicated: Callable[[int], None],
    ) -> None:
        """Take the collaborators.

        ``forget`` lets the provider be asked again for what it has refused, ``process`` writes the job of an object
        that has yet to be processed, ``deduplicated`` is told of the bytes that did not have to be stored again.
        """
        self._deduplicated = deduplicated
        self._renditions = renditions
        self._forget = forget
        self._process = process
        self._records = records
        self._store = store
        self._flights = flights
        self._spools = spools

    async def original(self, message_id: str, *, fresh: bool) -> str:
        """Make a message's original durable; return how: ``stored``, ``deduplicated``, ``kept`` or ``deleted``.

        ``fresh`` says that this is the first attempt of a job: somebody wants it, whatever was remembered before.

        Raises:
            MediaError: It could not be fetched or stored; nothing is half done.
        """
        record = await self._records.get(message_id)
        if record is None:
            return "deleted"
        if record.deleted_at is not None:
            await self._clean_up_after_the_dead(record, None)
            return "deleted"
        if record.stored is not None and await self._kept(record.stored):
            await self._clean_up_after_the_dead(record, record.stored)
            return "kept"
        if fresh and record.ref is not None:
            self._forget(record.ref)
        return await self._adopt_declared(record) or await self._fetch(record)

    async def publish(self, message_id: str) -> None:
        """Announce that a message's original is ready, have it processed, and drop its spool."""
        record = await self._records.get(message_id)
        if record is None:
            return
        unprocessed = await self._renditions.settle(message_id)
        await self._flights.discard(record.spool)
        if unprocessed is not None:
            await self._process(unprocessed)

    async def fail(self, message_id: str, failure: Failure, attempt: int, *, dead: bool) -> None:
        """Remember why a message's ingest failed, unless another job has stored it meanwhile."""
        record = await self._records.get(message_id)
        if record is not None and record.stored is not None and await self._kept(record.stored):
            return
        status = Status.FAILED if dead else Status.PENDING
        await self._records.mark(message_id, status, error=failure.code, attempt=attempt + 1)

    async def delete(self, object_id: str) -> None:
        """Delete the bytes of an object that no message refers to any more, then its row.

        Raises:
            StorageError: The bytes could not be deleted; the row stays.
        """
        doomed = await self._records.doomed(object_id)
        if doomed is None:
            return
        if doomed.backend != self._store.backend:
            raise StoreForbidden(f"The object lies in a store that is not configured: {doomed.backend}.")
        for variant in (await self._renditions.of(object_id)).values():
            if variant.backend == self._store.backend:
                await self._store.delete(variant.key)
        await self._store.delete(doomed.key)
        await self._records.bury(object_id)

    async def _kept(self, stored: StoredObject) -> bool:
        """Whether nothing is to be done: one store's object is no other's, and waits until it is configured again."""
        return stored.backend != self._store.backend or await self._present(stored)

    async def _present(self, stored: StoredObject) -> bool:
        """Whether the object's bytes are where the record says; an unreachable store is not an absent object."""
        if stored.backend != self._store.backend:
            return False
        try:
            meta = await self._store.head(stored.key)
        except ObjectNotFound:
            return False
        return meta.size == stored.size

    async def _adopt_declared(self, record: MediaRecord) -> str | None:
        """Refer to the workspace's object with the declared hash, which saves the download; None where it has none."""
        if record.declared_sha256 is None:
            return None
        known = await self._records.find_object(record.workspace_id, record.declared_sha256)
        if known is None or known.deleted_at is not None or not await self._present(known):
            return None
        try:
            content_type = effective_type(record.declared_type or known.content_type, await self._prefix(known))
        except ObjectNotFound:  # deleted since we looked
            return None
        if await self._adopt(record, known, content_type) is None:
            return "deleted"
        return self._saved(known) if await self._present(known) else None

    async def _prefix(self, stored: StoredObject) -> bytes:
        if stored.size == 0:
            return b""
        head = ByteRange(0, min(SNIFF_LENGTH, stored.size))
        async with self._store.open(stored.key, head) as reader:
            return b"".join([chunk async for chunk in reader.chunks])

    async def _fetch(self, record: MediaRecord) -> str:
        """Get the bytes into a spool, by whatever process of this node, and store them from there."""
        ref = record.ref
        if ref is None:
            raise OriginGone
        order = Order(ref=ref, declared_type=record.declared_type, declared_sha256=record.declared_sha256)
        joined = self._flights.join(record.spool, order, recheck=lambda: self._stored_since(record))
        async with joined as flight:
            try:
                landed = await flight.landed(DOWNLOAD_DEADLINE)
            except StoredMeanwhile:
                return "kept"
        async with self._flights.hold(record.spool, seconds=HOLD_DEADLINE):
            return await self._store_landed(record, landed)

    async def _stored_since(self, record: MediaRecord) -> bool:
        now = await self._records.get(record.message_id)
        if now is None or now.deleted_at is not None:
            return True
        return now.stored is not None and (record.stored is None or now.stored.id != record.stored.id)

    async def _store_landed(self, record: MediaRecord, landed: Landed) -> str:
        """Store a verified spool under the message's key, unless the workspace has the content already."""
        known = await self._records.find_object(record.workspace_id, landed.sha256)
        if known is not None and known.backend == self._store.backend:
            return await self._share(record, known, landed)
        candidate = await self._put(record, landed)
        if known is not None:
            candidate = replace(candidate, id=known.id)
            await self._records.relocate(candidate)
        winner = await self._adopt(record, candidate, landed.content_type)
        if winner is None:
            return "deleted"
        return "stored" if winner.id == candidate.id else self._saved(winner)

    async def _share(self, record: MediaRecord, known: StoredObject, landed: Landed) -> str:
        """Refer to an object first, and look for its bytes then: what is referred to is not being deleted."""
        if await self._adopt(record, known, landed.content_type) is None:
            return "deleted"
        if await self._present(known):
            return "kept" if known.key == record.key else self._saved(known)
        await self._store.delete(known.key)  # what is left of it, if anything
        await self._store.put(known.key, self._spools.data(landed.name), content_type=known.content_type)
        return "stored"

    def _saved(self, known: StoredObject) -> str:
        self._deduplicated(known.size)
        return "deduplicated"

    async def _put(self, record: MediaRecord, landed: Landed) -> StoredObject:
        """Store the spool's bytes and return the object as it was stored.

        Keys are write-once. What lies there already is either our own earlier try, or another content that other
        messages may refer to: the message was deleted, came again and is not the same any more.
        """
        spool, key = self._spools.data(landed.name), record.key
        created = await self._store.put(key, spool, content_type=landed.content_type)
        if not created and await self._sha256(key) != landed.sha256:
            key = f"{key}~{landed.sha256[:16]}"
            await self._store.put(key, spool, content_type=landed.content_type)
        return self._candidate(record, landed, key)

    async def _sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        async with self._store.open(key) as reader:
            async for chunk in reader.chunks:
                await asyncio.to_thread(digest.update, chunk)
        return digest.hexdigest()

    def _candidate(self, record: MediaRecord, landed: Landed, key: str) -> StoredObject:
        return StoredObject(
            id=uuid4().hex,
            workspace_id=record.workspace_id,
            sha256=landed.sha256,
            size=landed.size,
            content_type=landed.content_type,
            backend=self._store.backend,
            key=key,
            url=self._store.url(key),
            created_at=datetime.now(UTC),
        )

    async def _adopt(self, record: MediaRecord, candidate: StoredObject, content_type: str) -> StoredObject | None:
        """Let the record refer to the object; return the one it refers to now.

        None where the message is deleted by now, or about another medium: then it has a job of its own.
        """
        medium = record.provider_media_id
        winner = await self._records.adopt(record.message_id, candidate, content_type=content_type, medium=medium)
        await self._clean_up(record, winner, candidate.key)
        return winner

    async def _clean_up(self, record: MediaRecord, refers_to: StoredObject | None, *tried: str) -> None:
        """Delete what this or an earlier try has stored for the message and no object is: a twin was first."""
        for key in {record.key, *tried} - ({refers_to.key} if refers_to is not None else set()):
            if await self._records.find_by_key(self._store.backend, key) is None:
                await self._store.delete(key)
        if refers_to is None:
            await self._flights.discard(record.spool)

    async def _clean_up_after_the_dead(self, record: MediaRecord, refers_to: StoredObject | None) -> None:
        """Do what a worker that was killed could not do any more."""
        if refers_to is None or refers_to.key != record.key:
            async with self._flights.hold(record.spool, seconds=HOLD_DEADLINE):
                await self._clean_up(record, refers_to)
