"""A real nginx before the gateway, with the configuration that is shipped."""

import asyncio
import grp
import json
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from tests.gateway.scene import OpenScene, Scene
from tests.running import NO_TLS, PATIENCE, eventually, free_port

SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx"
TEMPLATE = SHIPPED / "templates" / "media-gateway.conf.template"
ACCEL = {"MEDIA_DELIVERY": "accel", "MEDIA_TRUSTED_PROXIES": "127.0.0.1", "MEDIA_CACHE_BYTES": "0"}
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
Reads = Literal["whole", "cached", "sliced"]

_VARIABLE = re.compile(r"\$\{([A-Z_]+)\}")
# Where nginx of a distribution would write to folders of the system.
_TEMPORARY = "".join(
    f"{kind}_temp_path temp/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running nginx."""

    url: str
    folder: Path
    gateway: str
    """Host and port of what is behind it."""

    @property
    def access_log(self) -> str:
        """What it has said of each request."""
        return (self.folder / "access.log").read_text()

    @property
    def output(self) -> str:
        """All else that it has said."""
        return (self.folder / "output.log").read_text()

    async def line(self, answer: httpx.Response) -> dict[str, Any]:
        """Return the line of the log about an answer, which comes after it."""

        async def found() -> dict[str, Any] | None:
            lines = (json.loads(line) for line in self.access_log.splitlines())
            return next((line for line in lines if line["request_id"] == answer.headers["x-request-id"]), None)

        return await eventually(found)

    async def sender(self, answer: httpx.Response) -> str:
        """Return who the bytes of an answer came from: ``nginx`` itself, ``gateway`` or ``store``."""
        line = await self.line(answer)
        sizes, hosts = (re.split(r" : |, ", line[name]) for name in ("upstream_bytes", "upstream"))
        sent = [host for host, size in zip(hosts, sizes, strict=True) if size != "0"]
        return "nginx" if not sent else "gateway" if sent[-1] == self.gateway else "store"


def program() -> str:
    """Return where nginx is; raises where there is none, so that no test is left out."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which("nginx", path=path)
    if found is None:
        raise RuntimeError("The tests of nginx need it: apt-get install nginx-light")
    return found


def filled_in(template: str, variables: dict[str, str]) -> str:
    """Return the configuration as the image of nginx makes it from the template."""
    return _VARIABLE.sub(lambda found: variables[found[1]], template)


def configure(folder: Path, *, processes: str = "auto", **variables: str) -> list[str]:
    """Lay out a folder as /etc/nginx, and return the command that runs nginx there."""
    shutil.copytree(SHIPPED / "media-gateway", folder / "media-gateway")
    for name in ("conf.d", "temp"):
        (folder / name).mkdir(parents=True)
    main = (SHIPPED / "nginx.conf").read_text().replace("worker_processes auto;", f"worker_processes {processes};")
    (folder / "nginx.conf").write_text(main)
    (folder / "conf.d" / "media-gateway.conf").write_text(filled_in(TEMPLATE.read_text(), variables))
    (folder / "conf.d" / "temporary.conf").write_text(_TEMPORARY)
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    directives = f"daemon off; pid {folder}/nginx.pid; user {user} {group};"
    return [program(), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf"), "-g", directives]


@asynccontextmanager
async def nginx(
    folder: Path, *, gateway: str, files: Path, store: str | None, reads: Reads, authority: Path = AUTHORITIES
) -> AsyncIterator[Nginx]:
    """Run nginx before a gateway, its folder of media, and perhaps a bucket that an authority certifies."""
    port, bucket = free_port(), urlsplit(store or "http://127.0.0.1:9")
    command = configure(
        folder,
        GATEWAY_ADDRESS=urlsplit(gateway).netloc,
        LISTEN=f"127.0.0.1:{port}",
        FILES_FOLDER=str(files),
        STORE_ADDRESS=bucket.netloc,
        STORE_SCHEME=bucket.scheme,
        STORE_CA=str(authority),
        STORE_READS=reads,
        CACHE_FOLDER=str(folder / "cache"),
        ACCESS_LOG=str(folder / "access.log"),
    )
    with _running(command, folder) as child:
        running = Nginx(f"http://127.0.0.1:{port}", folder, urlsplit(gateway).netloc)
        await eventually(lambda: _answers(running, child))
        yield running


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "output.log").open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603 our own command
    try:
        yield child
    finally:
        child.terminate()
        child.wait(20)


async def _answers(running: Nginx, child: subprocess.Popen[bytes]) -> bool:
    if child.poll() is not None:
        raise RuntimeError(f"nginx has ended: {running.output}")
    address = urlsplit(running.url)
    try:
        _, writer = await asyncio.open_connection(address.hostname, address.port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def accelerated(
    open_scene: OpenScene,
    folder: Path,
    s3: dict[str, str] | None = None,
    *,
    reads: Reads = "whole",
    store: str | None = None,
    authority: Path = AUTHORITIES,
    **variables: str,
) -> AsyncIterator[tuple[Scene, Nginx]]:
    """Open a scene whose clients all ask nginx.

    Args:
        open_scene: Opens one whose clients ask the gateway.
        folder: Where nginx has its files.
        s3: The environment for a bucket, in place of local files.
        reads: How nginx reads the bucket.
        store: Where nginx believes the bucket's store to be, if not where it is.
        authority: Who has to certify it.
        variables: More of the gateway's environment.
    """
    async with open_scene(**ACCEL | (s3 or {}) | variables) as scene:
        inside, store = scene.gateway, store or (s3 or {}).get("AWS_ENDPOINT_URL_S3")
        async with (
            nginx(
                folder, gateway=inside.url, files=inside.path, store=store, reads=reads, authority=authority
            ) as running,
            _client(running.url, inside.client.headers) as client,
            _client(running.url) as nobody,
        ):
            yield replace(scene, gateway=replace(inside, url=running.url, client=client), nobody=nobody), running


def _client(url: str, headers: httpx.Headers | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE, verify=NO_TLS)
