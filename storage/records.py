"""Questions to the database of media records, one transaction each, or none where one SELECT answers."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    bindparam,
    delete,
    false,
    func,
    select,
    tuple_,
    union_all,
    update,
)

from storage import changes, rows, tallies
from storage.database import Database, reading, writing
from storage.errors import RecordConflict, RecordsUnavailable
from storage.reader import Question
from storage.record import Cursor, MediaRecord, NewMessage, Processing, Status, StoredObject
from storage.schema import UNFINISHED, messages, objects, variants

MAX_PAGE = 200
FINAL = ("media-expired", "media-too-large", "provider-undeliverable", "quarantined")
"""Errors of a record that asking the provider again cannot mend."""

_NOTHING = Question(select(messages.c.message_id).where(false()))
_BY_ID = Question(rows.joined().where(messages.c.message_id == bindparam("message_id")))
_BY_IDS = Question(rows.joined().where(messages.c.message_id.in_(bindparam("message_ids", expanding=True))))
_BY_CONTENT = Question(
    rows.of_objects().where(
        objects.c.workspace_id == bindparam("workspace_id"), objects.c.sha256 == bindparam("sha256")
    )
)
_BY_KEY = Question(
    rows.of_objects().where(objects.c.key == bindparam("key"), objects.c.backend == bindparam("backend"))
)
_DOOMED = Question(rows.of_objects().where(objects.c.id == bindparam("object_id"), objects.c.deleted_at.is_not(None)))
_REFERRING = Question(
    select(messages.c.message_id)
    .where(messages.c.object_id == bindparam("object_id"), messages.c.message_id > bindparam("after"))
    .order_by(messages.c.message_id)
    .limit(bindparam("limit", type_=Integer))
)

InTransaction = Callable[[Connection, Sequence[str]], None]
"""Runs inside a transaction with the ids it is about, so that what it writes commits with them or not at all."""


class Records:
    """The media records: one row per message, one per object."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock

    async def check(self) -> None:
        """Prove that the database answers; raises a `RecordsError` where not."""
        await self._database.fetch(_NOTHING)

    async def get(self, message_id: str) -> MediaRecord | None:
        """Return the record of a message, deleted ones included."""
        found = await self._database.fetch(_BY_ID, message_id=message_id)
        return rows.record(found[0]) if found else None

    async def get_many(self, message_ids: Sequence[str]) -> dict[str, MediaRecord]:
        """Return the records of those messages that are known, deleted ones included, by id."""
        found = await self._database.fetch(_BY_IDS, message_ids=message_ids)
        return {record.message_id: record for record in map(rows.record, found)}

    async def page(
        self,
        *,
        workspace_id: str | None = None,
        status: Status | None = None,
        after: Cursor | None = None,
        limit: int = 50,
    ) -> tuple[list[MediaRecord], Cursor | None]:
        """Return the next records by time of creation, and the cursor behind the last if there are more."""
        limit = max(1, min(limit, MAX_PAGE))
        query = rows.joined().where(messages.c.deleted_at.is_(None))
        if workspace_id is not None:
            query = query.where(messages.c.workspace_id == workspace_id)
        if status is not None:
            query = query.where(messages.c.status == status)
        if after is not None:
            position = tuple_(messages.c.created_at, messages.c.message_id)
            query = query.where(position > tuple_(after.created_at, after.message_id))
        query = query.order_by(messages.c.created_at, messages.c.message_id).limit(limit + 1)
        async with reading(self._database) as connection:
            found = [rows.record(row) for row in await connection.execute(query)]
        more = len(found) > limit
        found = found[:limit]
        return found, Cursor(found[-1].created_at, found[-1].message_id) if more else None

    async def add(self, new: Sequence[NewMessage], *, and_then: InTransaction | None = None) -> list[str]:
        """Insert those messages that are not known yet, tombstones included, and return their ids.

        ``and_then`` runs in the same transaction with the ids that were inserted and still need a job: record and job
        become durable together or not at all.
        """
        if not new:
            return []
        now = self._clock()
        batch = {message.message_id: rows.message_row(message, now) for message in new}
        async with writing(self._database) as connection:
            inserted = await rows.insert_new(connection, list(batch.values()))
            fetchable = [id_ for id_ in batch if id_ in inserted and batch[id_]["status"] == Status.PENDING]
            if and_then is not None and fetchable:
                await connection.run_sync(and_then, fetchable)
        return [id_ for id_ in batch if id_ in inserted]

    async def register(
        self, new: NewMessage, *, and_then: InTransaction | None = None, and_if_replaced: InTransaction | None = None
    ) -> tuple[MediaRecord, bool]:
        """Insert a message, or bring a known one up to date; True where it is new.

        A deleted message is registered anew: the host application asked for it by name. In the same transaction run,
        with the message's id, ``and_then`` where anything has changed, and ``and_if_replaced`` where the message had
        another medium until now.

        Raises:
            RecordConflict: The message belongs to another workspace.
        """
        async with writing(self._database) as connection:
            done = await rows.upsert(connection, new, self._clock())
            if and_then is not None and done.changed:
                await connection.run_sync(and_then, [new.message_id])
            if and_if_replaced is not None and done.replaced:
                await connection.run_sync(and_if_replaced, [new.message_id])
            record = await rows.get_record(connection, new.message_id)
        if record is None:  # the transaction has just written it
            raise RecordConflict("The message vanished while it was registered.")
        return record, done.created

    async def find_object(self, workspace_id: str, sha256: str) -> StoredObject | None:
        """Return the workspace's object of that content, the one being deleted included."""
        found = await self._database.fetch(_BY_CONTENT, workspace_id=workspace_id, sha256=sha256)
        return rows.stored_object(found[0]) if found else None

    async def find_by_key(self, backend: str, key: str) -> StoredObject | None:
        """Return the object that is stored under a key, the one being deleted included."""
        found = await self._database.fetch(_BY_KEY, backend=backend, key=key)
        return rows.stored_object(found[0]) if found else None

    async def adopt(
        self, message_id: str, candidate: StoredObject, *, content_type: str, medium: str | None = None
    ) -> StoredObject | None:
        """Let a message refer to ``candidate``, or to the object that already holds the same content.

        ``content_type`` is what this message's bytes are served as, ``medium`` the provider's id of what they are.
        Returns the object that the message now refers to, or None where the message was deleted meanwhile, or given
        another medium than that.

        Raises:
            RecordsUnavailable: The object that holds this content is being deleted right now; ask again.
        """
        now = self._clock()
        async with writing(self._database) as connection:
            live = select(messages.c.object_id).where(
                messages.c.message_id == message_id, messages.c.deleted_at.is_(None)
            )
            if medium is not None:
                live = live.where(messages.c.provider_media_id == medium)
            found = (await connection.execute(live.with_for_update())).first()
            if found is None:
                return None
            await connection.execute(
                rows.insert(connection)(objects).values(rows.object_row(candidate, now)).on_conflict_do_nothing()
            )
            winner = await rows.get_object(connection, candidate.workspace_id, candidate.sha256, lock=True)
            if winner is None or winner.deleted_at is not None:
                raise RecordsUnavailable("The object with this content is being deleted.")
            await connection.execute(
                update(messages)
                .where(messages.c.message_id == message_id)
                .values(
                    object_id=winner.id,
                    content_type=content_type,
                    status=Status.PROCESSING,
                    error=None,
                    media_stored_url=winner.url,
                    media_stored_at=now,
                    media_storage_backend=winner.backend,
                    updated_at=now,
                )
            )
            if found.object_id not in {None, winner.id}:
                await rows.mark_unreferenced(connection, found.object_id, now)
            return winner

    async def relocate(self, stored: StoredObject) -> None:
        """Record that an object's bytes lie in another store now, under another key."""
        change = {"backend": stored.backend, "key": stored.key, "url": stored.url, "updated_at": self._clock()}
        change["processing_status"] = Processing.PENDING  # its variants lie where it was
        place = {"media_stored_url": stored.url, "media_storage_backend": stored.backend}
        async with writing(self._database) as connection:
            await connection.execute(update(objects).where(objects.c.id == stored.id).values(change))
            await connection.execute(update(messages).where(messages.c.object_id == stored.id).values(place))

    async def mark(self, message_id: str, status: Status, *, error: str | None = None, attempt: int = 0) -> None:
        """Set a message's status; ``attempt`` counts the tries of its ingest so far."""
        values = {"status": status, "error": error, "attempts": attempt, "updated_at": self._clock()}
        async with writing(self._database) as connection:
            await connection.execute(update(messages).where(messages.c.message_id == message_id).values(values))

    async def delete(
        self, message_id: str, *, and_then: InTransaction | None = None, and_if_doomed: InTransaction | None = None
    ) -> bool:
        """Turn a message into a tombstone; False where it is unknown or one already.

        An object that no message refers to any more is marked. In the same transaction run ``and_then`` with the
        message's id, and ``and_if_doomed`` with that of an object that was marked, so that whatever is still to be
        done is as durable as the deletion itself. For a tombstone ``and_then`` runs again: who deletes twice may do so
        because something was lost the first time.
        """
        now = self._clock()
        async with writing(self._database) as connection:
            known = await rows.get_record(connection, message_id, lock=True)
            if known is not None and and_then is not None:
                await connection.run_sync(and_then, [message_id])
            if known is None or known.deleted_at is not None:
                return False
            values = {"deleted_at": now, "updated_at": now, "object_id": None, "media_stored_url": None}
            await connection.execute(update(messages).where(messages.c.message_id == message_id).values(values))
            stored = known.stored
            doomed = stored is not None and await rows.mark_unreferenced(connection, stored.id, now)
            if stored is not None and doomed and and_if_doomed is not None:
                await connection.run_sync(and_if_doomed, [stored.id])
        return True

    async def referring(self, object_id: str, *, after: str = "", limit: int = 500) -> list[str]:
        """Return the ids of the next messages that refer to an object."""
        found = await self._database.fetch(_REFERRING, object_id=object_id, after=after, limit=limit)
        return [message_id for (message_id,) in found]

    async def doomed(self, object_id: str) -> StoredObject | None:
        """Return an object whose bytes are to be deleted, or None where it is not (any more)."""
        found = await self._database.fetch(_DOOMED, object_id=object_id)
        return rows.stored_object(found[0]) if found else None

    async def bury(self, object_id: str) -> None:
        """Forget an object whose bytes are gone, and its variants with it."""
        doomed = select(objects.c.id).where(objects.c.id == object_id, objects.c.deleted_at.is_not(None))
        async with writing(self._database) as connection:
            await connection.execute(delete(variants).where(variants.c.object_id.in_(doomed)))
            await connection.execute(
                delete(objects).where(objects.c.id == object_id, objects.c.deleted_at.is_not(None))
            )

    async def unfinished(self, *, idle: timedelta, revive: timedelta, limit: int = 500) -> list[str]:
        """Return the ids of messages that need a new job, the nearest expiry first.

        Those are pending ones that nothing has touched for ``idle`` (their job was never written, or is lost), and
        failed ones after ``revive``, as long as the provider may still have the medium: seven days are a deadline.
        """
        now = self._clock()
        forgotten = messages.c.updated_at < now - idle
        revivable = (
            (messages.c.updated_at < now - revive) & (messages.c.expires_at > now) & messages.c.error.not_in(FINAL)
        )
        # One after another: each is read in the order of an index, and no further than needed.
        found = union_all(
            _of_status(Status.PENDING, forgotten, limit),
            _of_status(Status.PROCESSING, forgotten, limit),
            _of_status(Status.FAILED, revivable, limit),
        ).subquery()
        query = select(found.c.message_id).order_by(found.c.expires_at, found.c.message_id).limit(limit)
        async with reading(self._database) as connection:
            return list((await connection.execute(query)).scalars())

    async def forget_changes(self) -> int:
        """Prune the feed of changes; return how many rows of it went."""
        return await changes.prune(self._database, before=self._clock() - changes.KEEP)

    async def doomed_objects(self, *, limit: int = 500) -> list[str]:
        """Return the ids of objects whose bytes are still to be deleted, the longest doomed first."""
        query = (
            select(objects.c.id).where(objects.c.deleted_at.is_not(None)).order_by(objects.c.deleted_at).limit(limit)
        )
        async with reading(self._database) as connection:
            return list((await connection.execute(query)).scalars())

    async def count_by_status(self) -> dict[str, int]:
        """Return how many live messages stand where."""
        counts: Counter[str] = Counter()
        for state, media in (await tallies.count(self._database)).items():
            counts[state.status] += media
        return dict(counts)

    async def count_expiring(self, within: timedelta) -> int:
        """Return how many media are not stored and will be lost at the provider within that time."""
        now = self._clock()
        query = (
            select(func.count())
            .select_from(messages)
            .where(
                messages.c.object_id.is_(None),
                messages.c.status.in_([Status.PENDING, Status.PROCESSING, Status.FAILED]),
                messages.c.expires_at.between(now, now + within),
                UNFINISHED,
            )
        )
        async with reading(self._database) as connection:
            return (await connection.execute(query)).scalar_one()

    async def count_lost(self) -> int:
        """Return how many media are neither stored nor to be had from the provider any more."""
        counts = await tallies.count(self._database)
        lost = [state for state in counts if state.status == Status.FAILED and state.error in FINAL]
        return sum(counts[state] for state in lost if not state.is_stored)

    async def fold_tallies(self) -> None:
        """Add up what has come and gone since the last time."""
        await tallies.fold(self._database)


def _of_status(status: Status, condition: ColumnElement[bool], limit: int) -> Select[Any]:
    """Select messages of a status that is not the last one, the nearest expiry first."""
    fetchable = messages.c.provider_media_id.is_not(None)
    found = (
        select(messages.c.message_id, messages.c.expires_at)
        .where(messages.c.status == status, condition, fetchable, UNFINISHED)
        .order_by(messages.c.expires_at)
        .limit(limit)
    )
    return select(found.subquery())
