"""Messages, objects and workers.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

from storage.schema import UTCDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "objects",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("workspace_id", sa.String(255), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("backend", sa.String(16), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("tier", sa.String(32), nullable=False, server_default="STANDARD"),
        sa.Column("processing_status", sa.String(16), nullable=False, server_default="pending"),
        sa.Column("processed_at", UTCDateTime),
        sa.Column("processing_error", sa.Text),
        sa.Column("metadata", sa.JSON),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("updated_at", UTCDateTime, nullable=False),
        sa.Column("last_read_at", UTCDateTime),
        sa.Column("deleted_at", UTCDateTime),
        sa.PrimaryKeyConstraint("id", name="pk_objects"),
        sa.UniqueConstraint("workspace_id", "sha256", name="uq_objects_workspace_id_sha256"),
        sa.UniqueConstraint("key", "backend", name="uq_objects_key_backend"),
    )
    doomed = sa.text("deleted_at IS NOT NULL")
    op.create_index("ix_objects_doomed", "objects", ["deleted_at"], sqlite_where=doomed, postgresql_where=doomed)
    op.create_table(
        "messages",
        sa.Column("message_id", sa.String(255), nullable=False),
        sa.Column("workspace_id", sa.String(255), nullable=False),
        sa.Column("conversation_id", sa.String(255)),
        sa.Column("participants", sa.JSON),
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("provider_media_id", sa.String(255)),
        sa.Column("phone_number_id", sa.String(64)),
        sa.Column("kind", sa.String(16)),
        sa.Column("filename", sa.Text),
        sa.Column("declared_type", sa.String(255)),
        sa.Column("declared_sha256", sa.String(64)),
        sa.Column("declared_size", sa.BigInteger),
        sa.Column("object_id", sa.String(32)),
        sa.Column("content_type", sa.String(255)),
        sa.Column("media_stored_url", sa.Text),
        sa.Column("media_stored_at", UTCDateTime),
        sa.Column("media_storage_backend", sa.String(16)),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("error", sa.String(255)),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("expires_at", UTCDateTime),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("updated_at", UTCDateTime, nullable=False),
        sa.Column("deleted_at", UTCDateTime),
        sa.PrimaryKeyConstraint("message_id", name="pk_messages"),
        sa.ForeignKeyConstraint(["object_id"], ["objects.id"], name="fk_messages_object_id_objects"),
    )
    op.create_index("ix_messages_object", "messages", ["object_id"])
    op.create_index("ix_messages_page", "messages", ["created_at", "message_id"])
    op.create_index("ix_messages_workspace_page", "messages", ["workspace_id", "created_at", "message_id"])
    op.create_index("ix_messages_status_page", "messages", ["status", "created_at", "message_id"])
    op.create_index("ix_messages_status_expiry", "messages", ["status", "expires_at"])
    op.create_table(
        "workers",
        sa.Column("executor_id", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("heartbeat", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("executor_id", name="pk_workers"),
    )


def downgrade() -> None:
    op.drop_table("workers")
    op.drop_table("messages")
    op.drop_table("objects")
