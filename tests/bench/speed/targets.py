"""What is measured: each target is a way to serve the same media, and one entry of a table."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway.signing import Signer
from tests.bench.speed import naive, nginx
from tests.bench.speed.catalogue import BUCKET, Medium
from tests.bench.speed.processes import Server, answering, server
from tests.gateway.nginx import configure
from tests.running import SIGNING_KEY, environment, free_port, process

SIGNER = Signer({"k1": SIGNING_KEY.encode()}, public_url="")
LIFE = 24 * 3600  # seconds of a signed URL
PLENTY = "1000000000000/1000000000000"  # as in production there are limits; they are not what is measured


@dataclass(frozen=True, slots=True)
class Site:
    """Where the servers of a measurement work."""

    folder: Path
    """Of the gateway: its database is there, and the log of every process."""
    origin: Server
    """What holds the objects."""


Opener = Callable[[str, Site], AbstractAsyncContextManager[Server]]
"""Starts a target of that name."""


@dataclass(frozen=True, slots=True)
class Target:
    """A way to serve media."""

    start: Opener
    path: Callable[[Medium], str]
    """Of a medium there."""
    is_ours: bool = False
    """Whether its answers are as the contract wants them, and not only the right bytes."""


def key_path(medium: Medium) -> str:
    """Return the path of the object in the bucket."""
    return f"/{BUCKET}/{medium.key}"


def signed_path(medium: Medium) -> str:
    """Return the path of the message, with a real credential."""
    return SIGNER.mint(medium.message_id, expires_in=LIFE).url


def gateway(**variables: str) -> Opener:
    """Return what starts ``media-gateway serve`` as in production, in one process and with those variables."""

    @asynccontextmanager
    async def start(name: str, site: Site) -> AsyncIterator[Server]:
        port = free_port()
        env = environment(site.folder, **production(site.origin), **variables)
        with (
            (site.folder / f"{name}.log").open("wb") as log,
            process("serve", "--no-worker", "--port", str(port), env=env, stdout=log, stderr=log) as child,
        ):
            await answering(f"http://127.0.0.1:{port}/healthz", child)
            yield Server(f"http://127.0.0.1:{port}", child.pid)

    return start


def production(origin: Server) -> dict[str, str]:
    """Return the variables of a gateway whose bucket is that origin, as in production."""
    return {
        "MEDIA_STORAGE_BACKEND": "s3",
        "AWS_S3_BUCKET": BUCKET,
        "AWS_ENDPOINT_URL_S3": origin.url,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "MEDIA_LIMIT_REQUESTS": PLENTY,
        "MEDIA_LIMIT_BYTES": PLENTY,
        "MEDIA_LOG_LEVEL": "info",
    }


@asynccontextmanager
async def accelerated(name: str, site: Site) -> AsyncIterator[Server]:
    """Start the gateway behind an nginx of one process, with the configuration that is shipped."""
    port, start = free_port(), gateway(MEDIA_DELIVERY="accel", MEDIA_TRUSTED_PROXIES="127.0.0.1")
    async with start(f"{name}-gateway", site) as behind:
        command = configure(
            site.folder / name,
            processes="1",
            GATEWAY_ADDRESS=urlsplit(behind.url).netloc,
            LISTEN=f"127.0.0.1:{port}",
            FILES_FOLDER=str(site.folder),
            STORE_ADDRESS=urlsplit(site.origin.url).netloc,
            STORE_SCHEME="http",
            STORE_CA="/etc/ssl/certs/ca-certificates.crt",
            STORE_READS="whole",
            CACHE_FOLDER=str(site.folder / name / "cache"),
            ACCESS_LOG=str(site.folder / name / "access.log"),
        )
        async with server(command, f"http://127.0.0.1:{port}", site.folder / f"{name}.log") as front:
            yield Server(front.url, front.pid, (behind.pid,))


def proxy_pass(directives: str = "") -> Opener:
    """Return what starts an nginx in front of the origin, with those directives besides."""

    @asynccontextmanager
    async def start(name: str, site: Site) -> AsyncIterator[Server]:
        async with nginx.proxy(site.folder / name, urlsplit(site.origin.url).netloc, directives) as running:
            yield running

    return start


@asynccontextmanager
async def naive_proxy(name: str, site: Site) -> AsyncIterator[Server]:
    """Start the baseline in front of the origin."""
    port = free_port()
    command = [sys.executable, naive.__file__, str(port), site.origin.url]
    async with server(command, f"http://127.0.0.1:{port}", site.folder / f"{name}.log") as running:
        yield running


TARGETS = {
    "nginx": Target(proxy_pass(), key_path),
    "tuned": Target(proxy_pass(nginx.TUNED), key_path),
    "naive": Target(naive_proxy, key_path),
    "cached": Target(gateway(), signed_path, is_ours=True),
    "stored": Target(gateway(MEDIA_CACHE_BYTES="0"), signed_path, is_ours=True),
    "accel": Target(accelerated, signed_path, is_ours=True),
    "redirect": Target(gateway(MEDIA_DELIVERY="redirect"), signed_path, is_ours=True),
}
"""``tuned`` is nginx with buffers for large bodies.

``cached`` and ``stored`` are the gateway that sends all bytes itself, with its memory cache and without; of ``accel``,
nginx sends them."""
