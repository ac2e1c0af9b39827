"""Runs the real thing in tests: settings from a made environment, an application on a real server, whole processes."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from gateway.protocol import LeanProtocol
from gateway.settings import Settings

API_KEY = "test-api-key"
SIGNING_KEY = "test-signing-key"
APP_SECRET = "test-app-secret"
VERIFY_TOKEN = "test-verify-token"
ACCESS_TOKEN = "test-access-token"
DEFAULTS = {
    "MEDIA_API_KEYS": API_KEY,
    "MEDIA_SIGNING_KEYS": f"k1:{SIGNING_KEY}",
    "MEDIA_LOG_LEVEL": "error",
    "MEDIA_INGEST_RETRY_DELAYS": "0.2,0.2,0.2",
    "MEDIA_INGEST_POLL_INTERVAL": "0.05",
    "MEDIA_GRACEFUL_TIMEOUT": "5",
    "WHATSAPP_ACCESS_TOKEN": ACCESS_TOKEN,
    "WHATSAPP_APP_SECRET": APP_SECRET,
    "WHATSAPP_VERIFY_TOKEN": VERIFY_TOKEN,
}
# Trusts nobody: tests speak in plain text, and reading the public authorities takes a tenth of a second each time.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
T = TypeVar("T")
PATIENCE = 100.0  # seconds to wait for a state that comes for certain


def environment(path: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a gateway that keeps everything below ``path``."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return inherited | DEFAULTS | {"MEDIA_STORAGE_PATH": str(path)} | variables


def settings_for(path: Path, **variables: str) -> Settings:
    """Return the settings that a process with `environment` would read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", environment(path, **variables))
        return Settings.load()


@asynccontextmanager
async def serving(app: ASGIApp, **config: object) -> AsyncIterator[str]:
    """Serve an application by a real server on a free port of loopback, and yield its base URL."""
    # By its protocol asyncio knows to send at once (TCP_NODELAY): else each answer in two parts waits for 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        options: dict[str, object] = {"log_config": None, "access_log": False, "timeout_graceful_shutdown": 2}
        options |= {"proxy_headers": False, "http": LeanProtocol} | config  # as in production
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", **options))  # type: ignore[arg-type] # passed through
        task = asyncio.create_task(server.serve(sockets=[listening]))
        await until(lambda: server.started or task.done())
        if task.done():
            task.result()
            raise RuntimeError("the server did not start")
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for a state of our own process."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def eventually(question: Callable[[], Awaitable[T | None]], seconds: float = PATIENCE) -> T:
    """Ask until the answer is true, and return it; for states of other processes."""
    async with asyncio.timeout(seconds):
        while not (answer := await question()):
            await asyncio.sleep(0.05)
    return answer


@dataclass
class Turns:
    """How often others had their turn."""

    taken: int = 0


@asynccontextmanager
async def turns_of_others() -> AsyncIterator[Turns]:
    """Count the turns of the event loop that somebody else has meanwhile."""
    turns = Turns()

    async def take() -> None:
        while True:
            await asyncio.sleep(0)
            turns.taken += 1

    taking = asyncio.create_task(take())
    try:
        yield turns
    finally:
        taking.cancel()


@contextmanager
def process(*arguments: str, env: dict[str, str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``media-gateway`` with those arguments as a process of its own; ``options`` are those of `Popen`."""
    command = [sys.executable, "-m", "gateway.cli", *arguments]
    child = subprocess.Popen(command, env=env, cwd=env["MEDIA_STORAGE_PATH"], **options)  # noqa: S603 our own program
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


async def command(*arguments: str, env: dict[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``media-gateway`` with those arguments to its end, and return what it said."""

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 our own program
            [sys.executable, "-m", "gateway.cli", *arguments],
            env=env,
            cwd=cwd or env["MEDIA_STORAGE_PATH"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return await asyncio.to_thread(run)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


async def started(base: str) -> None:
    """Wait until a server answers."""

    async def alive() -> bool:
        async with httpx.AsyncClient() as client:
            try:
                return (await client.get(f"{base}/healthz")).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

    await eventually(alive)
