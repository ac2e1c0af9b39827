"""Between rows and values: the statements that several questions share."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Any

from sqlalchemy import Select, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.errors import RecordConflict
from storage.record import MediaRecord, NewMessage, Status, StoredObject
from storage.schema import messages, objects

_OBJECT_COLUMNS = tuple(StoredObject.__slots__)
_RECORD_COLUMNS = tuple(name for name in MediaRecord.__slots__ if name != "stored")
_OF_THE_MEDIUM = (
    "provider_media_id",
    "phone_number_id",
    "kind",
    "filename",
    "declared_type",
    "declared_sha256",
    "declared_size",
)
_OF_THE_STORAGE = ("object_id", "content_type", "media_stored_url", "media_stored_at", "media_storage_backend")
_REGISTERED = (*_OF_THE_MEDIUM, "conversation_id", "participants")


@dataclass(frozen=True, slots=True)
class Upserted:
    """What a registration has done."""

    created: bool
    """The message is new, or was deleted."""
    changed: bool
    replaced: bool
    """The message had another medium until now."""


def insert(connection: AsyncConnection) -> Any:
    """Return the dialect's INSERT, which knows ON CONFLICT; no other dialect than the one in use is loaded."""
    return import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert


async def insert_new(connection: AsyncConnection, new: list[dict[str, Any]]) -> set[str]:
    """Insert those rows of messages that are not there yet, and return their ids."""
    statement = insert(connection)(messages).on_conflict_do_nothing().returning(messages.c.message_id)
    # In one order everywhere: two batches that insert the same messages crosswise would wait for each other.
    ordered = sorted(new, key=lambda row: row["message_id"])
    return set((await connection.execute(statement, ordered)).scalars())


def joined() -> Select[Any]:
    """Select messages with the objects they refer to."""
    columns = [messages.c[name] for name in _RECORD_COLUMNS] + [objects.c[name] for name in _OBJECT_COLUMNS]
    return select(*columns).outerjoin(objects, messages.c.object_id == objects.c.id)


def of_objects() -> Select[Any]:
    """Select objects."""
    return select(*(objects.c[name] for name in _OBJECT_COLUMNS))


def record(row: Sequence[Any]) -> MediaRecord:
    """Read one row of `joined`."""
    values = dict(zip(_RECORD_COLUMNS, row, strict=False))
    if values["participants"] is not None:
        values["participants"] = tuple(values["participants"])
    values["status"] = Status(values["status"])
    columns = row[len(_RECORD_COLUMNS) :]
    values["stored"] = stored_object(columns) if columns[0] is not None else None
    return MediaRecord(**values)


async def get_record(connection: AsyncConnection, message_id: str, *, lock: bool = False) -> MediaRecord | None:
    """Return a message's record; with ``lock``, nobody else changes it before the transaction ends."""
    query = joined().where(messages.c.message_id == message_id)
    if lock:
        query = query.with_for_update(of=messages)
    row = (await connection.execute(query)).first()
    return record(row) if row is not None else None


async def get_object(
    connection: AsyncConnection, workspace_id: str, sha256: str, *, lock: bool = False
) -> StoredObject | None:
    """Return the object of a workspace with that content."""
    query = of_objects().where(objects.c.workspace_id == workspace_id, objects.c.sha256 == sha256)
    if lock:
        query = query.with_for_update()
    row = (await connection.execute(query)).first()
    return stored_object(row) if row is not None else None


def stored_object(row: Sequence[Any]) -> StoredObject:
    """Read one row of `of_objects`."""
    return StoredObject(**dict(zip(_OBJECT_COLUMNS, row, strict=True)))


def message_row(new: NewMessage, now: datetime) -> dict[str, Any]:
    """Return the row of a message that has just become known."""
    row: dict[str, Any] = {name: getattr(new, name) for name in _REGISTERED}
    row["participants"] = list(new.participants) if new.participants is not None else None
    return row | {
        "message_id": new.message_id,
        "workspace_id": new.workspace_id,
        "provider": "whatsapp",
        "status": Status.PENDING if new.error is None else Status.FAILED,
        "error": new.error,
        "expires_at": new.expires_at,
        "attempts": 0,
        "created_at": now,
        "updated_at": now,
    }


def object_row(stored: StoredObject, now: datetime) -> dict[str, Any]:
    """Return the row of an object whose bytes have just been stored."""
    return {name: getattr(stored, name) for name in _OBJECT_COLUMNS} | {"updated_at": now}


async def upsert(connection: AsyncConnection, new: NewMessage, now: datetime) -> Upserted:
    """Write a registration.

    Raises:
        RecordConflict: The message belongs to another workspace.
    """
    row = message_row(new, now)
    # Insert, then look: of two first registrations at once, the later one waits here and finds the other's row.
    if await insert_new(connection, [row]):
        return Upserted(created=True, changed=True, replaced=False)
    known = await get_record(connection, new.message_id, lock=True)
    if known is None or known.workspace_id != new.workspace_id:
        raise RecordConflict("The message is registered for another workspace.")
    revived = known.deleted_at is not None
    change = _change(known, new, row)
    if not change:
        return Upserted(created=False, changed=False, replaced=False)
    await connection.execute(
        update(messages).where(messages.c.message_id == known.message_id).values(change | {"updated_at": now})
    )
    if known.stored is not None and "object_id" in change:
        await mark_unreferenced(connection, known.stored.id, now)  # the sweep deletes its bytes
    return Upserted(created=revived, changed=True, replaced=not revived and "object_id" in change)


def _change(known: MediaRecord, new: NewMessage, row: dict[str, Any]) -> dict[str, Any]:
    """Return what a registration changes; what it leaves out stays, except what described another medium."""
    revived = known.deleted_at is not None
    moved = new.provider_media_id not in {None, known.provider_media_id}
    given = {name: row[name] for name in _REGISTERED if getattr(new, name) is not None}
    if not revived and not moved:
        return given if any(getattr(new, name) != getattr(known, name) for name in given) else {}
    replaced = {name: row[name] for name in (_REGISTERED if revived else _OF_THE_MEDIUM)}
    # The time too: it is when what is served was last modified, and no cache may mix two media.
    fresh = {name: row[name] for name in ("status", "error", "attempts", "expires_at", "created_at")}
    return given | replaced | fresh | dict.fromkeys(("deleted_at", *_OF_THE_STORAGE))


async def mark_unreferenced(connection: AsyncConnection, object_id: str, now: datetime) -> bool:
    """Mark an object for deletion if no message refers to it any more; False where one does."""
    # Lock it by a statement of its own: PostgreSQL would look for references as of before it waited for a message
    # that is being given this object, and mark what that message now refers to.
    await connection.execute(select(objects.c.id).where(objects.c.id == object_id).with_for_update())
    references = exists().where(messages.c.object_id == object_id)
    marked = await connection.execute(
        update(objects)
        .where(objects.c.id == object_id, objects.c.deleted_at.is_(None), ~references)
        .values(deleted_at=now, updated_at=now)
    )
    return bool(marked.rowcount)
