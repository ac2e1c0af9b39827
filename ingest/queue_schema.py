"""Brings the tables of the queue, which are those of DBOS, to the newest schema."""

from importlib.metadata import version
from typing import Final

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from storage.database import sync_url

RELEASE: Final = "3.4.0"
"""The release of DBOS of which we know the schema without asking it."""
REVISION: Final = 125
"""What that release notes in its table of migrations once there is nothing left to be done, on either database."""


def migrate(url: str) -> None:
    """Create or upgrade the queue's tables; blocking."""
    url = sync_url(url)
    if version("dbos") == RELEASE and _revision(url) >= REVISION:
        return
    # Not above: with all that it imports a tenth of a start's processor time, and most starts find nothing to be done.
    from dbos import DBOS  # noqa: PLC0415 see above

    DBOS.migrate(url)


def _revision(url: str) -> int:
    """Return what DBOS has noted; 0 also where the database has no such table, or does not answer: DBOS says why."""
    engine = create_engine(url)
    table = "dbos_migrations" if engine.dialect.name == "sqlite" else "dbos.dbos_migrations"
    try:
        with engine.connect() as connection:
            return connection.execute(text(f"SELECT max(version) FROM {table}")).scalar() or 0  # noqa: S608 ours
    except SQLAlchemyError:
        return 0
    finally:
        engine.dispose()
