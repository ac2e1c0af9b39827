"""``python -m tests.bench.ingest``: photographs from webhook to storage at full speed, and where the time goes.

All webhooks come while no worker runs; then a worker of default settings starts, and has nothing else to do.
"""

import argparse
import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import DEVNULL
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import httpx
import psycopg

from ingest.simulator import Kind, Medium, Simulator, encode, serve, sign
from tests.bench import proc
from tests.bench.camera import photograph
from tests.bench.client import Poster
from tests.bench.scrape import Metrics
from tests.databases import Databases, databases
from tests.running import (
    ACCESS_TOKEN,
    APP_SECRET,
    NO_TLS,
    command,
    environment,
    eventually,
    free_port,
    process,
    started,
)

POSTERS = 16
SIZE = 300_000  # bytes of a photograph as WhatsApp sends it: 1,600 pixels wide
SETTLING = 4.0  # seconds after which a worker without jobs has started up
IDLE = 5.0  # seconds for which it is watched then
LIMIT = 1800.0  # seconds for all media of a run
STEP = 0.25  # seconds between two looks
_TABLE_BYTES = """
    SELECT nspname, sum(pg_total_relation_size(pg_class.oid))
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind = 'r' AND nspname IN ('public', 'dbos')
    GROUP BY nspname
"""
_PIXELS = (1600, 1200)
_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Tailed:
    """A content of its own for each medium at the price of one: what all share, and a few bytes more."""

    body: bytes
    tail: bytes

    @property
    def size(self) -> int:
        """The length in bytes."""
        return len(self.body) + len(self.tail)

    def read(self, start: int, length: int) -> bytes:
        """Return a slice."""
        stop = start + length
        beyond = len(self.body)
        return self.body[start:stop] + self.tail[max(0, start - beyond) : max(0, stop - beyond)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measurement."""

    database: str
    count: int
    processing: bool
    """Whether the media are photographs that decode; else they are noise, of which nothing is to be made."""


@dataclass(frozen=True, slots=True)
class Idle:
    """What a worker without jobs takes, in seconds of a processor."""

    start: float
    start_loop: float
    """Of it, by the event loop."""
    pace: float
    """In each second: it looks into its queues, and shows that it lives."""


@dataclass(frozen=True, slots=True)
class Look:
    """A worker at a moment."""

    at: float
    stored: float
    processed: float
    """Jobs that have ended so far."""
    cpu: proc.Cpu
    loop: float
    """Seconds of a processor that its event loop has taken."""
    database: float
    """Those that the database server has taken, where there is one."""
    metrics: Metrics


async def measure(folder: Path) -> dict[str, Any]:
    """Run all."""
    return await run_all(folder, count=2000, processed=200)


async def run_all(folder: Path, *, count: int, processed: int) -> dict[str, Any]:
    """Store so many media on both databases, and process so many on SQLite."""
    runs = [Run(database=kind, count=count, processing=False) for kind in ("sqlite", "postgresql")]
    runs.append(Run(database="sqlite", count=processed, processing=True))
    report: dict[str, Any] = {"part": "photographs", "bytes": SIZE, "sha256_ms": round(_hashing() * 1e3, 2)}
    for run in runs:
        if run.count:
            name = f"{run.database}-{'processed' if run.processing else 'stored'}"
            (folder / name / "gateway").mkdir(parents=True)
            report[name] = await _measured(run, folder / name)
    return report


def _hashing() -> float:
    """Return the seconds that hashing one medium takes."""
    content, rounds = bytes(SIZE), 20
    began = process_time()
    for _ in range(rounds):
        hashlib.sha256(content)
    return (process_time() - began) / rounds


async def _measured(run: Run, folder: Path) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        provided = stack.enter_context(databases(run.database, folder))
        bench = await stack.enter_async_context(_open(run, folder, provided))
        idle = await bench.idle()
        empty = await asyncio.to_thread(bench.table_bytes)
        posted = await bench.post()
        async with bench.worker() as worker:
            looks = await worker.watch(run.count)
            full = await asyncio.to_thread(bench.table_bytes)
            floor = await worker.again(run.count) if not run.processing else None
    grown = {schema: round((taken - empty[schema]) / run.count) for schema, taken in full.items()}
    more = {"webhooks_per_second": round(run.count / posted, 1), "database_bytes_each": grown}
    return _summary(run, looks, idle) | more | (floor or {})


@dataclass(frozen=True, slots=True)
class _Bench:
    """A provider, a gateway without worker, and webhooks that wait to be sent."""

    run: Run
    env: dict[str, str]
    url: str
    simulator: Simulator
    media: Sequence[Medium]
    postmaster: int | None

    def table_bytes(self) -> dict[str, int]:
        """Return the bytes of tables and indexes by schema: ``public`` has the records, ``dbos`` the jobs."""
        if self.postmaster is None:
            return {}
        with psycopg.connect(self.env["MEDIA_DATABASE_URL"], autocommit=True) as connection:
            return {schema: int(taken) for schema, taken in connection.execute(_TABLE_BYTES)}

    async def post(self) -> float:
        """Send all webhooks, and return the seconds that it took."""
        bodies = [encode(self.simulator.webhooks.media_payload(medium)) for medium in self.media]
        waiting, began = iter(bodies), perf_counter()

        async def send() -> None:
            poster = Poster(f"{self.url}/webhooks/whatsapp")
            for body in waiting:
                fields = {"X-Hub-Signature-256": sign(body, APP_SECRET), "Content-Type": "application/json"}
                if await poster.post(body, fields) != 200:
                    raise RuntimeError("a webhook was refused")
            poster.close()

        await asyncio.gather(*(send() for _ in range(POSTERS)))
        return perf_counter() - began

    async def idle(self) -> Idle:
        """Start a worker that has nothing to do, and tell what it takes."""
        async with self.worker() as worker:
            await asyncio.sleep(SETTLING)
            began, loop = proc.cpu(worker.pid), proc.main_thread_cpu(worker.pid)
            await asyncio.sleep(IDLE)
            return Idle(began.own, loop, (proc.cpu(worker.pid) - began).total / IDLE)

    @asynccontextmanager
    async def worker(self) -> AsyncIterator["_Worker"]:
        """Run the worker as it is run in production."""
        port = free_port()
        async with AsyncExitStack() as stack:
            output = {"stdout": DEVNULL, "stderr": DEVNULL}
            child = stack.enter_context(process("worker", "--metrics-port", str(port), env=self.env, **output))
            client = await stack.enter_async_context(httpx.AsyncClient(verify=NO_TLS, trust_env=False))
            worker = _Worker(child.pid, f"http://127.0.0.1:{port}/metrics", client, self)
            await eventually(worker.answers)
            yield worker


@asynccontextmanager
async def _open(run: Run, folder: Path, provided: Databases) -> AsyncIterator[_Bench]:
    simulator, port = Simulator(access_token=ACCESS_TOKEN), free_port()
    media = await asyncio.to_thread(_fill, simulator, run, folder)
    url, database = f"http://127.0.0.1:{port}", await asyncio.to_thread(provided.new, folder / "gateway")
    async with AsyncExitStack() as stack:
        hosts = await stack.enter_async_context(serve(simulator))
        env = environment(
            folder / "gateway",
            MEDIA_DATABASE_URL=database,
            MEDIA_LOG_LEVEL="info",
            MEDIA_INGEST_POLL_INTERVAL="0.2",
            WHATSAPP_GRAPH_URL=hosts.graph_url,
            WHATSAPP_DOWNLOAD_HOSTS=hosts.lookaside_url,
        )
        stack.enter_context(process("serve", "--no-worker", "--port", str(port), env=env, stderr=DEVNULL))
        await started(url)
        yield _Bench(run, env, url, simulator, media, _postmaster(folder) if run.database == "postgresql" else None)


def _postmaster(folder: Path) -> int:
    return int((folder / "postgresql" / "postmaster.pid").read_text().split()[0])


def _fill(simulator: Simulator, run: Run, folder: Path) -> list[Medium]:
    """Put as many media into the provider's catalogue, each with bytes of its own."""
    if run.processing:
        names = ("astronaut", "cat", "coffee", "rocket")
        paths = [photograph(name, folder / f"{name}.jpg", quality=_QUALITY, size=_PIXELS) for name in names]
        bodies, mime_type = [path.read_bytes() for path in paths], "image/jpeg"
    else:
        bodies, mime_type = [os.urandom(SIZE)], "application/octet-stream"
    contents = [Tailed(bodies[number % len(bodies)], b"%08d" % number) for number in range(run.count)]
    return [simulator.add(content, mime_type, kind=Kind.IMAGE) for content in contents]


@dataclass(frozen=True, slots=True)
class _Worker:
    pid: int
    url: str
    client: httpx.AsyncClient
    bench: _Bench

    async def answers(self) -> bool:
        try:
            return bool(await Metrics.of(self.client, self.url))
        except httpx.TransportError:
            return False

    async def look(self) -> Look:
        metrics = await Metrics.of(self.client, self.url)
        jobs = {kind: metrics.total("ingest_job_duration_seconds_count", kind=kind) for kind in ("ingest", "process")}
        loop, server = proc.main_thread_cpu(self.pid), self.bench.postmaster
        database = proc.cpu(server).total if server is not None else 0.0
        return Look(perf_counter(), jobs["ingest"], jobs["process"], proc.cpu(self.pid), loop, database, metrics)

    async def watch(self, stored: float, processed: float | None = None) -> list[Look]:
        """Look on until so many media are stored and processed."""
        looks = [await self.look()]
        async with asyncio.timeout(LIMIT):
            while looks[-1].stored < stored or looks[-1].processed < (processed or stored):
                await asyncio.sleep(STEP)
                looks.append(await self.look())
        return looks

    async def again(self, count: int) -> dict[str, Any]:
        """Have as many jobs done that do nothing: what a job costs before it does anything."""
        before = await self.look()
        done = await command("jobs", "reprocess", "--workspace", "default", env=self.bench.env)
        if done.returncode:
            raise RuntimeError(done.stderr)
        after = (await self.watch(count, before.processed + count))[-1]
        return {"empty_job_cpu_ms": round((after.cpu - before.cpu).total / count * 1e3, 2)}


def _summary(run: Run, looks: Sequence[Look], idle: Idle) -> dict[str, Any]:
    """Tell the pace of the middle of a run, and where the time of all of it went."""
    last = looks[-1]
    begun = next(look for look in looks if look.stored >= run.count / 20)
    stored = next(look for look in looks if look.stored >= run.count)
    own, loop = last.cpu.own - idle.start, last.loop - idle.start_loop
    seconds = {
        "event loop": loop,
        "other threads": own - loop,
        "children": last.cpu.children,
        "database server": last.database - looks[0].database,
        "of all these, looking into empty queues": idle.pace * (last.at - looks[0].at),
    }
    return {
        **asdict(run),
        "stored_per_second": round((run.count - begun.stored) / max(STEP, stored.at - begun.at), 1),
        "done_per_second": round((run.count - begun.processed) / max(STEP, last.at - begun.at), 1),
        "media_per_cpu_second": round(run.count / (own + last.cpu.children), 1),
        "cpu_ms_each": {name: round(value / run.count * 1e3, 2) for name, value in seconds.items()},
        "milliseconds_each": _stages(last.metrics, run.count),
        "outcomes": last.metrics.by("outcome", "ingest_job_duration_seconds_count"),
        "idle_worker": {"start_cpu_seconds": round(idle.start, 2), "cpu_seconds_per_second": round(idle.pace, 3)},
    }


def _stages(metrics: Metrics, count: int) -> dict[str, float]:
    """Return how long each stage took, by the clock, for one medium; several media are at work at once."""
    names = (
        ("job: ", "kind", "ingest_job_duration_seconds_sum"),
        ("provider: ", "operation", "provider_call_duration_seconds_sum"),
        ("store: ", "operation", "storage_operation_duration_seconds_sum"),
        ("step: ", "step", "processing_step_duration_seconds_sum"),
    )
    return {
        prefix + stage: round(seconds / count * 1e3, 2)
        for prefix, label, name in names
        for stage, seconds in metrics.by(label, name).items()
    }


def main() -> None:
    """Run what is asked for, and print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ingest", description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="media that are only stored, on each database; 0: none")
    parser.add_argument("--processed", type=int, default=200, help="photographs that are processed too; 0: none")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="media-gateway-bench-") as folder:
        report = asyncio.run(run_all(Path(folder), count=options.count, processed=options.processed))
    print(json.dumps(report))  # noqa: T201 its report


if __name__ == "__main__":
    main()
