"""What the jobs do: fetch, verify, adopt or store, publish; and delete. Each step may be killed and run again."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import uuid4

import structlog

from storage.errors import MediaError, ObjectNotFound, OriginGone
from storage.flight import Landed
from storage.flights import Flights, StoredMeanwhile
from storage.origin import MediaRef
from storage.pilot import Order
from storage.record import MediaRecord, Status, StoredObject
from storage.records import Records
from storage.sniff import SNIFF_LENGTH, effective_type
from storage.spool import Spools
from storage.store import ByteRange, ObjectStore

DOWNLOAD_DEADLINE = 300.0  # seconds
HOLD_DEADLINE = 60.0  # seconds to wait until nobody on this node flies the medium any more

log = structlog.get_logger()


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
        forget: Callable[[MediaRef], None],
    ) -> None:
        """Take the collaborators; ``forget`` lets the provider be asked again for what it has refused."""
        self._forget = forget
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
        if record is None or record.deleted_at is not None:
            return "deleted"
        if record.stored is not None and await self._present(record.stored):
            return "kept"
        if fresh and record.ref is not None:
            self._forget(record.ref)
        if await self._adopt_declared(record):
            return "deduplicated"
        return await self._fetch(record)

    async def publish(self, message_id: str) -> None:
        """Announce that a message's medium is ready, and drop its spool."""
        record = await self._records.get(message_id)
        if record is None:
            return
        if record.deleted_at is None and record.status is not Status.COMPLETED:
            await self._records.mark(message_id, Status.COMPLETED, attempt=record.attempts)
        await self._flights.discard(record.spool)

    async def fail(self, message_id: str, failure: Failure, attempt: int, *, dead: bool) -> None:
        """Remember why a message's ingest failed."""
        status = Status.FAILED if dead else Status.PENDING
        await self._records.mark(message_id, status, error=failure.code, attempt=attempt + 1)

    async def delete(self, object_id: str) -> None:
        """Delete the bytes of an object that no message refers to any more, then its row."""
        doomed = await self._records.doomed(object_id)
        if doomed is None:
            return
        if doomed.backend != self._store.backend:
            log.warning("object lies in a store that is not configured", object_id=object_id, backend=doomed.backend)
            return
        await self._store.delete(doomed.key)
        await self._records.bury(object_id)

    async def _present(self, stored: StoredObject) -> bool:
        """Whether the object's bytes are where the record says; an unreachable store is not an absent object."""
        if stored.backend != self._store.backend:
            return False
        try:
            meta = await self._store.head(stored.key)
        except ObjectNotFound:
            return False
        return meta.size == stored.size

    async def _adopt_declared(self, record: MediaRecord) -> bool:
        """Refer to the workspace's object with the declared hash, which saves the download."""
        if record.declared_sha256 is None:
            return False
        known = await self._records.find_object(record.workspace_id, record.declared_sha256)
        if known is None or known.deleted_at is not None or not await self._present(known):
            return False
        content_type = effective_type(record.declared_type or known.content_type, await self._prefix(known))
        await self._adopt(record, known, content_type)
        return True

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
        candidate = known or self._candidate(record, landed)
        if known is None or not await self._present(known):
            candidate = await self._put(candidate, landed)
        return await self._adopt(record, candidate, landed.content_type)

    async def _put(self, candidate: StoredObject, landed: Landed) -> StoredObject:
        """Store the spool's bytes and return the object as it was stored.

        Keys are write-once. What lies there already is either our own earlier try, or another content that other
        messages may refer to: the message was deleted, came again and is not the same any more.
        """
        spool = self._spools.data(landed.name)
        created = await self._store.put(candidate.key, spool, content_type=candidate.content_type)
        if created or await self._sha256(candidate.key) == landed.sha256:
            return candidate
        key = f"{candidate.key}~{landed.sha256[:16]}"
        await self._store.put(key, spool, content_type=candidate.content_type)
        return replace(candidate, key=key, url=self._store.url(key))

    async def _sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        async with self._store.open(key) as reader:
            async for chunk in reader.chunks:
                await asyncio.to_thread(digest.update, chunk)
        return digest.hexdigest()

    def _candidate(self, record: MediaRecord, landed: Landed) -> StoredObject:
        return StoredObject(
            id=uuid4().hex,
            workspace_id=record.workspace_id,
            sha256=landed.sha256,
            size=landed.size,
            content_type=landed.content_type,
            backend=self._store.backend,
            key=record.key,
            url=self._store.url(record.key),
            created_at=datetime.now(UTC),
        )

    async def _adopt(self, record: MediaRecord, candidate: StoredObject, content_type: str) -> str:
        """Let the record refer to the object; what an earlier or losing try stored and nobody refers to goes."""
        winner = await self._records.adopt(record.message_id, candidate, content_type=content_type)
        for key in {record.key, candidate.key} - ({winner.key} if winner is not None else set()):
            if await self._records.find_by_key(self._store.backend, key) is None:
                await self._store.delete(key)
        if winner is None:
            await self._flights.discard(record.spool)
            return "deleted"
        return "stored" if winner.id == candidate.id else "deduplicated"
