"""Purges as jobs of a real worker: from the host's deletion to the CDN that has forgotten, through bad days too."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.cdn.cloudfront import CloudFrontInvalidation
from ingest.cdn.purge import PurgeFailed, Purger, PurgeRefused, PurgeThrottled
from ingest.processing.pool import Event
from ingest.processing.steps import Source
from ingest.purging import PurgeOrders, Purging
from ingest.queue import DEAD, PURGE, WAITING, Queue
from ingest.registry import Registry
from ingest.rendering import Rendering
from ingest.tasks import Failure, next_delay
from ingest.worker import Upkeep, Worker
from ingest.workflows import PURGE_DELAYS, Workflows
from storage.cache import RecordCache
from storage.database import Database
from storage.flights import Flights
from storage.liveness import Liveness
from storage.memory import MemoryStore
from storage.record import Status
from storage.renditions import Renditions
from storage.spool import Spools
from tests.ingest.cdn.conftest import KEYS, ScriptedApi, answer, invalidations
from tests.ingest.cdn.purgers import ScriptedCdn
from tests.ingest.node import Node, ScriptedOrigin, open_node
from tests.ingest.site import Site
from tests.messages import message, stored
from tests.running import command, environment, eventually, until

FOR_EVER = 3600.0  # seconds: only a full batch goes
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class NoPool:
    """Processes nothing."""

    async def process(
        self, source: Source, folder: Path, *, wanted: frozenset[str] | None = None
    ) -> AsyncGenerator[Event, None]:
        nothing: tuple[Event, ...] = ()
        for event in nothing:
            yield event


@dataclass(slots=True)
class Counts:
    ended: list[tuple[str, str]] = field(default_factory=list)

    def job_ended(self, kind: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.ended.append((kind, outcome))

    def variant_made(self, name: str, original: int, size: int) -> None:
        self.ended.append((name, "made"))

    def quarantined(self) -> None:
        self.ended.append(("medium", "quarantined"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A host's registry, and a worker that runs in this process."""

    url: str
    engine: Database
    queue: Queue
    node: Node
    flights: Flights
    counts: Counts = field(default_factory=Counts)
    sweeps: list[timedelta] = field(default_factory=list)

    @property
    def registry(self) -> Registry:
        return Registry(
            records=self.node.records,
            renditions=Renditions(self.engine),
            cache=RecordCache(self.node.records.get),
            queue=self.queue,
            flights=self.flights,
            forget=lambda _: None,
            ingest=False,
            purges=PurgeOrders(self.queue, self.node.records, settled=0.0),
        )

    async def deletes(self, *message_ids: str) -> None:
        for message_id in message_ids:
            await self.node.records.register(message(message_id))
            assert await self.registry.delete(message_id)

    @asynccontextmanager
    async def worker(self, purger: Purger | None, *, window: float = 0.01) -> AsyncIterator[None]:
        """Run jobs until the end of the block."""
        purging = Purging(purger, window=window)
        renditions = Renditions(self.engine)
        rendering = Rendering(
            renditions=renditions,
            store=self.node.store,
            pool=NoPool(),
            scratch=self.node.folder / "scratch",
            scanner=None,
            observer=self.counts,
        )

        async def sweep_files(age: timedelta) -> int:
            self.sweeps.append(age)  # the last that a sweep does
            return 0

        worker = Worker(
            queue_url=self.url,
            queue=self.queue,
            records=self.node.records,
            renditions=renditions,
            flights=self.flights,
            liveness=Liveness(self.engine),
            sweep_files=sweep_files,
            upkeep=Upkeep(interval=0.1),
            on_beat=lambda: None,
        )
        loop = asyncio.get_running_loop()
        running = worker.running(
            lambda: Workflows(
                self.node.tasks, rendering, purging, loop, delays=(), purge_delays=(0.1, 0.1), observer=self.counts
            ),
            concurrency=1,
            processors=1,
            purges=purging.batch_size,
            polling=0.05,
            grace=5.0,
        )
        async with running:
            yield

    async def swept(self) -> None:
        """Wait for a sweep that begins after this."""
        before = len(self.sweeps)
        await until(lambda: len(self.sweeps) > before + 1)

    async def idle(self) -> bool:
        """Whether nothing waits or runs."""
        return not await self.queue.jobs(status=(*WAITING, "PENDING"))


@pytest.fixture
async def here(engine: Database, database_url: str, tmp_path: Path) -> AsyncIterator[Installation]:
    spools = Spools(tmp_path / "registry")
    flights = Flights(spools, ScriptedOrigin())
    async with (
        Queue(database_url, records_url=database_url) as queue,
        open_node(tmp_path, engine, MemoryStore()) as node,
    ):
        yield Installation(url=database_url, engine=engine, queue=queue, node=node, flights=flights)
    await flights.drain(1)
    spools.close()


async def test_what_the_host_deletes_cloudfront_forgets(
    here: Installation, aws: Any, moto_url: str, distribution: str
) -> None:
    await here.deletes("m1")
    async with (
        CloudFrontInvalidation(
            distribution,
            by_tag=True,
            endpoint_url=moto_url,
            access_key_id=KEYS["access_key_id"],
            secret_access_key=KEYS["secret_access_key"],
        ) as purger,
        here.worker(purger),
    ):
        await eventually(here.idle)
    (batch,) = await invalidations(aws, distribution)
    assert batch["Paths"]["Items"] == ["#m-m1"]
    assert here.counts.ended == [(PURGE, "purged")]


