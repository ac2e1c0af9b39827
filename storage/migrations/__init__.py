"""The history of the schema, applied by ``media-gateway migrate``."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

_FOLDER = Path(__file__).parent
_LOCK = 0x6D656469  # of everybody who migrates this schema


def newest() -> str:
    """Return the latest revision: files are named by it, one after the other."""
    return max(path.name.partition("_")[0] for path in (_FOLDER / "versions").glob("*.py"))


def upgrade(connection: Connection) -> None:
    """Bring the database behind ``connection`` to the newest schema; safe to call again."""
    if connection.dialect.name == "postgresql":  # on SQLite, the transaction itself excludes others
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    if _revision(connection) == newest():
        return
    # Not above: a tenth of a start's processor time, and most starts find nothing to be done.
    from alembic import command  # noqa: PLC0415 see above
    from alembic.config import Config  # noqa: PLC0415 see above

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    """Return the revision that a database is at, as Alembic has noted it."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found
