"""What the host application does to a message: register, copy, retry, delete; on both databases."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.processing.steps import RECIPE
from ingest.queue import DELETE, HIGH, INGEST, LOW, Queue
from ingest.registry import Registry
from ingest.simulator import Simulator, encode
from ingest.webhook import Intake
from storage.cache import RecordCache
from storage.database import Database
from storage.errors import RecordConflict
from storage.flights import Flights
from storage.origin import MediaRef
from storage.pilot import Order
from storage.record import MediaRecord, NewMessage, Processing, Status
from storage.records import Records
from storage.renditions import Renditions
from storage.spool import Spools
from tests.databases import Databases
from tests.ingest.node import ScriptedOrigin, jpeg
from tests.messages import message, stored

LIFE = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A registry, and all that it works on."""

    records: Records
    renditions: Renditions
    cache: RecordCache
    queue: Queue
    flights: Flights
    spools: Spools
    forgotten: list[MediaRef] = field(default_factory=list)

    def registry(self, *, ingest: bool = True) -> Registry:
        return Registry(
            records=self.records,
            renditions=self.renditions,
            cache=self.cache,
            queue=self.queue,
            flights=self.flights,
            forget=self.forgotten.append,
            ingest=ingest,
        )

    async def jobs(self, kind: str = INGEST) -> list[str]:
        return sorted(job.subject for job in await self.queue.jobs() if job.kind == kind)

    async def get(self, message_id: str) -> MediaRecord:
        record = await self.records.get(message_id)
        assert record is not None
        return record

    async def store(self, message_id: str, content_type: str = "image/png") -> MediaRecord:
        """Do what an ingest does."""
        assert await self.records.adopt(message_id, stored(), content_type=content_type) is not None
        found = await self.renditions.settle(message_id)
        if found is not None:
            await self.renditions.finish(found.id, Processing.COMPLETED, recipe=RECIPE, keeping=(), error=None)
        return await self.get(message_id)


@pytest.fixture
async def queue(database_url: str) -> AsyncIterator[Queue]:
    async with Queue(database_url, records_url=database_url) as opened:
        yield opened


@pytest.fixture
async def host(engine: Database, queue: Queue, tmp_path: Path) -> AsyncIterator[Host]:
    records = Records(engine)
    spools = Spools(tmp_path / "spool")
    flights = Flights(spools, ScriptedOrigin({"media-of-m1": jpeg(1)}))
    yield Host(
        records=records,
        renditions=Renditions(engine),
        cache=RecordCache(records.get),
        queue=queue,
        flights=flights,
        spools=spools,
    )
    await flights.drain(1)
    spools.close()


@pytest.fixture
def registry(host: Host) -> Registry:
    return host.registry()


def registered(message_id: str = "m1", **changes: object) -> NewMessage:
    """Return what a PUT without a deadline registers."""
    return replace(message(message_id, **changes), expires_at=None)


def copied(message_id: str = "m2", **changes: object) -> NewMessage:
    """Return what a PUT with ``copy_of`` registers."""
    return replace(registered(message_id, **changes), provider_media_id=None, kind=None)


# Register


async def test_registering_makes_record_and_job(host: Host, registry: Registry) -> None:
    before = datetime.now(UTC)
    record, created = await registry.register(registered())
    assert created
    assert record == await registry.get("m1") == await host.get("m1")
    assert record.status is Status.PENDING
    assert record.expires_at is not None
    assert before + LIFE <= record.expires_at <= datetime.now(UTC) + LIFE
    assert await host.jobs() == ["m1"]


async def test_registering_the_same_again_changes_nothing(host: Host, registry: Registry) -> None:
    first, _ = await registry.register(registered())
    second, created = await registry.register(registered())
    assert not created
    assert second == first
    assert await host.jobs() == ["m1"]


async def test_a_change_is_seen_at_once(host: Host, registry: Registry) -> None:
    await registry.register(registered(participants=("ana", "bob")))
    await host.cache.get("m1")
    _, created = await registry.register(registered(participants=("ana",)))
    assert not created
    cached = await host.cache.get("m1")
    assert cached is not None
    assert cached.participants == ("ana",)


async def test_another_medium_takes_the_place_of_what_has_landed_of_the_one_before(
    host: Host, registry: Registry
) -> None:
    before, _ = await registry.register(registered(), ingest=False)
    await _fly(host, before)

    await registry.register(registered(provider_media_id="another"), ingest=False)

    assert host.spools.state(before.spool) is None


async def test_a_message_may_be_registered_without_its_ingest(host: Host, registry: Registry) -> None:
    await registry.register(registered("m1"), ingest=False)
    await host.registry(ingest=False).register(registered("m2"))
    assert await host.jobs() == []
    assert (await host.get("m2")).status is Status.PENDING


async def test_another_workspaces_message_cannot_be_taken_over(host: Host, registry: Registry) -> None:
    await registry.register(registered())
    before = await host.get("m1")
    with pytest.raises(RecordConflict):
        await registry.register(registered(workspace_id="w2"))
    with pytest.raises(RecordConflict):
        await registry.copy(copied("m1"), replace(before, workspace_id="w2"))
    assert await host.get("m1") == before


async def test_with_a_queue_elsewhere_the_job_follows_the_record(
    host: Host, database_url: str, sqlite_databases: Databases, tmp_path: Path
) -> None:
    async with Queue(sqlite_databases.new(tmp_path / "queue"), records_url=database_url) as elsewhere:
        there = replace(host, queue=elsewhere)
        await there.registry().register(registered())
        await there.registry().register(registered())
        assert await there.jobs() == ["m1"]
        await there.store("m1")
        object_id = (await there.get("m1")).stored
        await there.registry().delete("m1")
        assert object_id is not None
        assert await there.jobs(DELETE) == [object_id.id]
    assert await host.jobs() == []