async def test_many_deletions_share_few_requests(here: Installation) -> None:
    cdn = ScriptedCdn(batch_size=10)
    names = [f"m{number}" for number in range(30)]
    await here.deletes(*names)
    async with here.worker(cdn, window=FOR_EVER):
        await eventually(here.idle)
    assert cdn.sizes() == [10, 10, 10]
    assert sorted(cdn.names()) == sorted(names)


async def test_a_cdn_that_is_down_is_asked_again_and_forgets_in_the_end(here: Installation) -> None:
    cdn = ScriptedCdn(failures=deque([PurgeFailed("down"), RuntimeError("a bug")]))
    await here.deletes("m1")
    async with here.worker(cdn):
        await eventually(here.idle)
    assert cdn.names() == ["m1"] * 3
    assert here.counts.ended == [(PURGE, "retried"), (PURGE, "retried"), (PURGE, "purged")]


@on_sqlite
async def test_every_attempt_names_the_same_moment_even_if_the_message_has_come_back_meanwhile(
    here: Installation,
) -> None:
    cdn = ScriptedCdn(failures=deque([PurgeFailed("down")]), gate=asyncio.Event())
    await here.deletes("m1")
    async with here.worker(cdn):
        await until(lambda: cdn.running)
        await here.registry.register(message("m1"))
        assert cdn.gate is not None
        cdn.gate.set()
        await eventually(here.idle)
    (first,), (second,) = cdn.asked
    assert first == second


@on_sqlite
async def test_a_purge_that_fails_to_the_end_stays_to_be_seen_and_is_done_again_by_hand(here: Installation) -> None:
    cdn = ScriptedCdn(failures=deque([PurgeFailed("down")] * 3))
    await here.deletes("m1")
    env = environment(here.node.folder, MEDIA_DATABASE_URL=here.url)
    async with here.worker(cdn):
        (dead,) = await eventually(lambda: here.queue.jobs(status=DEAD))
        assert (dead.kind, dead.subject, dead.attempt) == (PURGE, "m1", 2)
        assert "cdn-unavailable: down" in (dead.error or "")
        await here.swept()
        assert await here.queue.jobs(status=DEAD) == [dead], "the record is a tombstone, which answers nothing here"

        assert (await command("jobs", "retry", "--dead", env=env)).stdout == "1 enqueued\n"
        await until(lambda: (PURGE, "purged") in here.counts.ended)
    assert await here.queue.jobs(status=DEAD) == []


@on_sqlite
async def test_a_cdn_that_refuses_is_not_asked_again(here: Installation) -> None:
    cdn = ScriptedCdn(failures=deque([PurgeRefused("no permission")]))
    await here.deletes("m1")
    async with here.worker(cdn):
        (dead,) = await eventually(lambda: here.queue.jobs(status=DEAD))
    assert (dead.attempt, here.counts.ended) == (0, [(PURGE, "dead")])


def test_a_cdn_that_is_down_is_asked_for_three_quarters_of_an_hour() -> None:
    busy = Failure.of(PurgeThrottled("busy", retry_after=900.0))
    down = Failure.of(PurgeFailed("down"))
    attempts = range(len(PURGE_DELAYS) + 1)
    assert [next_delay(down, attempt, PURGE_DELAYS) for attempt in attempts] == [60, 120, 300, 600, 1800, None]
    assert [next_delay(busy, attempt, PURGE_DELAYS) for attempt in attempts] == [900, 900, 900, 900, 1800, None]


@on_sqlite
async def test_a_worker_is_configured_by_its_environment(site: Site, api: ScriptedApi) -> None:
    api.script = [answer(b'{"success": true}')]
    cdn = {"MEDIA_CDN": "cloudflare", "MEDIA_CDN_URL": "https://media.example.com", "MEDIA_CDN_ENDPOINT_URL": api.url}
    zone = {"MEDIA_CDN_ZONE": "023e105f4ecef8ad9ca31a8372d0c353", "MEDIA_CDN_API_TOKEN": "secret"}
    await site.announce("m1", job=False)
    held = await site.records.adopt("m1", stored(workspace_id="default"), content_type="image/jpeg")
    assert held is not None
    await site.records.mark("m1", Status.COMPLETED)
    await PurgeOrders(site.queue, site.records, settled=0.0).of_object(held.id)
    with site.worker(**cdn, **zone):
        await until(lambda: api.bodies)
    assert api.orders == [{"tags": ["m-m1"]}]


@on_sqlite
async def test_without_a_cdn_an_order_that_is_left_ends_with_its_reason(here: Installation) -> None:
    await here.deletes("m1")
    async with here.worker(None):
        (dead,) = await eventually(lambda: here.queue.jobs(status=DEAD))
    assert (dead.kind, dead.subject) == (PURGE, "m1")
    assert dead.error == "cdn-refused: No CDN is configured."
