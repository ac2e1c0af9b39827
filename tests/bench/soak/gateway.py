"""The gateway under load: its processes, its store, and the ways to ask it."""

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import aiohttp
import jwt
from yarl import URL

from gateway.signing import Signer
from tests.bench.soak.provider import Provider
from tests.bench.soak.truth import Answer
from tests.bench.speed.targets import PLENTY
from tests.running import API_KEY, SIGNING_KEY, environment, eventually, free_port, process

JWT_SECRET = "soak-jwt-secret-of-at-least-32-bytes"
ORIGIN_SECRET = "soak-origin-secret"
BUCKET = "soak"
PATIENCE = 100.0  # seconds for one request: longer than the provider may take
START = 180.0  # seconds for all processes to start, on a machine that has other work to do
HOST_KEY = {"X-API-Key": API_KEY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run."""

    minutes: float = 60.0
    rate: float = 6.0
    """Actions a second; each is one request or several."""
    workers: int = 2
    """Processes that serve HTTP: what one changes, the other one has to see in time."""
    store: str = "s3"
    """``s3``, by a server of its own, or ``local``."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway with its worker."""

    url: str
    pid: int
    folder: Path
    log: Path
    store_port: int | None
    session: aiohttp.ClientSession
    signer: Signer = field(default_factory=lambda: Signer({"k1": SIGNING_KEY.encode()}, public_url=""))

    async def ask(self, method: str, target: str, headers: Mapping[str, str] | None = None, **sent: Any) -> Answer:
        """Send a request and read the answer to its end, or to where it breaks."""
        began = ended = monotonic()
        status, found, body = 0, {}, b""
        try:
            url = URL(self.url + target, encoded=True)
            async with self.session.request(method, url, headers=headers, allow_redirects=False, **sent) as answer:
                ended, status = monotonic(), answer.status
                found = {name.lower(): value for name, value in answer.headers.items()}
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            found["error"] = f"{type(error).__name__}: {error}"
            return Answer(began=began, ended=ended, status=status, headers=found, body=body, complete=False)
        return Answer(began=began, ended=ended, status=status, headers=found, body=body)

    def signed(self, message_id: str, variant: str = "original", *, expires_in: int = 3600) -> str:
        """Return the target of a signed URL."""
        return self.signer.mint(message_id, variant, expires_in=expires_in).url

    @staticmethod
    def plain(message_id: str, more: str = "") -> str:
        """Return the target of a message's medium, or of what is below it."""
        return f"/media/messages/{quote(message_id, safe='')}{more}"


def token(workspace_id: str = "default") -> str:
    """Return a user's token."""
    claims = {"sub": "viewer", "workspace_ids": [workspace_id], "exp": int(time.time()) + 300}
    return jwt.encode(claims, JWT_SECRET, "HS256")


@asynccontextmanager
async def open_gateway(folder: Path, plan: Plan, provider: Provider) -> AsyncIterator[Gateway]:
    """Start the store and ``media-gateway serve`` with its worker."""
    path, port = folder / "gateway", free_port()
    path.mkdir()
    url, log = f"http://127.0.0.1:{port}", folder / "gateway.log"
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(_moto()) if plan.store == "s3" else None
        env = environment(path, **_variables(provider, endpoint))
        output = stack.enter_context(log.open("wb"))
        arguments = ("serve", "--worker", "--workers", str(plan.workers), "--port", str(port))
        child = stack.enter_context(process(*arguments, env=env, stdout=output, stderr=output))
        await eventually(lambda: _answers(f"{url}/healthz", "GET"), START)
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        client = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        store_port = int(endpoint.rpartition(":")[2]) if endpoint else None
        yield Gateway(url, child.pid, path, log, store_port, await stack.enter_async_context(client))


def _variables(provider: Provider, endpoint: str | None) -> dict[str, str]:
    store = {
        "MEDIA_STORAGE_BACKEND": "s3",
        "AWS_S3_BUCKET": BUCKET,
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "soak",
        "AWS_SECRET_ACCESS_KEY": "soak",
    }
    return {
        "WHATSAPP_GRAPH_URL": provider.endpoints.graph_url,
        "WHATSAPP_DOWNLOAD_HOSTS": provider.endpoints.lookaside_url,
        "MEDIA_JWT_SECRET": JWT_SECRET,
        "MEDIA_ORIGIN_SECRET": ORIGIN_SECRET,
        "MEDIA_LIMIT_REQUESTS": PLENTY,
        "MEDIA_LIMIT_BYTES": PLENTY,
        "MEDIA_LOG_LEVEL": "warning",
        "MEDIA_INGEST_POLL_INTERVAL": "0.5",
        "MEDIA_PROCESSING_CHILDREN": "1",
        **({name: value for name, value in store.items() if value is not None} if endpoint else {}),
    }


@asynccontextmanager
async def _moto() -> AsyncIterator[str]:
    """Run a server that speaks S3, in a process of its own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with _running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]):
        await eventually(lambda: _answers(f"{url}/{BUCKET}", "PUT"), START)
        yield url


async def _answers(url: str, method: str) -> bool:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.request(method, url) as answer:
                return answer.ok
        except aiohttp.ClientError:
            return False


@contextmanager
def _running(command: Sequence[str]) -> Any:
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 our own command
    try:
        yield
    finally:
        child.kill()
        child.wait()
