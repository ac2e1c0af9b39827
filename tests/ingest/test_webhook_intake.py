"""Taking webhooks in: every medium durable with its job, once, or nothing at all and another try."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ingest.queue import INGEST, Queue
from ingest.simulator import Simulator, WebhookSender, batch, encode
from ingest.simulator.webhooks import Json
from ingest.webhook import MAX_BODY, Intake, MalformedWebhook
from storage.database import Database, open_engine
from storage.errors import RecordsUnavailable
from storage.record import Status
from storage.records import Records
from tests.conftest import StartGateway
from tests.databases import Databases
from tests.messages import NOON
from tests.running import APP_SECRET, free_port

HELLO = b"hello media\n"


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(clock=lambda: NOON)


@dataclass(frozen=True, slots=True)
class Desk:
    """An intake, and where to look for what it has written."""

    intake: Intake
    records: Records
    queue: Queue

    async def accept(self, payload: Json | bytes) -> int:
        body = payload if isinstance(payload, bytes) else encode(payload)
        return (await self.intake.accept(body, route=lambda _: "w1")).new

    async def jobs(self) -> list[str]:
        found = await self.queue.jobs(limit=10_000)
        assert {job.kind for job in found} <= {INGEST}
        return sorted(job.subject for job in found)


def desk(engine: Database, queue: Queue, *, ingest: bool = True) -> Desk:
    records = Records(engine)
    return Desk(Intake(records=records, queue=queue, ingest=ingest, clock=lambda: NOON), records, queue)


@pytest.fixture
async def queue(database_url: str) -> AsyncIterator[Queue]:
    async with Queue(database_url, records_url=database_url) as opened:
        yield opened


@pytest.fixture
def here(engine: Database, queue: Queue) -> Desk:
    """An intake over one database for records and jobs, of each kind."""
    return desk(engine, queue)


def image(simulator: Simulator, wamid: str) -> Json:
    return simulator.webhooks.media(simulator.add(HELLO, "image/jpeg"), wamid=wamid)


async def test_a_medium_is_recorded_with_its_job(here: Desk, simulator: Simulator) -> None:
    medium = simulator.add(HELLO, "image/jpeg")
    message = simulator.webhooks.media(medium, wamid="wamid.1")
    assert await here.accept(simulator.webhooks.payload(message)) == 1
    record = await here.records.get("wamid.1")
    assert record is not None
    assert (record.workspace_id, record.provider_media_id, record.status) == ("w1", medium.id, Status.PENDING)
    assert await here.jobs() == ["wamid.1"]


async def test_without_media_nothing_is_written(here: Desk, simulator: Simulator) -> None:
    statuses = [simulator.webhooks.status("wamid.1")]
    assert await here.accept(simulator.webhooks.payload(simulator.webhooks.text(), statuses=statuses)) == 0
    assert await here.records.count_by_status() == {}


async def test_a_medium_that_cannot_be_delivered_is_recorded_without_a_job(here: Desk, simulator: Simulator) -> None:
    message = simulator.webhooks.too_large()
    assert await here.accept(simulator.webhooks.payload(message)) == 1
    record = await here.records.get(message["id"])
    assert record is not None
    assert (record.status, record.error) == (Status.FAILED, "provider-undeliverable")
    assert await here.jobs() == []


async def test_what_makes_no_sense_is_refused_and_writes_nothing(here: Desk) -> None:
    with pytest.raises(MalformedWebhook):
        await here.accept(b'{"entry":')
    with pytest.raises(MalformedWebhook):
        await here.accept(b'{"entry":' * (MAX_BODY // 9))
    assert await here.records.count_by_status() == {}


async def test_with_ingest_off_records_have_no_jobs(engine: Database, queue: Queue, simulator: Simulator) -> None:
    off = desk(engine, queue, ingest=False)
    assert await off.accept(simulator.webhooks.payload(image(simulator, "wamid.1"))) == 1
    assert await off.records.get("wamid.1") is not None
    assert await off.jobs() == []


# Duplicates and batches


async def test_a_repeated_webhook_changes_nothing(here: Desk, simulator: Simulator) -> None:
    payload = simulator.webhooks.payload(image(simulator, "wamid.1"))
    assert [await here.accept(payload) for _ in range(3)] == [1, 0, 0]
    assert await here.jobs() == ["wamid.1"]


async def test_of_concurrent_duplicates_one_becomes_a_record_and_a_job(here: Desk, simulator: Simulator) -> None:
    payload = simulator.webhooks.payload(image(simulator, "wamid.1"))
    assert sum(await asyncio.gather(*(here.accept(payload) for _ in range(20)))) == 1
    assert await here.jobs() == ["wamid.1"]


async def test_concurrent_duplicates_at_two_processes_become_one(
    engine: Database, queue: Queue, simulator: Simulator
) -> None:
    body = encode(batch(simulator.webhooks.payload(image(simulator, f"wamid.{number}")) for number in range(50)))
    desks = [desk(engine, queue) for _ in range(4)]  # each gathers for itself, like a process of its own
    assert sum(await asyncio.gather(*(each.accept(body) for each in desks))) == 50
    assert len(await desks[0].jobs()) == 50


async def test_a_batch_of_1000_updates_is_taken_whole(here: Desk, simulator: Simulator) -> None:
    medium = simulator.add(HELLO, "image/jpeg")
    wamids = sorted(f"wamid.{number:04}" for number in range(1000))
    messages = (simulator.webhooks.media(medium, wamid=wamid) for wamid in wamids)
    assert await here.accept(batch(simulator.webhooks.payload(each) for each in messages)) == 1000
    assert await here.jobs() == wamids


async def test_a_body_of_2_9_megabytes_is_taken(here: Desk, simulator: Simulator) -> None:
    body = encode(simulator.webhooks.payload(image(simulator, "wamid.1")), size=2_900_000)
    assert len(body) == 2_900_000
    assert await here.accept(body) == 1


async def test_a_deleted_message_stays_deleted(here: Desk, simulator: Simulator) -> None:
    payload = simulator.webhooks.payload(image(simulator, "wamid.1"))
    await here.accept(payload)
    await here.records.delete("wamid.1")
    assert await here.accept(payload) == 0
    record = await here.records.get("wamid.1")
    assert record is not None
    assert record.deleted_at is not None


async def test_edit_and_revoke_leave_the_original_as_it_is(here: Desk, simulator: Simulator) -> None:
    await here.accept(simulator.webhooks.payload(image(simulator, "wamid.1")))
    before = await here.records.get("wamid.1")
    edit = simulator.webhooks.edit("wamid.1", simulator.add(HELLO, "image/jpeg"), caption="better")
    assert await here.accept(simulator.webhooks.payload(edit, simulator.webhooks.revoke("wamid.1"))) == 1
    assert await here.records.get("wamid.1") == before
    assert await here.jobs() == sorted(["wamid.1", edit["id"]])


# Bad days


async def test_while_the_database_is_locked_nothing_is_written_and_the_next_try_works(
    sqlite_databases: Databases, tmp_path: Path, simulator: Simulator
) -> None:
    url = sqlite_databases.new(tmp_path)
    engine = open_engine(url, busy_timeout=0.05)
    payload = simulator.webhooks.payload(image(simulator, "wamid.1"))
    async with Queue(url, records_url=url) as queue:
        locked = desk(engine, queue)
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(RecordsUnavailable):
                await locked.accept(payload)
        assert await locked.records.get("wamid.1") is None
        assert await locked.accept(payload) == 1
        assert await locked.jobs() == ["wamid.1"]
    await engine.dispose()


async def test_a_job_that_could_not_be_written_elsewhere_is_found_by_upkeep(
    engine: Database, database_url: str, simulator: Simulator
) -> None:
    url = f"postgresql://127.0.0.1:{free_port()}/queue"
    async with Queue(url, records_url=database_url) as gone:
        here = desk(engine, gone)
        with pytest.raises(RecordsUnavailable):
            await here.accept(simulator.webhooks.payload(image(simulator, "wamid.1")))
    record = await here.records.get("wamid.1")
    assert record is not None
    assert record.status is Status.PENDING  # which upkeep looks for


async def test_a_queue_elsewhere_gets_the_jobs(
    engine: Database, database_url: str, sqlite_databases: Databases, tmp_path: Path, simulator: Simulator
) -> None:
    async with Queue(sqlite_databases.new(tmp_path / "queue"), records_url=database_url) as elsewhere:
        here = desk(engine, elsewhere)
        assert await here.accept(simulator.webhooks.payload(image(simulator, "wamid.1"))) == 1
        assert await here.jobs() == ["wamid.1"]


async def test_over_http_a_body_is_answered_by_what_became_of_it(
    start_gateway: StartGateway, simulator: Simulator
) -> None:
    payload = simulator.webhooks.payload(image(simulator, "wamid.1"))
    async with start_gateway() as gateway, httpx.AsyncClient() as client:
        sender = WebhookSender(f"{gateway.url}/webhooks/whatsapp", APP_SECRET, client)
        bodies = [encode(payload), encode(payload, size=2_900_000), b"[]", b"[" * 10_000, b" " * (MAX_BODY + 1)]
        statuses = [(await sender.send(body)).status_code for body in bodies]
        assert statuses == [200, 200, 400, 400, 413]
        assert (await gateway.client.get("/media/messages/wamid.1/info")).json()["status"] == "pending"
