"""Variants of objects, and the recipe that made them.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

from storage.schema import UTCDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "variants",
        sa.Column("object_id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("backend", sa.String(16), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("recipe", sa.Integer, nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.PrimaryKeyConstraint("object_id", "name", name="pk_variants"),
        sa.ForeignKeyConstraint(["object_id"], ["objects.id"], name="fk_variants_object_id_objects"),
    )
    op.add_column("objects", sa.Column("recipe", sa.Integer))
    op.create_index("ix_objects_recipe", "objects", ["recipe", "id"])


def downgrade() -> None:
    op.drop_index("ix_objects_recipe", "objects")
    op.drop_column("objects", "recipe")
    op.drop_table("variants")
