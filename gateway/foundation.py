"""What the gateway and the worker both stand on, opened in order of dependency and closed in reverse."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import CollectorRegistry

from gateway.cdn import open_purger
from gateway.metrics import Metrics
from gateway.settings import Settings
from gateway.stores import open_store
from gateway.workspaces import read_workspaces
from ingest.cdn.purge import Purger
from ingest.processing.limits import Limits
from ingest.processing.pool import Pool
from ingest.processing.steps import Ceilings
from ingest.purging import PurgeOrders
from ingest.queue import PROCESS, Queue, processing_queue
from ingest.rendering import Rendering
from ingest.scanner import ClamAddress, Scanner
from ingest.tasks import Tasks
from ingest.whatsapp.accounts import Accounts
from ingest.whatsapp.budget import MAX_REMEMBERED, BudgetedOrigin
from ingest.whatsapp.client import WhatsAppClient
from ingest.workspaces import Workspace
from storage.authorities import Authorities
from storage.database import Database, open_engine
from storage.flights import Flights
from storage.local import LocalStore
from storage.record import StoredObject
from storage.records import Records
from storage.renditions import Renditions
from storage.settings import StorageSettings
from storage.spool import Spools
from storage.store import ObjectStore

DRAIN = 5.0  # seconds that downloads which nobody waits for any more have to end
MIN_REMEMBERED = 1000  # answers of the provider, for each account however many there are


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """What the gateway and the worker both stand on."""

    settings: Settings
    metrics: Metrics
    registry: CollectorRegistry
    engine: Database
    records: Records
    renditions: Renditions
    rendering: Rendering
    queue: Queue
    store: ObjectStore
    spools: Spools
    workspaces: Mapping[str, Workspace]
    origin: Accounts
    flights: Flights
    purger: Purger | None
    """Has the CDN forget; None where there is none that could be told."""
    purges: PurgeOrders | None
    """Orders that; None likewise."""
    sweep_files: Callable[[timedelta], Awaitable[int]]
    """Deletes what processes that were killed a while ago have left unfinished in the store, or in work."""

    def tasks(self, process: Callable[[StoredObject], Awaitable[None]] | None = None) -> Tasks:
        """Return what a worker does; ``process`` is told of every new object instead of the queue."""
        return Tasks(
            records=self.records,
            renditions=self.renditions,
            store=self.store,
            flights=self.flights,
            spools=self.spools,
            forget=self.origin.forget,
            process=process or self._enqueue,
            deduplicated=self.metrics.deduplicated,
        )

    async def _enqueue(self, stored: StoredObject) -> None:
        await self.queue.enqueue(PROCESS, stored.id, processing_queue(stored.content_type))


@asynccontextmanager
async def open_foundation(
    settings: Settings, metrics: Metrics, registry: CollectorRegistry
) -> AsyncIterator[Foundation]:
    """Open database, queue, store, provider and flights."""
    async with AsyncExitStack() as stack:
        engine = open_engine(settings.storage.records_url)
        stack.push_async_callback(engine.dispose)
        queue = await stack.enter_async_context(Queue(settings.queue_url, records_url=settings.storage.records_url))
        store = await stack.enter_async_context(open_store(settings.storage, metrics))
        spools = await asyncio.to_thread(Spools, settings.storage.spool_path)
        stack.callback(spools.close)
        workspaces = await asyncio.to_thread(read_workspaces, settings)
        origin = await stack.enter_async_context(open_origin(workspaces.values(), metrics))
        renditions = Renditions(engine)
        records = Records(engine)
        purger = await stack.enter_async_context(open_purger(settings.cdn))
        purges = PurgeOrders(queue, records) if purger is not None else None
        rendering = await stack.enter_async_context(open_rendering(settings, renditions, store, metrics, purges))
        flights = Flights(spools, origin, observer=metrics)
        stack.push_async_callback(flights.drain, DRAIN)
        yield Foundation(
            settings=settings,
            metrics=metrics,
            registry=registry,
            engine=engine,
            records=records,
            renditions=renditions,
            rendering=rendering,
            queue=queue,
            store=store,
            spools=spools,
            workspaces=workspaces,
            origin=origin,
            flights=flights,
            purger=purger,
            purges=purges,
            sweep_files=_sweeper(settings.storage, rendering),
        )


def _sweeper(settings: StorageSettings, rendering: Rendering) -> Callable[[timedelta], Awaitable[int]]:
    async def sweep(older_than: timedelta) -> int:
        # Of a bucket, the vendor's own lifecycle ends what was begun and left.
        drafts = await LocalStore(settings.path).sweep(older_than) if settings.backend == "local" else 0
        return drafts + await rendering.sweep(older_than)

    return sweep


@asynccontextmanager
async def open_rendering(
    settings: Settings, renditions: Renditions, store: ObjectStore, metrics: Metrics, purges: PurgeOrders | None
) -> AsyncIterator[Rendering]:
    """Open the pool of children that decode media; none is started before it is needed."""
    processing = settings.processing
    pool = Pool(
        scratch=settings.storage.scratch_path,
        children=processing.children,
        limits=Limits(memory=processing.memory, seconds=processing.seconds),
        ceilings=Ceilings(pixels=processing.max_pixels, frames=processing.max_frames, seconds=processing.max_seconds),
        observer=metrics,
    )
    try:
        yield Rendering(
            renditions=renditions,
            store=store,
            pool=pool,
            scratch=settings.storage.scratch_path,
            scanner=Scanner(ClamAddress.parse(processing.clamd)) if processing.clamd else None,
            observer=metrics,
            purge=purges.of_object if purges is not None else None,
        )
    finally:
        await pool.aclose()


@asynccontextmanager
async def open_origin(workspaces: Iterable[Workspace], metrics: Metrics) -> AsyncIterator[Accounts]:
    """Open a client for every account, each behind an error budget of its own."""
    accounts = [(workspace.provider, workspace.account) for workspace in workspaces if workspace.account is not None]
    origins: dict[str, BudgetedOrigin] = {}
    async with AsyncExitStack() as stack:
        authorities = Authorities()
        for provider, account in accounts:
            client = WhatsAppClient(provider, account, observe=metrics.provider_call, authorities=authorities)
            origins[account.workspace_id] = BudgetedOrigin(
                await stack.enter_async_context(client),
                breaker=provider.profile.breaker,
                capacity=max(MIN_REMEMBERED, MAX_REMEMBERED // len(accounts)),
            )
        yield Accounts(origins)
