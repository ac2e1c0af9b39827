"""All tables, in one history: what the gateway knows of messages and of the objects they refer to."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    func,
    text,
)

# Conditions of indices stand in the history alone (revisions 0001 and 0004): said here for one database, each process
# loads what SQLAlchemy knows of that database, with its drivers, whatever it uses itself.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    },
)


class UTCDateTime(TypeDecorator[datetime]):
    """A moment in UTC on every database: SQLite has no time zones, so they are added and taken away here."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC; a naive time is a programming error."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs a time zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None] | None:
        """Return aware times, which SQLite's driver hands over as text."""
        del coltype
        return _from_text if dialect.name == "sqlite" else _in_utc


def _from_text(value: str | None) -> datetime | None:
    return datetime.fromisoformat(f"{value}+00:00") if value is not None else None


def _in_utc(value: datetime | None) -> datetime | None:
    return value.astimezone(UTC) if value is not None else None


UNFINISHED = text("status <> 'completed' AND deleted_at IS NULL")
"""The condition of an index; a question that is to use it has to have it word for word."""

objects = Table(
    "objects",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("workspace_id", String(255), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("backend", String(16), nullable=False),
    Column("key", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("tier", String(32), nullable=False, server_default="STANDARD"),
    Column("processing_status", String(16), nullable=False, server_default="pending"),
    Column("processed_at", UTCDateTime),
    Column("processing_error", Text),
    # The version of the recipe that made the object's variants.
    Column("recipe", Integer),
    # What processing has learned of the content: JSON, by the names that ``info`` shows.
    Column("metadata", JSON(none_as_null=True)),
    Column("created_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
    Column("last_read_at", UTCDateTime),
    # Set while the bytes are being deleted: nobody may refer to the object any more, nor store under its key.
    Column("deleted_at", UTCDateTime),
    UniqueConstraint("workspace_id", "sha256"),
    UniqueConstraint("key", "backend"),
    Index("ix_objects_doomed", "deleted_at"),  # where it is not null
    Index("ix_objects_recipe", "recipe", "id"),
)

messages = Table(
    "messages",
    metadata,
    Column("message_id", String(255), primary_key=True),
    Column("workspace_id", String(255), nullable=False),
    Column("conversation_id", String(255)),
    Column("participants", JSON),
    Column("provider", String(32), nullable=False),
    Column("provider_media_id", String(255)),
    Column("phone_number_id", String(64)),
    Column("kind", String(16)),
    Column("filename", Text),
    Column("declared_type", String(255)),
    Column("declared_sha256", String(64)),
    Column("declared_size", BigInteger),
    Column("object_id", String(32), ForeignKey("objects.id")),
    # Of this message; another message may have declared the same bytes differently.
    Column("content_type", String(255)),
    Column("media_stored_url", Text),
    Column("media_stored_at", UTCDateTime),
    Column("media_storage_backend", String(16)),
    Column("status", String(16), nullable=False),
    Column("error", String(255)),
    Column("attempts", Integer, nullable=False, server_default="0"),
    # When the provider forgets the medium; the deadline of its ingest.
    Column("expires_at", UTCDateTime),
    Column("created_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
    Column("deleted_at", UTCDateTime),
    Index("ix_messages_object_page", "object_id", "message_id"),
    Index("ix_messages_page", "created_at", "message_id"),
    Index("ix_messages_workspace_page", "workspace_id", "created_at", "message_id"),
    Index("ix_messages_status_page", "status", "created_at", "message_id"),
    Index("ix_messages_unfinished", "status", "expires_at", "object_id", "updated_at"),  # where it is UNFINISHED
)

variants = Table(
    "variants",
    metadata,
    Column("object_id", String(32), ForeignKey("objects.id"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("content_type", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("backend", String(16), nullable=False),
    Column("key", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("recipe", Integer, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
)

changes = Table(
    "changes",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    # What was remembered by this id, of a message or of an object, is out of date. Triggers write it (revision 0003).
    Column("subject", String(255), nullable=False),
    # PostgreSQL's number of the transaction that wrote it: ids are given out earlier than rows become visible.
    Column("transaction_id", BigInteger),
    Column("changed_at", UTCDateTime, nullable=False, server_default=func.current_timestamp()),
    Index("ix_changes_transaction", "transaction_id"),
    sqlite_autoincrement=True,  # else an id would come again once the newest rows are deleted
)

tallies = Table(
    "tallies",
    metadata,
    # A sum for each state of live media, and beside it what has come and gone since: triggers write it (revision 0004),
    # as rows of its own, for which no transaction waits.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("error", String(255)),
    Column("is_stored", Boolean, nullable=False),
    Column("media", BigInteger, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("executor_id", String(64), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    # Seconds since the epoch by the database's readers' clocks; compared only against a timeout of many seconds.
    Column("heartbeat", Float, nullable=False),
)
