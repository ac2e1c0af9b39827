"""Growth: what a question costs among ten thousand records and among ten million, and a job behind a million others.

``GROWTH_RECORDS`` and ``GROWTH_JOBS`` say how many the larger one has, ``GROWTH_FOLDER`` where there is room for it.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from statistics import quantiles
from time import perf_counter, process_time
from typing import Any

from ingest.queue import HIGH, INGEST, UPKEEP, Queue
from storage.changes import source_of
from storage.database import open_engine
from storage.record import Cursor, Status
from storage.records import Records
from storage.renditions import Renditions
from tests.bench import population
from tests.databases import Databases, databases
from tests.messages import NOON, message

SMALL = 10_000
RECORDS = int(os.environ.get("GROWTH_RECORDS", "10000000"))
JOBS = int(os.environ.get("GROWTH_JOBS", "1000000"))
FEW_JOBS = 10_000  # enough to be claimed for as long as this takes
ROUNDS = 20
ASKED = 50  # times a question is asked in each round; the slow ones less
TURN = 0.25  # seconds
HISTORY = 200  # messages whose URLs are asked for at once
BATCH = 20  # messages of a webhook
USED = 10_000  # media that are looked at

Question = Callable[[], Awaitable[object]]


async def measure(folder: Path) -> dict[str, Any]:
    """On SQLite and PostgreSQL."""
    folder = Path(os.environ.get("GROWTH_FOLDER", folder))
    results: dict[str, Any] = {}
    for kind in ("sqlite", "postgresql"):
        place = folder / kind
        place.mkdir(parents=True, exist_ok=True)
        with databases(kind, place) as provided:
            results[kind] = {
                "questions": await _questions(provided, place),
                "jobs": await _jobs(provided, place),
            }
    return {"part": "growth", "records": [SMALL, RECORDS], "jobs": [FEW_JOBS, JOBS], **results}


async def _questions(provided: Databases, folder: Path) -> dict[str, Any]:
    """Ask both databases by turns, so that what else the machine does meets both."""
    async with AsyncExitStack() as stack:
        asked: dict[int, dict[str, Question]] = {}
        for records in (SMALL, RECORDS):
            url = await asyncio.to_thread(provided.new, folder / str(records))
            await asyncio.to_thread(population.fill, url, records)
            engine = open_engine(url)
            stack.push_async_callback(engine.dispose)
            asked[records] = await _asked_of(Records(engine), Renditions(engine), records)
        return {name: await _by_turns({records: asked[records][name] for records in asked}) for name in asked[SMALL]}


async def _by_turns(questions: dict[int, Question]) -> dict[str, Any]:
    times: dict[int, list[tuple[float, float]]] = {records: [] for records in questions}
    for _ in range(ROUNDS):
        for records, question in questions.items():
            times[records].extend(await _timed(question))
    return _summary(times)


async def _asked_of(records: Records, renditions: Renditions, count: int) -> dict[str, Question]:
    """Return every question of the hot path, and those of upkeep and metrics."""
    chance = Random(count)
    news = source_of(records._database)
    await news.news()
    batches = iter(range(10**9))

    def any_id() -> str:
        return population.message_id(chance.randrange(count))

    def any_object() -> str:
        return population.object_id(chance.randrange(count // 2))

    async def add() -> None:
        run = f"{chance.random()}-{next(batches)}"
        await records.add([message(f"new-{run}-{number}") for number in range(BATCH)])

    position = Cursor(NOON - timedelta(days=30), "")
    day = timedelta(days=1)
    # What is looked at is a part of what there is: as many media at either size, wherever they lie.
    used = [chance.randrange(count) for _ in range(USED)]
    await _look_at(used, records, renditions)

    def used_id() -> str:
        return population.message_id(chance.choice(used))

    return {
        "record in use": lambda: records.get(used_id()),
        "variants in use": lambda: renditions.of(population.object_id(chance.choice(used) // 2)),
        "urls of a history in use": lambda: records.get_many([used_id() for _ in range(HISTORY)]),
        "record": lambda: records.get(any_id()),
        "variants": lambda: renditions.of(any_object()),
        "urls of a history": lambda: records.get_many([any_id() for _ in range(HISTORY)]),
        "webhook of a batch": add,
        "page": lambda: records.page(after=position),
        "page of a workspace": lambda: records.page(workspace_id="w1", after=position),
        "page of a status": lambda: records.page(status=Status.FAILED, after=position),
        "messages of an object": lambda: records.referring(any_object()),
        "object by content": lambda: records.find_object("w1", population.sha256(chance.randrange(count // 2))),
        "look into the feed": news.news,
        "readiness": records.check,
        "media by status": records.count_by_status,
        "media lost": records.count_lost,
        "media expiring": lambda: records.count_expiring(day),
        "sweep: unfinished": lambda: records.unfinished(idle=timedelta(minutes=10), revive=timedelta(hours=1)),
        "sweep: doomed": records.doomed_objects,
        "sweep: feed": records.forget_changes,
        "sweep: tallies": records.fold_tallies,
    }


async def _look_at(numbers: list[int], records: Records, renditions: Renditions) -> None:
    """Have the database read what its memory shall hold, as others would have before."""
    for number in numbers:
        await records.get(population.message_id(number))
        await renditions.of(population.object_id(number // 2))


async def _timed(question: Question) -> list[tuple[float, float]]:
    """Return wall and processor time of each of many askings, in seconds."""
    await question()
    times: list[tuple[float, float]] = []
    began = perf_counter()
    while len(times) < ASKED and (perf_counter() - began < TURN or len(times) < 3):
        processor, wall = process_time(), perf_counter()
        await question()
        times.append((perf_counter() - wall, process_time() - processor))
    return times


def _summary(asked: dict[int, list[tuple[float, float]]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for records, times in asked.items():
        wall, processor = ([each[index] * 1e6 for each in times] for index in (0, 1))
        cuts = quantiles(wall, n=100)
        summary[str(records)] = {
            "median_us": round(cuts[49]),
            "p99_us": round(cuts[98]),
            "cpu_us": round(quantiles(processor, n=2)[0]),
        }
    small, large = (summary[str(records)]["median_us"] for records in asked)
    return summary | {"ratio": round(large / small, 2)}


async def _jobs(provided: Databases, folder: Path) -> dict[str, Any]:
    """Enqueue and claim behind some jobs and behind very many."""
    results: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        asked: dict[int, dict[str, Question]] = {}
        for waiting in (FEW_JOBS, JOBS):
            url = await asyncio.to_thread(provided.new, folder / f"jobs-{waiting}")
            await asyncio.to_thread(population.enqueue, url, waiting)
            queue = await stack.enter_async_context(Queue(url, records_url=url))
            claims = await asyncio.to_thread(population.Claims, url)
            stack.callback(claims.close)
            asked[waiting] = _asked_of_queue(queue) | {"claim of four": partial(asyncio.to_thread, claims.claim)}
        for name in asked[FEW_JOBS]:
            results[name] = await _by_turns({waiting: asked[waiting][name] for waiting in asked})
    return results


def _asked_of_queue(queue: Queue) -> dict[str, Question]:
    numbers = iter(range(10**9))
    return {
        "enqueue": lambda: queue.enqueue(INGEST, f"new-{next(numbers)}", HIGH),
        "enqueue for upkeep": lambda: queue.enqueue(INGEST, f"old-{next(numbers)}", HIGH, priority=UPKEEP),
        "backlog": queue.backlog,
        "readiness": queue.check,
    }
