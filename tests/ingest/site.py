"""Whole workers in tests: processes of their own over one database, one folder and the provider's simulator."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ingest.queue import INGEST, Queue
from ingest.simulator import Faults, Medium, Transport
from storage.database import Database
from storage.record import MediaRecord, NewMessage, Status
from storage.records import Records
from tests.conftest import Provider
from tests.ingest.node import jpeg
from tests.running import command, eventually, process

SLOW = Faults(transport=Transport.STALL, chunk_size=16_384)
"""Half of the body, then a wait at the medium's gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place where workers run, seen from outside."""

    env: dict[str, str]
    folder: Path
    engine: Database
    records: Records
    queue: Queue
    provider: Provider
    media: dict[str, Medium] = field(default_factory=dict)
    """What the provider has, by message id."""

    async def announce(
        self, message_id: str, faults: Faults | None = None, *, job: bool = True, age: timedelta = timedelta()
    ) -> Medium:
        """Let a message with a picture arrive: record and job are durable, as after its webhook."""
        medium = self.provider.simulator.add(jpeg(len(self.media)), "image/jpeg", faults=faults)
        self.media[message_id] = medium
        new = NewMessage(
            message_id=message_id,
            workspace_id="default",
            provider_media_id=medium.id,
            declared_type="image/jpeg",
            expires_at=medium.expires_at,
        )
        records = Records(self.engine, clock=lambda: datetime.now(UTC) - age)
        await records.register(new, and_then=await self.queue.within(INGEST) if job else None)
        return medium

    @contextmanager
    def worker(self, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker until the end of the block; what it logs is kept for `logged`."""
        with (
            (self.folder / "worker.log").open("ab") as log,
            process("worker", *arguments, env=self.env | variables, stderr=log) as child,
        ):
            yield child

    def logged(self) -> list[dict[str, Any]]:
        """Return what workers have written to standard error: JSON lines, and nothing else."""
        return [json.loads(line) for line in (self.folder / "worker.log").read_text().splitlines()]

    async def reaches(self, message_id: str, status: Status) -> MediaRecord:
        """Wait until a record has a status."""

        async def record() -> MediaRecord | None:
            found = await self.records.get(message_id)
            return found if found is not None and found.status is status else None

        return await eventually(record)

    async def fails(self, message_id: str, attempts: int) -> MediaRecord:
        """Wait until a record has failed so often."""

        async def record() -> MediaRecord | None:
            found = await self.records.get(message_id)
            return found if found is not None and found.attempts >= attempts else None

        return await eventually(record)

    async def jobs(self, *arguments: str) -> tuple[list[dict[str, Any]], int]:
        """Return what ``jobs list --json`` says, and its exit status."""
        listed = await command("jobs", "list", "--json", *arguments, env=self.env)
        return json.loads(listed.stdout), listed.returncode

    def objects(self) -> dict[str, bytes]:
        """Return all files of the store, by key."""
        root = self.folder / "media"
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def whole(self, *message_ids: str) -> dict[str, bytes]:
        """Return what the store has when it holds those messages' media, and nothing else."""
        media = {
            f"media/{message_id}/{self.media[message_id].id}": self.media[message_id] for message_id in message_ids
        }
        return {key: medium.content.read(0, medium.size) for key, medium in media.items()}


def kill(worker: subprocess.Popen[bytes]) -> None:
    """End a worker as the kernel would when memory runs out."""
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
