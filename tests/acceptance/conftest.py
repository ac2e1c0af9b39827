"""A whole gateway in processes of its own, as an operator starts it, and the provider's simulator beside it."""

import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from ingest.simulator import Medium, WebhookSender
from tests.conftest import Provider
from tests.running import API_KEY, APP_SECRET, environment, eventually, free_port, process, started


@dataclass(frozen=True, slots=True)
class Served:
    """A running ``media-gateway serve``."""

    url: str
    process: subprocess.Popen[bytes]
    client: httpx.AsyncClient
    """With the host application's key; opens a connection for every request at once."""
    env: dict[str, str]
    provider: Provider

    async def webhook(self, *media: Medium) -> list[str]:
        """Announce media as the provider does; return their messages' ids."""
        simulator = self.provider.simulator
        messages = [simulator.webhooks.media(medium) for medium in media]
        sender = WebhookSender(f"{self.url}/webhooks/whatsapp", APP_SECRET, self.client)
        answer = await sender.send(simulator.webhooks.payload(*messages))
        assert answer.status_code == httpx.codes.OK
        return [message["id"] for message in messages]

    async def completed(self, message_id: str) -> dict[str, Any]:
        """Wait until a message is stored, and return its ``info``."""

        async def info() -> dict[str, Any] | None:
            found: dict[str, Any] = (await self.client.get(f"{path(message_id)}/info")).json()
            return found if found["status"] == "completed" else None

        return await eventually(info)

    def logged(self) -> list[dict[str, Any]]:
        """Return what all its processes wrote to standard error: JSON lines, and nothing else."""
        log = Path(self.env["MEDIA_STORAGE_PATH"]) / "stderr.log"
        return [json.loads(line) for line in log.read_text().splitlines()]


StartServer = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(tmp_path: Path, provider: Provider) -> StartServer:
    """Start ``media-gateway serve``; positional arguments are its own, keyword arguments environment variables."""
    folder = tmp_path / "media"
    folder.mkdir()

    @asynccontextmanager
    async def start(*arguments: str, **variables: str) -> AsyncIterator[Served]:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        env = environment(folder, MEDIA_PUBLIC_URL=url, **provider.variables | variables)
        with (
            (folder / "stderr.log").open("ab") as log,
            process("serve", "--port", str(port), *arguments, env=env, stderr=log) as child,
        ):
            await started(url)
            async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": API_KEY}, timeout=30) as client:
                yield Served(url, child, client, env, provider)

    return start


@pytest.fixture
def bucket(moto_url: str) -> dict[str, str]:
    """The environment of a gateway with a new bucket."""
    name = f"bucket-{uuid4().hex}"
    httpx.put(f"{moto_url}/{name}").raise_for_status()
    return {
        "MEDIA_STORAGE_BACKEND": "s3",
        "AWS_S3_BUCKET": name,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
        "AWS_ENDPOINT_URL_S3": moto_url,
    }


def path(message_id: str) -> str:
    """Return where a message's medium is served: the provider's ids hold slashes."""
    return f"/media/messages/{quote(message_id, safe='')}"


def children(pid: int) -> dict[int, str]:
    """Return the command lines of the living processes that a process has started, by their ids."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _parent(entry) == pid:
            found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
    return found


def _parent(entry: Path) -> int | None:
    try:
        state, parent = re.sub(r"^.*\) ", "", (entry / "stat").read_text()).split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(parent) if state != "Z" else None


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has collected yet does not."""
    return _parent(Path("/proc") / str(pid)) is not None


def resident(pid: int) -> int:
    """Return the bytes that a process holds in memory."""
    return int((Path("/proc") / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
