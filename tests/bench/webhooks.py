"""Webhooks at a steady rate: how fast they are acknowledged, and whether any is lost."""

import asyncio
import json
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

from ingest.simulator import Simulator, sign
from tests.bench.client import Poster
from tests.bench.stage import Stage, stage
from tests.databases import databases
from tests.running import APP_SECRET

SECONDS = 30
POSTERS = 64


async def measure(folder: Path) -> dict[str, Any]:
    """On SQLite and PostgreSQL, with the ingest paused and running."""
    results = {}
    (folder / "pg").mkdir()
    with databases("postgresql", folder / "pg") as postgresql:
        for kind, rate in (("sqlite", 100), ("postgresql", 300)):
            for worker in ("--no-worker", "--worker"):
                variables = (
                    {} if kind == "sqlite" else {"MEDIA_DATABASE_URL": await asyncio.to_thread(postgresql.new, folder)}
                )
                async with stage(folder / f"{kind}{worker}", worker, **variables) as running:
                    results[f"{kind} {worker}"] = await _run(running, rate)
    return {"part": "webhooks", "seconds": SECONDS, **results}


async def _run(running: Stage, rate: int) -> dict[str, Any]:
    bodies = await asyncio.to_thread(_bodies, rate * SECONDS, await running.media_object())
    posters: asyncio.Queue[Poster] = asyncio.Queue()
    for _ in range(POSTERS):
        posters.put_nowait(Poster(f"{running.url}/webhooks/whatsapp"))
    took: list[float] = []
    statuses: dict[int, int] = {}

    async def post(body: bytes, signature: str, due: float) -> None:
        poster = await posters.get()
        try:
            status = await poster.post(body, {"X-Hub-Signature-256": signature, "Content-Type": "application/json"})
            statuses[status] = statuses.get(status, 0) + 1
            took.append(perf_counter() - due)  # from when it was due: waiting for a connection counts
        finally:
            posters.put_nowait(poster)

    began = perf_counter()
    async with asyncio.TaskGroup() as group:
        for number, (body, signature) in enumerate(bodies):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - perf_counter()))
            group.create_task(post(body, signature, due))
    recorded = await _recorded(running)
    cuts = quantiles(took, n=1000)
    milliseconds = {"p50": cuts[499], "p99": cuts[989], "max": max(took)}
    return {
        "rate": rate,
        "sent": len(bodies),
        "statuses": statuses,
        "lost": len(bodies) - recorded,
        "milliseconds": {name: round(value * 1000, 1) for name, value in milliseconds.items()},
    }


async def _recorded(running: Stage) -> int:
    text = (await running.api.get("/metrics")).text
    counts = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith("media_gateway_media{")]
    return int(sum(map(float, counts)))


def _bodies(count: int, media_object: dict[str, Any]) -> list[tuple[bytes, str]]:
    """Return signed webhooks of as many messages, all about one medium that the simulator has."""
    webhooks = Simulator().webhooks
    bodies = []
    for _ in range(count):
        message = {**webhooks.text(), "type": "image", "image": media_object}
        body = json.dumps(webhooks.payload(message)).encode()
        bodies.append((body, sign(body, APP_SECRET)))
    return bodies
