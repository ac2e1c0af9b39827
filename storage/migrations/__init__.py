"""The history of the schema, applied by ``media-gateway migrate``."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

_LOCK = 0x6D656469  # of everybody who migrates this schema


def upgrade(connection: Connection) -> None:
    """Bring the database behind ``connection`` to the newest schema; safe to call again."""
    if connection.dialect.name == "postgresql":  # on SQLite, the transaction itself excludes others
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
