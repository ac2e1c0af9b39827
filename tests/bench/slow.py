"""200 clients reading 100 MB media slowly: how much the process grows."""

import asyncio
from pathlib import Path
from typing import Any

from gateway.serving import raise_file_limit
from tests.bench.client import read_slowly
from tests.bench.stage import Stage, stage

CLIENTS = 200
MEDIA = 4
SIZE = 100 * 1024**2 - 1024  # bytes, just below the provider's ceiling
SECONDS = 20.0


async def measure(folder: Path) -> dict[str, Any]:
    """Let them read from storage, and then from a flight."""
    raise_file_limit()
    async with stage(folder / "slow") as running:
        media = [await running.add(f"big-{i}", SIZE, seed=i, ingest=True) for i in range(MEDIA)]
        await running.stored([medium.message_id for medium in media])
        await _grow(running, [media[0].message_id], clients=10, seconds=3.0)  # what every process loads once
        stored = await _grow(running, [medium.message_id for medium in media])
        cold = await running.add("big-cold", SIZE, seed=MEDIA, ingest=False)
        flight = await _grow(running, [cold.message_id])
    return {"part": "slow", "clients": CLIENTS, "bytes": SIZE, "stored_growth_mb": stored, "flight_growth_mb": flight}


async def _grow(running: Stage, message_ids: list[str], *, clients: int = CLIENTS, seconds: float = SECONDS) -> float:
    """Return by how many megabytes the process has grown at most while they read."""
    urls = [running.signer.mint(message_ids[i % len(message_ids)]).url for i in range(clients)]
    before, most = running.rss(), 0
    readers = asyncio.gather(*(read_slowly(url, chunk=4096, pause=0.25, seconds=seconds) for url in urls))
    while not readers.done():
        most = max(most, running.rss())
        await asyncio.sleep(0.25)
    await readers
    return round((most - before) / 1024**2, 1)
