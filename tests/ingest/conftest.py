"""Fixtures of whole workers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest.queue import Queue
from storage.database import Database
from storage.records import Records
from tests.conftest import Provider
from tests.ingest.site import Site
from tests.running import environment


@pytest.fixture
async def site(tmp_path: Path, database_url: str, engine: Database, provider: Provider) -> AsyncIterator[Site]:
    """A place to run workers at, on each kind of database."""
    folder = tmp_path / "media"
    folder.mkdir()
    env = environment(folder, MEDIA_DATABASE_URL=database_url, **provider.variables)
    async with Queue(database_url, records_url=database_url) as queue:
        yield Site(env=env, folder=folder, engine=engine, records=Records(engine), queue=queue, provider=provider)
