"""A feed of changes, which triggers write: what a process remembers may be out of date.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

from storage.schema import UTCDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_WATCHED = (
    ("messages", "message_id", ("UPDATE", "DELETE")),
    ("objects", "id", ("UPDATE", "DELETE")),
    ("variants", "object_id", ("INSERT", "UPDATE", "DELETE")),
)
"""What is remembered by which column, and what may happen to it. A new message was known to nobody."""


def upgrade() -> None:
    op.create_table(
        "changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False, autoincrement=True),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("transaction_id", sa.BigInteger),
        sa.Column("changed_at", UTCDateTime, nullable=False, server_default=sa.func.current_timestamp()),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_changes_transaction", "changes", ["transaction_id"])
    sqlite = op.get_bind().dialect.name == "sqlite"
    for table, column, events in _WATCHED:
        for statement in (_sqlite if sqlite else _postgresql)(table, column, events):
            op.execute(statement)


def downgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table, _, events in _WATCHED:
        for event in events:
            place = f" ON {table}" if postgresql else ""
            op.execute(f"DROP TRIGGER {table}_{event.lower()}_noted{place}")
        if postgresql:
            op.execute(f"DROP FUNCTION note_{table}()")
    op.drop_table("changes")


def _sqlite(table: str, column: str, events: tuple[str, ...]) -> list[str]:
    return [
        f"CREATE TRIGGER {table}_{event.lower()}_noted AFTER {event} ON {table} "  # noqa: S608 names of ours
        f"BEGIN INSERT INTO changes (subject) VALUES ({'OLD' if event == 'DELETE' else 'NEW'}.{column}); END"
        for event in events
    ]


def _postgresql(table: str, column: str, events: tuple[str, ...]) -> list[str]:
    # For each statement, not each row: one that changes a thousand messages writes their changes at once.
    function = (
        f"CREATE FUNCTION note_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "  # noqa: S608 names of ours
        f"INSERT INTO changes (subject, transaction_id) "
        f"SELECT {column}, CAST(CAST(pg_current_xact_id() AS text) AS bigint) FROM changed; RETURN NULL; END $$"
    )
    return [function] + [
        f"CREATE TRIGGER {table}_{event.lower()}_noted AFTER {event} ON {table} "
        f"REFERENCING {'OLD' if event == 'DELETE' else 'NEW'} TABLE AS changed "
        f"FOR EACH STATEMENT EXECUTE FUNCTION note_{table}()"
        for event in events
    ]
