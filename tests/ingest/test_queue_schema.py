"""The queue's tables on both databases: DBOS is asked for what is to be done only where that is not known already."""

import subprocess
import sys
from importlib.metadata import version

from sqlalchemy import create_engine, text

from ingest.queue_schema import RELEASE, REVISION, migrate
from storage.database import sync_url


def test_we_know_the_release_that_is_installed() -> None:
    assert version("dbos") == RELEASE, "look up what it notes, see test_what_it_notes_is_what_we_take_it_for"


def test_what_it_notes_is_what_we_take_it_for(database_url: str) -> None:
    migrate(database_url)
    engine = create_engine(sync_url(database_url))
    table = "dbos_migrations" if engine.dialect.name == "sqlite" else "dbos.dbos_migrations"
    with engine.connect() as connection:
        assert connection.execute(text(f"SELECT version FROM {table}")).scalar_one() == REVISION  # noqa: S608 ours
    engine.dispose()


def test_where_nothing_is_to_be_done_dbos_is_not_even_loaded(database_url: str) -> None:
    migrate(database_url)
    program = "import sys; from ingest.queue_schema import migrate; migrate(sys.argv[1]); print('dbos' in sys.modules)"
    command = [sys.executable, "-c", program, database_url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 ours
    assert done.stdout.strip() == "False"
