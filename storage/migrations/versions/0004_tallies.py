"""Tallies of media, which triggers keep, and indexes of the media that are not finished or share an object.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COUNT = """
    INSERT INTO tallies (status, error, is_stored, media)
    SELECT status, error, object_id IS NOT NULL, count(*) FROM messages WHERE deleted_at IS NULL GROUP BY 1, 2, 3
"""
_EVENTS = ("INSERT", "UPDATE", "DELETE")


def upgrade() -> None:
    op.create_table(
        "tallies",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False, autoincrement=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("error", sa.String(255)),
        sa.Column("is_stored", sa.Boolean, nullable=False),
        sa.Column("media", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tallies"),
    )
    op.drop_index("ix_messages_status_expiry", "messages")
    op.drop_index("ix_messages_object", "messages")
    op.create_index("ix_messages_object_page", "messages", ["object_id", "message_id"])
    live = sa.text("status <> 'completed' AND deleted_at IS NULL")
    columns = ["status", "expires_at", "object_id", "updated_at"]
    op.create_index("ix_messages_unfinished", "messages", columns, sqlite_where=live, postgresql_where=live)
    sqlite = op.get_bind().dialect.name == "sqlite"
    if not sqlite:  # nobody may write between the count and the triggers
        op.execute("LOCK TABLE messages IN SHARE ROW EXCLUSIVE MODE")
    op.execute(_COUNT)
    for statement in _sqlite() if sqlite else _postgresql():
        op.execute(statement)


def downgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    for event in _EVENTS:
        op.execute(f"DROP TRIGGER messages_{event.lower()}_tallied{' ON messages' if postgresql else ''}")
        if postgresql:
            op.execute(f"DROP FUNCTION tally_{event.lower()}()")
    op.drop_index("ix_messages_unfinished", "messages")
    op.drop_index("ix_messages_object_page", "messages")
    op.create_index("ix_messages_object", "messages", ["object_id"])
    op.create_index("ix_messages_status_expiry", "messages", ["status", "expires_at"])
    op.drop_table("tallies")


def _sqlite() -> list[str]:
    before = "SELECT OLD.status, OLD.error, OLD.object_id IS NOT NULL, -1 WHERE OLD.deleted_at IS NULL"
    after = "SELECT NEW.status, NEW.error, NEW.object_id IS NOT NULL, 1 WHERE NEW.deleted_at IS NULL"
    changed = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in ("status", "error", "object_id", "deleted_at"))
    return [
        _sqlite_trigger("INSERT", "", after),
        _sqlite_trigger("UPDATE", f"WHEN {changed}", f"{before} UNION ALL {after}"),
        _sqlite_trigger("DELETE", "", before),
    ]


def _sqlite_trigger(event: str, condition: str, rows: str) -> str:
    return (
        f"CREATE TRIGGER messages_{event.lower()}_tallied AFTER {event} ON messages {condition} "
        f"BEGIN INSERT INTO tallies (status, error, is_stored, media) {rows}; END"
    )


def _postgresql() -> list[str]:
    # For each statement, not each row: a batch of a hundred messages writes one row.
    columns = "SELECT status, error, object_id IS NOT NULL AS is_stored"
    before = f"{columns}, -1 AS media FROM before WHERE deleted_at IS NULL"
    after = f"{columns}, 1 AS media FROM after WHERE deleted_at IS NULL"
    tables = {"INSERT": "NEW TABLE AS after", "DELETE": "OLD TABLE AS before"}
    rows = {"INSERT": after, "DELETE": before, "UPDATE": f"{before} UNION ALL {after}"}
    return [
        statement
        for event in _EVENTS
        for statement in _postgresql_trigger(event, tables.get(event, " ".join(tables.values())), rows[event])
    ]


def _postgresql_trigger(event: str, tables: str, rows: str) -> tuple[str, str]:
    function = (
        f"CREATE FUNCTION tally_{event.lower()}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "  # noqa: S608 ours
        f"INSERT INTO tallies (status, error, is_stored, media) "
        f"SELECT status, error, is_stored, sum(media) FROM ({rows}) AS changed "
        f"GROUP BY status, error, is_stored HAVING sum(media) <> 0; RETURN NULL; END $$"
    )
    trigger = (
        f"CREATE TRIGGER messages_{event.lower()}_tallied AFTER {event} ON messages REFERENCING {tables} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION tally_{event.lower()}()"
    )
    return function, trigger
