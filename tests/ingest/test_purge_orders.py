"""What orders a purge: deletions, other media, malware; each as durable as what it is for, on both databases."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import Connection

from ingest.purging import SETTLED, PurgeOrders
from ingest.queue import DELETE, PURGE, PURGES, Queue
from ingest.registry import Registry
from storage.cache import RECORD_TTL, RecordCache
from storage.database import Database
from storage.errors import RecordsUnavailable
from storage.flights import Flights
from storage.record import MediaRecord, NewMessage
from storage.records import Records
from storage.renditions import Renditions
from storage.spool import Spools
from tests.databases import Databases
from tests.ingest.node import ScriptedOrigin
from tests.messages import message, stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A registry in front of which there is a CDN, and all that it works on."""

    engine: Database
    records: Records
    flights: Flights
    queue: Queue

    @property
    def orders(self) -> PurgeOrders:
        return PurgeOrders(self.queue, self.records)

    def registry(self, *, cdn: bool = True) -> Registry:
        return Registry(
            records=self.records,
            renditions=Renditions(self.engine),
            cache=RecordCache(self.records.get),
            queue=self.queue,
            flights=self.flights,
            forget=lambda _: None,
            ingest=False,
            purges=self.orders if cdn else None,
        )

    async def store(self, *new: NewMessage) -> list[MediaRecord]:
        """Let messages refer to one object."""
        found = []
        for each in new:
            await self.records.register(each)
            assert await self.records.adopt(each.message_id, stored(), content_type="image/jpeg") is not None
            record = await self.records.get(each.message_id)
            assert record is not None
            found.append(record)
        return found

    async def jobs(self, kind: str = PURGE) -> Counter[str]:
        return Counter(job.subject for job in await self.queue.jobs() if job.kind == kind)


@pytest.fixture
async def queue(database_url: str) -> AsyncIterator[Queue]:
    async with Queue(database_url, records_url=database_url) as opened:
        yield opened


@pytest.fixture
async def host(engine: Database, queue: Queue, tmp_path: Path) -> AsyncIterator[Host]:
    spools = Spools(tmp_path / "spool")
    flights = Flights(spools, ScriptedOrigin())
    yield Host(engine=engine, records=Records(engine), flights=flights, queue=queue)
    await flights.drain(1)
    spools.close()


@pytest.fixture
def registry(host: Host) -> Registry:
    return host.registry()


# Deleted


async def test_every_deleted_message_is_purged_even_where_its_object_stays(host: Host, registry: Registry) -> None:
    await host.store(message("m1"), message("m2"))
    await registry.register(message("not-stored"))
    for name in ("m1", "not-stored"):
        assert await registry.delete(name)
    assert await host.jobs() == {"m1": 1, "not-stored": 1}
    assert await host.jobs(DELETE) == {}
    assert await registry.delete("m2")
    assert await host.jobs() == {"m1": 1, "not-stored": 1, "m2": 1}


async def test_what_is_unknown_is_not_purged(host: Host, registry: Registry) -> None:
    await registry.delete("unknown")
    assert await host.jobs() == {}


async def test_who_deletes_again_has_it_purged_again(host: Host, registry: Registry) -> None:
    await registry.register(message())
    assert await registry.delete("m1")
    assert not await registry.delete("m1")
    assert await host.jobs() == {"m1": 2}


async def test_a_later_deletion_of_a_message_is_a_purge_of_its_own(host: Host, registry: Registry) -> None:
    for _ in range(2):
        await registry.register(message())
        assert await registry.delete("m1")
    assert await host.jobs() == {"m1": 2}


async def test_a_purge_waits_until_no_process_believes_what_it_has_read_before(host: Host, registry: Registry) -> None:
    await registry.register(message())
    await registry.delete("m1")
    (job,) = await host.queue.jobs()
    assert (job.kind, job.subject, job.queue, job.status) == (PURGE, "m1", PURGES, "DELAYED")
    assert SETTLED > RECORD_TTL


