"""Records of one message, and what it takes to read its medium through all layers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from storage.bodies import BodyCache
from storage.layers import Deadlines
from storage.memory import MemoryStore
from storage.record import MediaRecord, Status, StoredObject
from storage.representation import Opened, Representation
from storage.retrieval import Retrieval
from storage.store import ByteRange
from tests.storage.flying import Node, ScriptedOrigin, open_node, sha256

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
CACHED_ITEM = 100_000  # bytes


def a_record(stored: StoredObject | None = None) -> MediaRecord:
    """Return the record of an image that a webhook has announced."""
    return MediaRecord(
        message_id="m",
        workspace_id="w",
        conversation_id=None,
        participants=None,
        provider_media_id="p",
        phone_number_id=None,
        kind="image",
        filename=None,
        declared_type="image/jpeg",
        declared_sha256=None,
        declared_size=None,
        content_type=stored.content_type if stored else None,
        media_stored_at=NOON if stored else None,
        status=Status.COMPLETED if stored else Status.PENDING,
        error=None,
        attempts=0,
        expires_at=None,
        created_at=NOON,
        updated_at=NOON,
        deleted_at=None,
        stored=stored,
    )


def an_object(body: bytes, **changes: object) -> StoredObject:
    """Return what the records say of a body in the memory store."""
    made = StoredObject(
        id="o",
        workspace_id="w",
        sha256=sha256(body),
        size=len(body),
        content_type="image/jpeg",
        backend="memory",
        key="media/m/p",
        url="memory:///media/m/p",
        created_at=NOON,
    )
    return replace(made, **changes)  # type: ignore[arg-type] # named by the test


class Observed:
    """A `RetrievalObserver`."""

    def __init__(self) -> None:
        self.hits: list[bool] = []
        self.fallbacks: list[str] = []

    def cache_read(self, *, hit: bool) -> None:
        self.hits.append(hit)

    def fallback(self, outcome: str) -> None:
        self.fallbacks.append(outcome)


@dataclass(slots=True, kw_only=True)
class Reading:
    """All layers, each of which a test may break."""

    record: MediaRecord
    """What the database says now."""
    store: MemoryStore
    node: Node
    cache: BodyCache
    observed: Observed
    retrieval: Retrieval
    landed: list[str]

    @property
    def origin(self) -> ScriptedOrigin:
        return self.node.origin

    async def get(
        self, record: MediaRecord | None = None, ranges: tuple[ByteRange, ...] | None = None
    ) -> tuple[Representation, bytes]:
        """Read the wanted ranges, one after the other, or all of it."""
        async with self.retrieval.open(record or self.record, lambda _: ranges) as opened:
            return opened.representation, await body_of(opened, ranges)


async def body_of(opened: Opened, ranges: tuple[ByteRange, ...] | None = None) -> bytes:
    wanted = (None,) if ranges is None else ranges
    return b"".join([chunk for byte_range in wanted async for chunk in opened.read(byte_range)])


@asynccontextmanager
async def open_reading(
    folder: Path,
    body: bytes,
    *,
    stored: StoredObject | None,
    deadlines: Deadlines | None = None,
    storage_first: bool = True,
    store: MemoryStore | None = None,
    max_item: int = CACHED_ITEM,
) -> AsyncIterator[Reading]:
    """Open all layers over a provider and a store that both have the body; nothing is left of it afterwards."""
    store, observed, landed = store or MemoryStore(), Observed(), list[str]()
    cache = BodyCache(10 * max_item, max_item=max_item)
    file = folder / "body"
    file.write_bytes(body)
    await store.put("media/m/p", file, content_type="image/jpeg")

    async def reload(message_id: str) -> MediaRecord | None:
        return reading.record

    async def on_landed(record: MediaRecord) -> None:
        landed.append(record.message_id)

    async with open_node(folder / "spool", ScriptedOrigin(body=body)) as node:
        build = partial(Retrieval, cache=cache, store=store, flights=node.flights, reload=reload, landed=on_landed)
        retrieval = build(observer=observed, deadlines=deadlines, storage_first=storage_first)
        reading = Reading(
            record=a_record(stored),
            store=store,
            node=node,
            cache=cache,
            observed=observed,
            retrieval=retrieval,
            landed=landed,
        )
        yield reading
