"""Sets the stage for a measurement: simulator, database and gateway as processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from gateway.signing import Signer
from tests.running import ACCESS_TOKEN, API_KEY, SIGNING_KEY, environment, eventually, free_port, process, started


@dataclass(frozen=True, slots=True)
class Medium:
    """A medium that the simulator has."""

    id: str
    message_id: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A running gateway and its provider."""

    url: str
    path: Path
    pid: int
    api: httpx.AsyncClient
    simulator: httpx.AsyncClient
    signer: Signer

    async def add(self, message_id: str, size: int, *, seed: int = 0, ingest: bool) -> Medium:
        """Give the simulator a medium of so many bytes and register it."""
        order = {"size": size, "mime_type": "application/octet-stream", "seed": seed}
        answer = await self.simulator.post("/_simulator/media", json=order)
        answer.raise_for_status()
        facts = answer.json()
        registration = {"provider_media_id": facts["id"], "ingest": ingest}
        (await self.api.put(f"/media/messages/{message_id}", json=registration)).raise_for_status()
        return Medium(facts["id"], message_id, facts["sha256"], size)

    async def media_object(self) -> dict[str, Any]:
        """Return what a webhook says of a small medium that the simulator has."""
        order = {"size": 20_000, "mime_type": "image/jpeg"}
        answer = await self.simulator.post("/_simulator/media", json=order)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()["media_object"]
        return found

    async def stored(self, message_ids: list[str]) -> None:
        """Wait until every message is stored."""
        for message_id in message_ids:
            await eventually(lambda message_id=message_id: self._completed(message_id), 300)  # type: ignore[misc]

    async def _completed(self, message_id: str) -> bool:
        answer = await self.api.get(f"/media/messages/{message_id}/info")
        return bool(answer.json()["status"] == "completed")

    async def downloads(self) -> list[dict[str, Any]]:
        """Return the downloads that the simulator has seen."""
        requests = (await self.simulator.get("/_simulator/requests")).json()
        found: list[dict[str, Any]] = [each for each in requests["requests"] if each["host_name"] != "graph"]
        return found

    def rss(self) -> int:
        """Return the resident bytes of the HTTP process."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


@asynccontextmanager
async def stage(path: Path, *serve: str, **variables: str) -> AsyncIterator[Stage]:
    """Start the simulator and ``media-gateway serve`` with those arguments and variables."""
    path.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 nothing else runs yet
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        hosts = stack.enter_context(_simulator())
        variables = {
            "MEDIA_PUBLIC_URL": url,
            "WHATSAPP_GRAPH_URL": hosts["graph_url"],
            "WHATSAPP_DOWNLOAD_HOSTS": hosts["lookaside_url"],
            **variables,
        }
        child = stack.enter_context(process("serve", "--port", str(port), *serve, env=environment(path, **variables)))
        await started(url)
        headers = {"X-API-Key": API_KEY}
        api = await stack.enter_async_context(httpx.AsyncClient(base_url=url, headers=headers, timeout=60))
        control = await stack.enter_async_context(httpx.AsyncClient(base_url=hosts["graph_url"], timeout=60))
        yield Stage(url, path, child.pid, api, control, Signer({"k1": SIGNING_KEY.encode()}, public_url=url))


@contextmanager
def _simulator() -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "ingest.simulator", "--access-token", ACCESS_TOKEN]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ))  # noqa: S603 our own program
    try:
        assert child.stdout is not None
        yield json.loads(child.stdout.readline())
    finally:
        child.terminate()
        child.wait(20)