async def test_tombstone_and_purge_become_durable_together_or_not_at_all(host: Host) -> None:
    def fail(_connection: Connection, _ids: Sequence[str]) -> None:
        raise OSError

    await host.store(message("m1"))
    with pytest.raises(RecordsUnavailable):
        async with host.orders.together() as purge:
            await host.records.delete("m1", and_then=purge, and_if_doomed=fail)  # the purge is written by then
    record = await host.records.get("m1")
    assert record is not None
    assert record.deleted_at is None
    assert await host.jobs() == {}


async def test_without_a_purge_there_is_no_tombstone(host: Host, queue: Queue) -> None:
    await host.store(message("m1"))
    within = await queue.within(PURGE, PURGES)
    assert within is not None

    def fails_late(connection: Connection, ids: Sequence[str]) -> None:
        within(connection, ids)
        raise OSError

    with pytest.raises(RecordsUnavailable):
        await host.records.delete("m1", and_then=fails_late)
    record = await host.records.get("m1")
    assert record is not None
    assert record.deleted_at is None
    assert await host.jobs() == {}


# Replaced


async def test_another_medium_under_the_same_message_is_purged(host: Host, registry: Registry) -> None:
    await host.store(message("m1"))
    await registry.register(message("m1", provider_media_id="another"))
    assert await host.jobs() == {"m1": 1}


async def test_a_copy_in_place_of_another_medium_is_purged(host: Host, registry: Registry) -> None:
    (source,) = await host.store(message("m1"))
    await registry.register(message("m2"))
    await registry.copy(message("m2"), source)
    assert await host.jobs() == {"m2": 1}
    await registry.copy(message("m2"), source)
    await registry.copy(message("new"), source)
    assert await host.jobs() == {"m2": 1}


@pytest.mark.parametrize(
    "again",
    [message(), message(filename="a.jpg"), message(provider_media_id=None), message(participants=("ana",))],
    ids=["nothing changes", "its name", "no medium named", "who may see it"],
)
async def test_the_same_medium_is_not_purged(host: Host, registry: Registry, again: NewMessage) -> None:
    await registry.register(message())
    await registry.register(again)
    assert await host.jobs() == {}


async def test_a_message_brought_back_is_purged_for_its_deletion_alone(host: Host, registry: Registry) -> None:
    await registry.register(message())
    await registry.delete("m1")
    await registry.register(message(provider_media_id="another"))
    assert await host.jobs() == {"m1": 1}


# All messages of an object


async def test_all_messages_of_an_object_are_purged_and_no_others(host: Host, registry: Registry) -> None:
    (first, *_) = await host.store(message("m1"), message("m2"), message("m3"))
    await registry.register(message("other"))
    await host.records.delete("m3")
    assert first.stored is not None
    await host.orders.of_object(first.stored.id)
    assert await host.jobs() == {"m1": 1, "m2": 1}


# Without a CDN, and with a queue elsewhere


async def test_without_a_cdn_nothing_is_purged(host: Host) -> None:
    registry = host.registry(cdn=False)
    await registry.register(message("m1"))
    await registry.register(message("m1", provider_media_id="another"))
    await registry.delete("m1")
    assert await host.jobs() == {}


async def test_with_a_queue_elsewhere_the_purge_follows_the_record(
    host: Host, database_url: str, sqlite_databases: Databases, tmp_path: Path
) -> None:
    async with Queue(sqlite_databases.new(tmp_path / "queue"), records_url=database_url) as elsewhere:
        there = replace(host, queue=elsewhere)
        registry = there.registry()
        await registry.register(message("m1"))
        await registry.register(message("m1", provider_media_id="another"))
        await registry.delete("m1")
        assert await there.jobs() == {"m1": 2}
    assert await host.jobs() == {}


async def test_whoever_deletes_while_a_queue_elsewhere_is_away_is_told_and_repeats_it(
    host: Host, database_url: str, sqlite_databases: Databases, tmp_path: Path
) -> None:
    await host.records.register(message("m1"))
    async with Queue(f"sqlite:///{tmp_path}/none/queue.db", records_url=database_url) as away:
        with pytest.raises(RecordsUnavailable):
            await replace(host, queue=away).registry().delete("m1")
    async with Queue(sqlite_databases.new(tmp_path / "queue"), records_url=database_url) as back:
        there = replace(host, queue=back)
        assert not await there.registry().delete("m1")
        assert await there.jobs() == {"m1": 1}
