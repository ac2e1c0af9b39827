"""``python -m tests.bench memory``: what a process takes for what it holds, and for being there at all.

Bytes are those of its own pages and its share of shared ones (PSS); each figure is of a process of its own, which has
done a little of the same before.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, PIPE
from time import perf_counter
from typing import Any

import aiohttp

from gateway.serving import raise_file_limit
from tests.bench import proc
from tests.bench.client import read_slowly
from tests.bench.speed import nginx
from tests.bench.speed.catalogue import Catalogue, Medium, stock
from tests.bench.speed.processes import Server
from tests.bench.speed.scenarios import KB, MB
from tests.bench.speed.targets import TARGETS, Site, production, signed_path
from tests.running import environment, free_port, process, until

CONNECTIONS = 2000
STREAMS = 200
STREAMING = 12.0  # seconds
OBJECTS = 5000
WARM = 200  # of each, before anything is counted
STARTS = 5
AT_ONCE = 16  # requests
SETTLED = 3.0  # seconds after which a process that has started is idle
PATIENCE = 60.0  # seconds for a process to start
_SMALL, _LARGE = 8 * KB, 16 * MB


async def measure(folder: Path) -> dict[str, Any]:
    """Measure one after the other."""
    raise_file_limit()
    catalogue = await stock(folder, folder / "objects", {_SMALL: OBJECTS + WARM, _LARGE: 4})
    async with nginx.origin(folder / "origin", folder / "objects") as origin:
        site = Site(folder, origin)
        return {
            "part": "memory",
            "bytes_each": {
                "idle connection": await _per_connection(site),
                "stream": await _per_stream(site, catalogue),
                **await _per_object(site, catalogue),
            },
            **{
                f"{command[0]}, {store}": await _starting(site, variables, *command)
                for command in (("serve", "--no-worker"), ("worker",))
                for store, variables in (("bucket", production(origin)), ("files", {}))
            },
        }


@asynccontextmanager
async def _served(site: Site, name: str) -> AsyncIterator[Server]:
    """Run a gateway with its memory cache over the origin."""
    async with TARGETS["cached"].start(name, site) as server:
        yield server


async def _per_connection(site: Site) -> int:
    """Let clients ask once and stay."""
    async with _served(site, "connections") as server:
        await _with_connections(server, WARM)
        before = proc.memory(server.pid)
        return round((await _with_connections(server, CONNECTIONS) - before) / CONNECTIONS)


async def _with_connections(server: Server, count: int) -> int:
    """Return the bytes of a server while so many clients are connected that have nothing more to ask."""
    already = proc.descriptors(server.pid)["socket"]
    port = int(server.url.rpartition(":")[2])
    opened = [await _connected(port) for _ in range(count)]
    taken = proc.memory(server.pid)
    closed = sum(reader.at_eof() for reader, _ in opened)
    for _, writer in opened:
        writer.close()
    await until(lambda: proc.descriptors(server.pid)["socket"] <= already)
    if closed:
        raise RuntimeError(f"{closed} of {count} connections were closed before they could be counted")
    return taken


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
    await reader.readexactly(length)
    return reader, writer


async def _per_stream(site: Site, catalogue: Catalogue) -> int:
    """Let clients read large media slowly."""
    urls = [signed_path(medium) for medium in catalogue[_LARGE]]
    async with _served(site, "streams") as server:
        await _streaming(server, urls, STREAMS // 10, 2.0)
        before = proc.memory(server.pid)
        return round((await _streaming(server, urls, STREAMS, STREAMING) - before) / STREAMS)


async def _streaming(server: Server, urls: Sequence[str], count: int, seconds: float) -> int:
    """Return the most bytes that a server takes while so many clients read."""
    wanted = [server.url + urls[number % len(urls)] for number in range(count)]
    readers = asyncio.gather(*(read_slowly(url, chunk=4096, pause=0.25, seconds=seconds) for url in wanted))
    most = 0
    while not readers.done():
        most = max(most, proc.memory(server.pid))
        await asyncio.sleep(0.25)
    await readers
    return most


async def _per_object(site: Site, catalogue: Catalogue) -> dict[str, int]:
    """Let a client ask for many small media: for what is known of them, and then for all of them."""
    warm, media = catalogue[_SMALL][:WARM], catalogue[_SMALL][WARM:]
    async with _served(site, "objects") as server, aiohttp.ClientSession(server.url) as session:
        for method in ("HEAD", "GET"):
            await _asked(session, method, warm)
        before = proc.memory(server.pid)
        await _asked(session, "HEAD", media)
        known = proc.memory(server.pid)
        await _asked(session, "GET", media)
        kept = proc.memory(server.pid)
    return {"record": round((known - before) / OBJECTS), f"object of {_SMALL} bytes": round((kept - known) / OBJECTS)}


async def _asked(session: aiohttp.ClientSession, method: str, media: Sequence[Medium]) -> None:
    waiting = iter(media)

    async def ask() -> None:
        for medium in waiting:
            async with session.request(method, signed_path(medium)) as answer:
                answer.raise_for_status()
                await answer.read()

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))


@dataclass(frozen=True, slots=True)
class _Start:
    cpu: float
    seconds: float
    pss: int
    rss: int


async def _starting(site: Site, variables: Mapping[str, str], *command: str) -> dict[str, Any]:
    """Start a process several times: what it takes until it is ready, and when it is idle then."""
    starts = [await _start(site, variables, *command) for _ in range(STARTS + 1)][1:]  # the first one warms the disk
    return {
        "cpu_seconds_to_ready": round(median(start.cpu for start in starts), 2),
        "seconds_to_ready": round(median(start.seconds for start in starts), 2),
        "idle_bytes": round(median(start.pss for start in starts)),
        "idle_resident_bytes": round(median(start.rss for start in starts)),
    }


async def _start(site: Site, variables: Mapping[str, str], *command: str) -> _Start:
    port, began = free_port(), perf_counter()
    is_server = command[0] == "serve"
    env = environment(site.folder, **{"MEDIA_LOG_LEVEL": "info", **variables})
    options = ("--port", str(port)) if is_server else ()
    with process(*command, *options, env=env, stdout=DEVNULL, stderr=PIPE) as child:
        log = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(log), child.stderr
        )
        async with asyncio.timeout(PATIENCE):
            await _said(log, "Uvicorn running on" if is_server else "worker started")
            if is_server:
                await _answered(f"http://127.0.0.1:{port}/readyz")
        cpu, seconds = proc.cpu(child.pid).total, perf_counter() - began
        await asyncio.sleep(SETTLED)
        start = _Start(cpu, seconds, proc.memory(child.pid), proc.resident(child.pid))
        transport.close()
    return start


async def _said(log: asyncio.StreamReader, event: str) -> None:
    """Wait for an event in a process's log."""
    while line := await log.readline():
        if event.encode() in line:
            return
    raise RuntimeError("the process ended before it was ready")


async def _answered(url: str) -> None:
    """Wait until a server says whether it is ready."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        await answer.read()
