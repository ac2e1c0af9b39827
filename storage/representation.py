"""What a read hands out: a medium as it is served, whatever layer it comes from, and the way to its bytes."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from storage.record import MediaRecord, StoredObject
from storage.sniff import declared_type
from storage.spool import SpoolState
from storage.store import CHUNK_SIZE, ByteRange


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

    @classmethod
    def of_stored(cls, record: MediaRecord, stored: StoredObject, source: Source) -> "Representation":
        """Describe a medium that lies in the store."""
        return cls(
            content_type=record.content_type or stored.content_type,
            size=stored.size,
            sha256=stored.sha256,
            last_modified=record.created_at,
            source=source,
            verified=True,
        )

    @classmethod
    def of_flight(cls, record: MediaRecord, state: SpoolState) -> "Representation":
        """Describe a medium that is on its way from the provider."""
        return cls(
            content_type=state.content_type,
            size=state.size,
            sha256=state.sha256,
            last_modified=record.created_at,
            source=Source.PROVIDER,
            verified=state.phase == "verified",
        )

    @classmethod
    def of_record(cls, record: MediaRecord) -> "Representation":
        """Describe a medium by what the record was told of it: nobody has seen its bytes."""
        return cls(
            content_type=record.content_type or declared_type(record.declared_type),
            size=record.declared_size,
            sha256=record.declared_sha256,
            last_modified=record.created_at,
            source=Source.PROVIDER,
            verified=False,
        )


Ranges = Sequence[ByteRange]
Want = Callable[[Representation], Ranges | None]
"""Which bytes of it are wanted; None: all, an empty sequence: none."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A medium that is ready to be read."""

    representation: Representation
    read: Callable[[ByteRange | None], AsyncIterator[bytes]]
    """Yields the bytes of one of the wanted ranges, in their order; None: all bytes."""


def from_memory(representation: Representation, body: bytes) -> Opened:
    """Open a body that is in memory."""

    async def read(byte_range: ByteRange | None) -> AsyncIterator[bytes]:
        start, stop = (byte_range.start, byte_range.stop) if byte_range else (0, len(body))
        for position in range(start, stop, CHUNK_SIZE):
            yield body[position : min(position + CHUNK_SIZE, stop)]

    return Opened(representation, read)
