"""A worker process: stopped in order, killed and succeeded by another, and sweeping up what was forgotten."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time

import pytest
from sqlalchemy import select, update

from ingest.queue import DEAD, INGEST, WAITING
from ingest.worker import Upkeep
from storage.database import reading, writing
from storage.record import Status
from storage.records import Records
from storage.schema import workers
from tests.ingest.site import SLOW, Site, kill
from tests.running import eventually, until

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
LONG_AGO = timedelta(seconds=2 * Upkeep().spool_age)


# Stopped -------------------------------------------------------------------------------------------------------------


async def test_a_worker_that_is_told_to_stop_lets_a_running_job_end_and_begins_no_other(site: Site) -> None:
    medium = await site.announce("m1", SLOW)
    with site.worker("--concurrency", "1", MEDIA_GRACEFUL_TIMEOUT="20", MEDIA_LOG_LEVEL="info") as worker:
        await medium.gate.reached()
        await site.announce("m2")
        worker.send_signal(signal.SIGTERM)
        await _logged(site, "worker stopping")
        medium.gate.open()

        assert await asyncio.to_thread(worker.wait, 20) == 0
    assert (await site.reaches("m1", Status.PROCESSING)).stored is not None
    assert site.objects() == site.whole("m1")


@on_sqlite
async def test_a_job_that_takes_longer_than_the_grace_is_left_to_the_next_worker(site: Site) -> None:
    medium = await site.announce("m1", SLOW)
    with site.worker(MEDIA_GRACEFUL_TIMEOUT="1") as worker:
        await medium.gate.reached()
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 15) == 0
    medium.gate.open()
    with site.worker():
        await site.reaches("m1", Status.COMPLETED)

    assert site.objects() == site.whole("m1")
    assert all("event" in line for line in site.logged())


# Killed --------------------------------------------------------------------------------------------------------------


async def test_a_worker_that_is_killed_is_succeeded_at_once_on_its_machine(site: Site) -> None:
    medium = await site.announce("m1", SLOW)
    with site.worker() as first:
        await medium.gate.reached()
        kill(first)
    medium.gate.open()
    with site.worker():
        await site.reaches("m1", Status.COMPLETED)

    assert site.objects() == site.whole("m1")
    assert await site.jobs() == ([], 0)


async def test_a_worker_takes_over_from_another_that_dies_beside_it(site: Site) -> None:
    medium = await site.announce("m1", SLOW)
    with site.worker() as first:
        await medium.gate.reached()
        with site.worker(MEDIA_LOG_LEVEL="info"):
            await _logged(site, "worker started")
            kill(first)
            medium.gate.open()
            await site.reaches("m1", Status.COMPLETED)

    assert site.objects() == site.whole("m1")


@pytest.mark.parametrize(("silent", "taken_over"), [(0.0, False), (31.0, True)], ids=["alive", "silent for 31 s"])
async def test_a_worker_on_another_machine_is_dead_once_its_heartbeat_is_old(
    site: Site, silent: float, *, taken_over: bool
) -> None:
    medium = await site.announce("m1", SLOW)
    with site.worker() as first:
        await medium.gate.reached()
        kill(first)
    async with writing(site.engine) as connection:
        await connection.execute(update(workers).values(host="elsewhere", heartbeat=time() - silent))
    medium.gate.open()
    with site.worker():
        await site.announce("m2")
        await site.reaches("m2", Status.COMPLETED)
        if taken_over:
            await site.reaches("m1", Status.COMPLETED)

    assert ("elsewhere" in await _hosts(site)) == (not taken_over)
    assert site.objects() == site.whole(*["m1"] * taken_over, "m2")


# Swept up ------------------------------------------------------------------------------------------------------------


async def test_a_record_whose_job_was_never_written_gets_one(site: Site) -> None:
    await site.announce("m1", job=False, age=LONG_AGO)
    with site.worker():
        await site.reaches("m1", Status.COMPLETED)

    assert site.objects() == site.whole("m1")


@on_sqlite
@pytest.mark.parametrize(
    ("age", "ingest"), [(timedelta(), "all"), (LONG_AGO, "off")], ids=["its job may still come", "ingest is off"]
)
async def test_a_record_without_a_job_is_left_alone_while(site: Site, age: timedelta, ingest: str) -> None:
    await site.announce("m1", job=False, age=age)
    await _sweep(site, MEDIA_INGEST=ingest)

    assert (await site.reaches("m1", Status.PENDING)).attempts == 0
    assert not site.provider.simulator.requests


@on_sqlite
@pytest.mark.parametrize(
    ("error", "revived"),
    [("provider-error", True), ("media-expired", False)],
    ids=["the provider may still have it", "the provider has it no more"],
)
async def test_a_failure_is_tried_again_after_an_hour_where(site: Site, error: str, *, revived: bool) -> None:
    await site.announce("m1", job=False)
    records = Records(site.engine, clock=lambda: datetime.now(UTC) - LONG_AGO)
    await records.mark("m1", Status.FAILED, error=error, attempt=4)
    await _sweep(site)

    assert len(site.objects()) == revived


@on_sqlite
async def test_an_object_whose_deletion_was_forgotten_is_deleted(site: Site) -> None:
    await site.announce("m1")
    with site.worker():
        await site.reaches("m1", Status.COMPLETED)
    await site.records.delete("m1")
    with site.worker():
        await eventually(_empty(site))

    assert await site.records.doomed_objects() == []


@on_sqlite
async def test_a_dead_letter_that_others_have_answered_is_forgotten(site: Site) -> None:
    (site.folder / "media").write_bytes(b"")
    await site.announce("m1")
    with site.worker():
        await site.reaches("m1", Status.FAILED)
        (site.folder / "media").unlink()
        await site.queue.enqueue(INGEST, "m1")
        await site.reaches("m1", Status.COMPLETED)
    assert len(await site.queue.jobs(status=DEAD)) == 1
    await _sweep(site)

    assert await site.jobs() == ([], 0)


@on_sqlite
async def test_what_killed_processes_left_on_the_disk_goes(site: Site) -> None:
    abandoned = _aged(site.folder / ".tmp" / "0123456789abcdef")
    young = site.folder / ".tmp" / "fedcba9876543210"
    young.touch()
    await _sweep(site)

    assert not abandoned.exists()
    assert young.exists()


async def _sweep(site: Site, **variables: str) -> None:
    """Run a worker for one sweep, and the jobs that it writes; a sweep ends by deleting old spools and drafts."""
    spool = _aged(site.folder / "spool" / f"{'0' * 64}.part")
    draft = _aged(site.folder / ".tmp" / "swept")
    with site.worker(**variables):
        await until(lambda: not spool.exists() and not draft.exists())
        await eventually(_idle(site))


def _aged(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, times=(time() - LONG_AGO.total_seconds(),) * 2)
    return path


def _idle(site: Site) -> Callable[[], Awaitable[bool]]:
    async def idle() -> bool:
        return not await site.queue.jobs(status=(*WAITING, "PENDING"))

    return idle


def _empty(site: Site) -> Callable[[], Awaitable[bool]]:
    async def empty() -> bool:
        return not site.objects() and not await site.records.doomed_objects()

    return empty


async def _logged(site: Site, event: str) -> None:
    await until(lambda: event in {line["event"] for line in site.logged()})


async def _hosts(site: Site) -> set[str]:
    async with reading(site.engine) as connection:
        return set((await connection.execute(select(workers.c.host))).scalars())
