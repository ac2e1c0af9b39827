"""1,000 clients at once: over one cold medium, over the same one stored, and over 1,000 stored media."""

import asyncio
from collections import Counter
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from gateway.serving import raise_file_limit
from tests.bench.client import Answer, fetch
from tests.bench.stage import Medium, Stage, stage

CLIENTS = 1000
ROUNDS = 5
SIZE = 2 * 1024**2  # bytes


async def measure(folder: Path) -> dict[str, Any]:
    """Run interleaved rounds; quote medians and ratios."""
    raise_file_limit()
    async with stage(folder / "crowd") as running:
        rounds = [await _round(running, number) for number in range(ROUNDS)]
        many = await _many(running)
    cold, stored = median(each["cold"] for each in rounds), median(each["stored"] for each in rounds)
    return {
        "part": "crowd",
        "clients": CLIENTS,
        "bytes": SIZE,
        "rounds": rounds,
        "cold_seconds": cold,
        "stored_seconds": stored,
        "ratio": round(median(each["cold"] / each["stored"] for each in rounds), 2),
        "thousand_media": many,
    }


async def _round(running: Stage, number: int) -> dict[str, Any]:
    medium = await running.add(f"cold-{number}", SIZE, seed=number, ingest=False)
    before = len(await running.downloads())
    cold = await _crowd(running, [medium] * CLIENTS)
    downloads = len(await running.downloads()) - before
    await running.stored([medium.message_id])
    stored = await _crowd(running, [medium] * CLIENTS)
    return {
        "cold": cold["seconds"],
        "stored": stored["seconds"],
        "downloads": downloads,
        "wrong": {"cold": cold["wrong"], "stored": stored["wrong"]},
    }


async def _many(running: Stage) -> dict[str, Any]:
    media = [await running.add(f"many-{i}", 100_000, seed=1000 + i, ingest=True) for i in range(CLIENTS)]
    await running.stored([medium.message_id for medium in media])
    return await _crowd(running, media)


async def _crowd(running: Stage, media: list[Medium]) -> dict[str, Any]:
    urls = [running.signer.mint(medium.message_id).url for medium in media]
    began = perf_counter()
    answers = await asyncio.gather(*map(fetch, urls), return_exceptions=True)
    seconds = perf_counter() - began
    wrong = Counter(filter(None, map(_fault, answers, media)))
    return {"seconds": round(seconds, 3), "wrong": dict(wrong)}


def _fault(answer: Answer | BaseException, medium: Medium) -> str | None:
    """Return what is wrong with an answer."""
    if isinstance(answer, BaseException):
        return type(answer).__name__
    if answer.status != 200:
        return str(answer.status)
    return None if answer.sha256 == medium.sha256 else "body"
