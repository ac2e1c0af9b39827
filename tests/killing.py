"""Kills the worker at random moments while it ingests, starts it again each time, and counts what has become of all."""

import asyncio
import hashlib
import os
import random
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import perf_counter, time

from sqlalchemy import select

from ingest.queue import INGEST, Queue
from ingest.simulator import Simulator, SyntheticContent, serve
from ingest.worker import Upkeep
from storage.database import Database, open_engine, reading
from storage.record import NewMessage, Status
from storage.records import Records
from storage.schema import objects
from tests.running import ACCESS_TOKEN, command, environment, eventually, process, until

TWINS = 5  # every so manieth medium has the content of an earlier one
SIZES = (10_000, 400_000)  # bytes
REQUESTS_PER_LIFE = 20  # that a worker makes at most before it is killed
LIFE = 120.0  # seconds without an end, at most
LONG_AGO = timedelta(seconds=2 * Upkeep().spool_age)


@dataclass(frozen=True, slots=True, kw_only=True)
class Toll:
    """What has become of the ingests; all but the first four numbers and the last two must be 0."""

    ingests: int
    contents: int
    kills: int
    stored: int
    twice: int
    """Contents that lie in more than one file."""
    missing: int
    """Objects on record without their file, or with other bytes."""
    orphans: int
    """Files that are on no record."""
    unfinished_jobs: int
    spools: int
    drafts: int
    """Temporary files, after a sweep that finds them old enough."""
    downloads: int
    seconds: float


async def kill_while_ingesting(folder: Path, *, ingests: int, seed: int) -> Toll:
    """Ingest so many media with a worker that is killed again and again, below a folder that is empty so far."""
    dice = random.Random(seed)
    simulator = Simulator(access_token=ACCESS_TOKEN)
    url = f"sqlite:///{folder / 'gateway.db'}"
    began = perf_counter()
    async with serve(simulator) as endpoints:
        hosts = f"{endpoints.lookaside_url},{endpoints.elsewhere_url}"
        env = environment(folder, WHATSAPP_GRAPH_URL=endpoints.graph_url, WHATSAPP_DOWNLOAD_HOSTS=hosts)
        await command("migrate", env=env)
        engine = open_engine(url)
        await _announce(simulator, Records(engine), url, ingests, dice)
        kills = await _run(simulator, Records(engine), env, dice)
        seconds = perf_counter() - began
        await _sweep(folder, env)
        toll = await _count(folder, engine, url, kills=kills, ingests=ingests, simulator=simulator, seconds=seconds)
        await engine.dispose()
        return toll


async def _announce(simulator: Simulator, records: Records, url: str, ingests: int, dice: random.Random) -> None:
    """Let all messages arrive, each with its job."""
    new = []
    for number in range(ingests):
        content = number if number % TWINS else number // 2 + 1
        medium = simulator.add(SyntheticContent(random.Random(content).randint(*SIZES), seed=content), "image/jpeg")
        new.append(NewMessage(message_id=f"m{number}", workspace_id="default", provider_media_id=medium.id))
    dice.shuffle(new)
    async with Queue(url, records_url=url) as queue:
        await records.add(new, and_then=await queue.within(INGEST))


async def _run(simulator: Simulator, records: Records, env: dict[str, str], dice: random.Random) -> int:
    """Run one worker after the other until all is done; return how many were killed."""
    kills = 0
    while not await _live(simulator, records, env, dice):
        kills += 1
    return kills


async def _live(simulator: Simulator, records: Records, env: dict[str, str], dice: random.Random) -> bool:
    """Run a worker until all is done, or kill it a moment after one of its requests."""
    last = len(simulator.requests) + dice.randint(1, REQUESTS_PER_LIFE)
    with process("worker", env=env) as worker:
        living = asyncio.create_task(until(lambda: len(simulator.requests) >= last, LIFE))
        done = asyncio.create_task(eventually(lambda: _done(records), LIFE))
        finished, running = await asyncio.wait({living, done}, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
        await asyncio.gather(*finished)
        if done not in finished:
            await asyncio.sleep(dice.uniform(0, 0.1))  # whatever it does then
            worker.kill()
        return done in finished


async def _done(records: Records) -> bool:
    return set(await records.count_by_status()) == {Status.COMPLETED}


async def _sweep(folder: Path, env: dict[str, str]) -> None:
    """Let a worker find the drafts that killed ones have left, long after."""
    drafts = [path for path in (folder / ".tmp").iterdir() if path.is_file()]
    for draft in drafts:
        os.utime(draft, times=(time() - LONG_AGO.total_seconds(),) * 2)
    with process("worker", env=env):
        await until(lambda: not any(draft.exists() for draft in drafts))


async def _count(
    folder: Path, engine: Database, url: str, *, kills: int, ingests: int, simulator: Simulator, seconds: float
) -> Toll:
    files = {str(path.relative_to(folder)): _sha256(path) for path in (folder / "media").rglob("*") if path.is_file()}
    async with reading(engine) as connection:
        recorded = {row.key: row.sha256 for row in await connection.execute(select(objects))}
    async with Queue(url, records_url=url) as queue:
        jobs = await queue.jobs()
    return Toll(
        ingests=ingests,
        contents=len({medium.sha256 for medium in simulator.media.values()}),
        kills=kills,
        stored=(await Records(engine).count_by_status()).get(Status.COMPLETED, 0),
        twice=sum(count - 1 for count in Counter(files.values()).values()),
        missing=sum(files.get(key) != sha256 for key, sha256 in recorded.items()),
        orphans=len(files.keys() - recorded.keys()),
        unfinished_jobs=len(jobs),
        spools=len(list((folder / "spool").glob("*.*"))),
        drafts=len(list((folder / ".tmp").iterdir())),
        downloads=sum(simulator.downloads(media_id) for media_id in simulator.media),
        seconds=round(seconds, 1),
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
