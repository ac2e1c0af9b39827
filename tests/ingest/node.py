"""A node that ingests in tests: what a worker stands on, over a scripted provider and the store that a test chooses."""

import asyncio
import hashlib
import random
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ingest.processing.steps import RECIPE
from ingest.tasks import Tasks
from storage.database import Database
from storage.errors import OriginError, OriginGone
from storage.flights import Flights
from storage.origin import Download, MediaRef
from storage.record import MediaRecord, NewMessage, Processing, StoredObject
from storage.records import Records
from storage.renditions import Renditions
from storage.spool import Spools
from storage.store import CHUNK_SIZE, ObjectStore


def jpeg(seed: int, size: int = 150_000) -> bytes:
    """Return bytes that begin like a JPEG; another seed gives other bytes."""
    return b"\xff\xd8\xff\xe0" + random.Random(seed).randbytes(size - 4)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@dataclass(slots=True)
class ScriptedOrigin:
    """An `Origin` that has what a test gave it."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    """By the provider's media id."""
    failures: deque[OriginError] = field(default_factory=deque)
    """What the next downloads raise."""
    opened: Counter[str] = field(default_factory=Counter)
    gate: asyncio.Event | None = None
    """Downloads wait for it in the middle of their bytes."""
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a download waits."""

    @asynccontextmanager
    async def open(self, ref: MediaRef) -> AsyncIterator[Download]:
        self.opened[ref.provider_media_id] += 1
        if self.failures:
            raise self.failures.popleft()
        if ref.provider_media_id not in self.bodies:
            raise OriginGone
        body = self.bodies[ref.provider_media_id]
        yield Download(size=len(body), content_type="image/jpeg", sha256=sha256(body), chunks=self._chunks(body))

    async def _chunks(self, body: bytes) -> AsyncIterator[bytes]:
        for position in range(0, len(body), CHUNK_SIZE):
            yield body[position : position + CHUNK_SIZE]
            if self.gate is not None:
                self.waiting.set()
                await self.gate.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine's share of the gateway: its own spool folder; database, store and provider may be shared."""

    folder: Path
    records: Records
    store: ObjectStore
    origin: ScriptedOrigin
    tasks: Tasks
    forgotten: list[MediaRef]

    async def register(
        self, message_id: str, media_id: str, *, workspace_id: str = "w", declared_sha256: str | None = None
    ) -> None:
        """Record a message as a webhook would."""
        new = NewMessage(
            message_id=message_id,
            workspace_id=workspace_id,
            provider_media_id=media_id,
            declared_type="image/jpeg",
            declared_sha256=declared_sha256,
        )
        await self.records.register(new)

    async def ingest(self, message_id: str) -> str:
        """Do what a job does when nothing goes wrong."""
        outcome = await self.tasks.original(message_id, fresh=True)
        if outcome != "deleted":
            await self.tasks.publish(message_id)
        return outcome

    async def record(self, message_id: str) -> MediaRecord:
        """Return a record that exists."""
        record = await self.records.get(message_id)
        assert record is not None
        return record

    async def objects(self) -> dict[str, bytes]:
        """Return everything that is in the store, by key."""
        return {meta.key: await read(self.store, meta.key) async for meta in self.store.list()}

    def leftovers(self) -> set[str]:
        """Name what is left of downloads and writes: everything but the file of the locks."""
        spools, drafts = self.folder / "spool", self.folder / "store" / ".tmp"
        return {path.name for folder in (spools, drafts) if folder.exists() for path in folder.iterdir()} - {"locks"}


async def read(store: ObjectStore, key: str) -> bytes:
    """Return an object's bytes."""
    async with store.open(key) as reader:
        return b"".join([chunk async for chunk in reader.chunks])


@asynccontextmanager
async def open_node(
    folder: Path, engine: Database, store: ObjectStore, origin: ScriptedOrigin | None = None
) -> AsyncIterator[Node]:
    """Open a node that keeps its spools below ``folder``."""
    origin = origin or ScriptedOrigin()
    spools = Spools(folder / "spool")
    flights = Flights(spools, origin)
    records = Records(engine)
    forgotten: list[MediaRef] = []
    renditions = Renditions(engine)
    saved: list[int] = []

    async def processed(stored: StoredObject) -> None:
        await renditions.finish(stored.id, Processing.COMPLETED, recipe=RECIPE, keeping=(), error=None)

    tasks = Tasks(
        records=records,
        renditions=renditions,
        store=store,
        flights=flights,
        spools=spools,
        forget=forgotten.append,
        process=processed,
        deduplicated=saved.append,
    )
    try:
        yield Node(folder=folder, records=records, store=store, origin=origin, tasks=tasks, forgotten=forgotten)
    finally:
        await flights.drain(1)
        spools.close()
