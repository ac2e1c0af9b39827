"""The history of the schema: whoever applies it, and however often, the tables are those of `storage.schema`."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from storage import migrations
from storage.database import Database, open_engine, writing
from storage.migrations import newest, upgrade
from storage.schema import metadata
from tests.databases import Databases
from tests.running import environment, process


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    provided: Databases = request.getfixturevalue(f"{request.param}_databases")
    return provided.empty(tmp_path)


def downgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    command.downgrade(config, "base")


def difference(connection: Connection) -> object:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return compare_metadata(context, metadata)


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def migrated(url: str) -> Database:
    engine = open_engine(url)
    await _run(engine, upgrade)
    return engine


async def _run(engine: Database, work: Callable[[Connection], None]) -> None:
    async with writing(engine) as connection:
        await connection.run_sync(work)


def test_the_newest_revision_is_the_one_that_the_history_ends_in() -> None:
    assert newest() == ScriptDirectory(str(Path(migrations.__file__).parent)).get_current_head()


async def test_the_history_ends_in_the_schema(empty_url: str) -> None:
    engine = await migrated(empty_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(difference) == []
    await engine.dispose()


async def test_upgrading_again_changes_nothing(empty_url: str) -> None:
    engine = await migrated(empty_url)
    await engine.dispose()
    again = await migrated(empty_url)
    async with again.connect() as connection:
        assert await connection.run_sync(difference) == []
    await again.dispose()


async def test_every_revision_can_be_taken_back(empty_url: str) -> None:
    engine = await migrated(empty_url)
    async with writing(engine) as connection:
        await connection.run_sync(downgrade)
        assert await connection.run_sync(tables) == {"alembic_version"}
        await connection.run_sync(upgrade)
        assert await connection.run_sync(difference) == []
    await engine.dispose()


async def test_an_upgrade_that_breaks_off_leaves_nothing(empty_url: str) -> None:
    def breaks_off(connection: Connection) -> None:
        upgrade(connection)
        raise KeyError

    engine = open_engine(empty_url)
    with pytest.raises(KeyError):
        await _run(engine, breaks_off)
    async with engine.connect() as connection:
        assert await connection.run_sync(tables) == set()
    await engine.dispose()


async def test_many_processes_may_upgrade_at_once(empty_url: str, tmp_path: Path) -> None:
    env = environment(tmp_path, MEDIA_DATABASE_URL=empty_url)
    with ExitStack() as stack:
        started = [stack.enter_context(process("migrate", env=env)) for _ in range(3)]
        assert [child.wait(60) for child in started] == [0, 0, 0]
    engine = open_engine(empty_url)
    async with engine.connect() as connection:
        assert set(metadata.tables) <= await connection.run_sync(tables)
    await engine.dispose()