# Copy


async def test_a_copy_of_what_is_stored_is_complete_at_once(host: Host, registry: Registry) -> None:
    await registry.register(registered(filename="a.png", participants=("ana",)), ingest=False)
    source = await host.store("m1")
    record, created = await registry.copy(copied(participants=("bob",), conversation_id="c2"), source)
    assert created
    assert (record.status, record.stored) == (Status.COMPLETED, source.stored)
    assert (record.kind, record.filename) == ("image", "a.png")
    assert (record.participants, record.conversation_id) == (("bob",), "c2")
    assert await host.jobs() == []


async def test_a_copy_is_served_as_its_source_whatever_is_declared_for_it(host: Host, registry: Registry) -> None:
    # The source's type was sniffed from its bytes.
    await registry.register(registered(), ingest=False)
    source = await host.store("m1", content_type="image/png")
    record, _ = await registry.copy(copied(declared_type="text/html"), source)
    assert record.content_type == "image/png"


async def test_copying_again_changes_nothing(host: Host, registry: Registry) -> None:
    await registry.register(registered(), ingest=False)
    source = await host.store("m1")
    first, _ = await registry.copy(copied(), source)
    second, created = await registry.copy(copied(), source)
    assert not created
    assert second.stored == first.stored
    assert await host.records.doomed_objects() == []


async def test_a_copy_of_what_is_not_stored_yet_is_ingested_by_the_same_deadline(
    host: Host, registry: Registry
) -> None:
    soon = datetime.now(UTC) + timedelta(hours=3)
    source, _ = await registry.register(message("m1", expires_at=soon), ingest=False)
    record, created = await registry.copy(copied(), source)
    assert created
    assert (record.status, record.provider_media_id) == (Status.PENDING, "media-of-m1")
    assert record.expires_at == soon
    assert await host.jobs() == ["m2"]


async def test_a_copy_may_be_registered_without_its_ingest(host: Host, registry: Registry) -> None:
    source, _ = await registry.register(registered(), ingest=False)
    await registry.copy(copied(), source, ingest=False)
    assert await host.jobs() == []


# Retry


async def test_a_retry_forgets_every_failure(host: Host, registry: Registry) -> None:
    await registry.register(registered(), ingest=False)
    await host.records.mark("m1", Status.FAILED, error="media-expired", attempt=4)
    record = await host.get("m1")
    assert record.ref is not None
    await registry.retry(record)
    assert host.forgotten == [record.ref]
    record = await host.get("m1")
    assert (record.status, record.error, record.attempts) == (Status.PENDING, None, 0)
    (job,) = await host.queue.jobs()
    assert (job.kind, job.subject, job.queue) == (INGEST, "m1", HIGH)


async def test_retrying_twice_writes_one_job(host: Host, registry: Registry) -> None:
    record, _ = await registry.register(registered(), ingest=False)
    await asyncio.gather(registry.retry(record), registry.retry(record))
    assert await host.jobs() == ["m1"]


# Delete


async def test_a_deleted_message_is_gone_at_once_and_its_bytes_by_a_job(host: Host, registry: Registry) -> None:
    await registry.register(registered(), ingest=False)
    known = (await host.store("m1")).stored
    await host.cache.get("m1")
    assert await registry.delete("m1")
    cached = await host.cache.get("m1")
    assert cached is not None
    assert cached.deleted_at is not None
    assert known is not None
    (job,) = await host.queue.jobs()
    assert (job.kind, job.subject, job.queue) == (DELETE, known.id, LOW)


async def test_an_object_goes_with_the_last_message_that_refers_to_it(host: Host, registry: Registry) -> None:
    await registry.register(registered(), ingest=False)
    source = await host.store("m1")
    await registry.copy(copied(), source)
    await registry.delete("m1")
    assert await host.jobs(DELETE) == []
    assert (await host.get("m2")).stored == source.stored
    await registry.delete("m2")
    assert source.stored is not None
    assert await host.jobs(DELETE) == [source.stored.id]


async def test_what_is_not_stored_is_deleted_with_its_spool(host: Host, registry: Registry) -> None:
    record, _ = await registry.register(registered(), ingest=False)
    assert record.ref is not None
    await _fly(host, record)
    assert host.spools.data(record.spool).exists()
    assert await registry.delete("m1")
    assert not host.spools.data(record.spool).exists()
    assert await host.jobs(DELETE) == []


async def _fly(host: Host, record: MediaRecord) -> None:
    async def not_stored() -> bool:
        return False

    assert record.ref is not None
    order = Order(ref=record.ref, declared_type=None, declared_sha256=None)
    async with host.flights.join(record.spool, order, recheck=not_stored) as flight:
        await flight.landed(10)


async def test_deleting_again_or_the_unknown_does_nothing(registry: Registry) -> None:
    await registry.register(registered(), ingest=False)
    assert await registry.delete("m1")
    assert not await registry.delete("m1")
    assert not await registry.delete("unknown")


async def test_a_tombstone_is_brought_back_by_a_put_but_not_by_a_webhook(host: Host, registry: Registry) -> None:
    simulator = Simulator()
    body = encode(simulator.webhooks.payload(simulator.webhooks.media(simulator.add(b"x", "image/jpeg"), wamid="m1")))
    intake = Intake(records=host.records, queue=host.queue, ingest=True)
    assert (await intake.accept(body, route=lambda _: "w1")).new == 1
    await registry.delete("m1")
    assert (await intake.accept(body, route=lambda _: "w1")).new == 0
    assert (await host.get("m1")).deleted_at is not None
    record, created = await registry.register(registered())
    assert created
    assert (record.deleted_at, record.status) == (None, Status.PENDING)
