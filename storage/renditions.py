"""Questions to the database about what processing has made of objects, one transaction each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import bindparam, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import rows
from storage.database import Database, reading, writing
from storage.reader import Question
from storage.record import Processing, Status, StoredObject, Variant
from storage.schema import messages, objects, variants

QUARANTINED = "quarantined"  # the error of a message whose object is
_COLUMNS = tuple(Variant.__slots__)

_VARIANTS = select(*(variants.c[name] for name in _COLUMNS))
_ALIVE = Question(rows.of_objects().where(objects.c.id == bindparam("object_id"), objects.c.deleted_at.is_(None)))
_OF_OBJECT = Question(_VARIANTS.where(variants.c.object_id == bindparam("object_id")))
_OF_OBJECTS = Question(
    _VARIANTS.where(variants.c.object_id.in_(bindparam("object_ids", expanding=True))).order_by(variants.c.object_id)
)
_FACTS = Question(
    select(objects.c.id, objects.c.metadata).where(objects.c.id.in_(bindparam("object_ids", expanding=True)))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Processed:
    """What is known of an object beside its bytes."""

    facts: Mapping[str, Any]
    """JSON values by the names that ``info`` shows."""
    variants: Mapping[str, Variant]
    """By name."""


NOTHING = Processed(facts={}, variants={})


class Renditions:
    """The variants and facts of objects, and how far their processing has come."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock

    async def object(self, object_id: str) -> StoredObject | None:
        """Return an object that is not being deleted."""
        found = await self._database.fetch(_ALIVE, object_id=object_id)
        return rows.stored_object(found[0]) if found else None

    async def of(self, object_id: str) -> dict[str, Variant]:
        """Return an object's variants by name."""
        return _by_name(map(_variant, await self._database.fetch(_OF_OBJECT, object_id=object_id)))

    async def describe(self, object_ids: Sequence[str]) -> dict[str, Processed]:
        """Return what is known of each of some objects."""
        facts = await self._database.fetch(_FACTS, object_ids=object_ids)
        made = map(_variant, await self._database.fetch(_OF_OBJECTS, object_ids=object_ids))
        by_object = {id_: _by_name(each) for id_, each in groupby(made, attrgetter("object_id"))}
        return {id_: Processed(facts=known or {}, variants=by_object.get(id_, {})) for id_, known in facts}

    async def settle(self, message_id: str) -> StoredObject | None:
        """Let a stored message's status follow its object's; return the object if that has yet to be processed."""
        async with writing(self._database) as connection:
            record = await rows.get_record(connection, message_id, lock=True)
            if record is None or record.deleted_at is not None or record.stored is None:
                return None
            # Locked: a processing that ends meanwhile waits for us, and then sees this message among those to tell.
            found = select(objects.c.processing_status).where(objects.c.id == record.stored.id).with_for_update()
            processing = Processing((await connection.execute(found)).scalar_one())
            status, error = _outcome(processing)
            if (record.status, record.error) != (status, error):
                values = {"status": status, "error": error, "updated_at": self._clock()}
                await connection.execute(update(messages).where(messages.c.message_id == message_id).values(values))
            return record.stored if processing is Processing.PENDING else None

    async def keep(self, variant: Variant) -> tuple[bool, Variant | None]:
        """Record a variant whose bytes are stored.

        Returns whether the object is still there to have it, and the variant of that name that it replaces.
        """
        values = {name: getattr(variant, name) for name in _COLUMNS}
        async with writing(self._database) as connection:
            alive = select(objects.c.id).where(objects.c.id == variant.object_id, objects.c.deleted_at.is_(None))
            if (await connection.execute(alive.with_for_update())).first() is None:
                return False, None
            before = (await _variants(connection, variant.object_id)).get(variant.name)
            statement = rows.insert(connection)(variants).values(values)
            statement = statement.on_conflict_do_update(index_elements=["object_id", "name"], set_=values)
            await connection.execute(statement)
        return True, before

    async def learn(self, object_id: str, facts: Mapping[str, Any]) -> None:
        """Add to what is known of an object's content."""
        async with writing(self._database) as connection:
            found = select(objects.c.metadata).where(objects.c.id == object_id).with_for_update()
            known = (await connection.execute(found)).scalar_one_or_none() or {}
            await connection.execute(
                update(objects).where(objects.c.id == object_id).values(metadata={**known, **facts})
            )

    async def finish(
        self, object_id: str, status: Processing, *, recipe: int, keeping: Iterable[str], error: str | None
    ) -> list[Variant]:
        """End an object's processing, and tell the messages that wait for it.

        Returns the variants that are not in ``keeping`` and older than ``recipe``: nobody is told of them any more,
        and their bytes are to be deleted.
        """
        now = self._clock()
        values = {
            "processing_status": status,
            "processing_error": error,
            "processed_at": now,
            "recipe": recipe,
            "updated_at": now,
        }
        async with writing(self._database) as connection:
            await connection.execute(update(objects).where(objects.c.id == object_id).values(values))
            found = await _variants(connection, object_id)
            stale = [each for name, each in found.items() if name not in set(keeping) and each.recipe != recipe]
            gone = [each.name for each in stale]
            await connection.execute(
                delete(variants).where(variants.c.object_id == object_id, variants.c.name.in_(gone))
            )
        # In a transaction of its own: `settle` locks a message first and then its object, we must not do the reverse.
        message_status, message_error = _outcome(status)
        async with writing(self._database) as connection:
            waiting = messages.c.status.in_(
                [Status.PROCESSING, Status.COMPLETED] if status is Processing.QUARANTINED else [Status.PROCESSING]
            )
            await connection.execute(
                update(messages)
                .where(messages.c.object_id == object_id, messages.c.deleted_at.is_(None), waiting)
                .values(status=message_status, error=message_error, updated_at=now)
            )
        return stale

    async def reprocessable(
        self, *, workspace_id: str | None, older_than: int | None, after: str = "", limit: int = 500
    ) -> list[StoredObject]:
        """Return the next objects by id, of a workspace or all, made by an older recipe or any; never malware."""
        healthy = objects.c.processing_status != Processing.QUARANTINED
        query = rows.of_objects().where(objects.c.id > after, objects.c.deleted_at.is_(None), healthy)
        if workspace_id is not None:
            query = query.where(objects.c.workspace_id == workspace_id)
        if older_than is not None:
            query = query.where(or_(objects.c.recipe < older_than, objects.c.recipe.is_(None)))
        async with reading(self._database) as connection:
            found = await connection.execute(query.order_by(objects.c.id).limit(limit))
            return [rows.stored_object(row) for row in found]


def _outcome(processing: Processing) -> tuple[Status, str | None]:
    """Return the status of a message by that of its object: a variant that fails never fails the original."""
    match processing:
        case Processing.PENDING:
            return Status.PROCESSING, None
        case Processing.QUARANTINED:
            return Status.FAILED, QUARANTINED
        case _:
            return Status.COMPLETED, None


async def _variants(connection: AsyncConnection, object_id: str) -> dict[str, Variant]:
    query = _VARIANTS.where(variants.c.object_id == object_id)
    return _by_name(map(_variant, await connection.execute(query)))


def _variant(row: Sequence[Any]) -> Variant:
    return Variant(**dict(zip(_COLUMNS, row, strict=True)))


def _by_name(found: Iterable[Variant]) -> dict[str, Variant]:
    return {variant.name: variant for variant in found}
