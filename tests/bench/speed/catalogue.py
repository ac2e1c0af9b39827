"""The media of a measurement: files where the origin has its objects, and the records that lead to them."""

import asyncio
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from storage.database import open_engine
from storage.record import NewMessage, Processing, Status, StoredObject, key_part
from storage.records import Records
from tests.databases import databases

BUCKET = "bench"
CONTENT_TYPE = "application/octet-stream"  # what the origin says of all of them


@dataclass(frozen=True, slots=True)
class Medium:
    """A stored medium."""

    message_id: str
    key: str
    size: int
    sha256: str

    @property
    def etag(self) -> str:
        """What the gateway tells it by."""
        return f'"{self.sha256}"'


Catalogue = Mapping[int, list[Medium]]
"""Media by their size in bytes."""


async def stock(folder: Path, root: Path, counts: Mapping[int, int]) -> Catalogue:
    """Make so many media of each size: objects of the bucket below ``root``, records in the database in ``folder``."""
    await asyncio.to_thread(_migrate, folder)
    engine = open_engine(f"sqlite:///{folder / 'gateway.db'}")
    try:
        records = Records(engine)
        return {
            size: [await _add(records, root / BUCKET, size) for _ in range(count)] for size, count in counts.items()
        }
    finally:
        await engine.dispose()


def _migrate(folder: Path) -> None:
    with databases("sqlite", folder) as sqlite:
        sqlite.new(folder)


async def _add(records: Records, bucket: Path, size: int) -> Medium:
    message_id, provider_media_id = uuid4().hex, uuid4().hex
    key = f"media/{key_part(message_id)}/{key_part(provider_media_id)}"
    medium = Medium(message_id, key, size, await asyncio.to_thread(_write, bucket / key, size))
    new = NewMessage(message_id=message_id, workspace_id="default", provider_media_id=provider_media_id)
    await records.add([new])
    await records.adopt(message_id, await _object(records, medium), content_type=CONTENT_TYPE)
    await records.mark(message_id, Status.COMPLETED)
    return medium


def _write(path: Path, size: int) -> str:
    """Write a file of random bytes and return their SHA-256."""
    content = os.urandom(size)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


async def _object(records: Records, medium: Medium) -> StoredObject:
    record = await records.get(medium.message_id)
    assert record is not None
    return StoredObject(
        id=uuid4().hex,
        workspace_id=record.workspace_id,
        sha256=medium.sha256,
        size=medium.size,
        content_type=CONTENT_TYPE,
        backend="s3",
        key=medium.key,
        url=f"s3://{BUCKET}/{medium.key}",
        created_at=record.created_at,
        processing_status=Processing.COMPLETED,
    )
