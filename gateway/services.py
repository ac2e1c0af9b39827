"""The composition root: opens every collaborator once, in order of dependency, and closes them in reverse."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.auth import Gatekeeper, Signer
from gateway.media import MediaReader
from gateway.messages import Messages
from gateway.metrics import Metrics
from gateway.operations import Operations
from gateway.settings import ConfigurationError, Settings
from gateway.webhooks import Subscription, Webhooks
from ingest.queue import HIGH, INGEST, Queue
from ingest.registry import Registry
from ingest.webhook import Intake
from ingest.whatsapp.budget import BudgetedOrigin
from ingest.whatsapp.client import WhatsAppClient
from ingest.whatsapp.dialling import HostRules
from ingest.whatsapp.provider import GRAPH_URL, META_HOST_RULES, PROFILES, Account, Provider
from storage.cache import BodyCache, RecordCache
from storage.database import open_engine
from storage.flights import Flights
from storage.local import LocalStore
from storage.middleware import MeteredStore, RetryingStore
from storage.record import MediaRecord
from storage.records import Records
from storage.retrieval import Retrieval
from storage.s3 import R2Store, S3Config, S3Store
from storage.settings import StorageSettings
from storage.spool import Spools
from storage.store import ObjectStore

CACHED_ITEM = 4 * 1024**2  # bytes; a larger body is never kept in memory
DRAIN = 5.0  # seconds that downloads which nobody waits for any more have to end
WORKSPACE = "default"
DIALOG360_URL = "https://waba-v2.360dialog.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """What the gateway and the worker both stand on."""

    settings: Settings
    metrics: Metrics
    registry: CollectorRegistry
    engine: AsyncEngine
    records: Records
    queue: Queue
    store: ObjectStore
    spools: Spools
    origin: BudgetedOrigin
    flights: Flights
    sweep_store: Callable[[timedelta], Awaitable[int]]
    """Deletes what processes that were killed a while ago have left unfinished in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The gateway's endpoints, ready to answer."""

    foundation: Foundation
    media: MediaReader
    messages: Messages
    webhooks: Webhooks
    operations: Operations
    signer: Signer


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
        origin = await stack.enter_async_context(open_origin(settings, metrics))
        flights = Flights(spools, origin, observer=metrics)
        stack.push_async_callback(flights.drain, DRAIN)
        yield Foundation(
            settings=settings,
            metrics=metrics,
            registry=registry,
            engine=engine,
            records=Records(engine),
            queue=queue,
            store=store,
            spools=spools,
            origin=origin,
            flights=flights,
            sweep_store=_sweeper(settings.storage),
        )


def _sweeper(settings: StorageSettings) -> Callable[[timedelta], Awaitable[int]]:
    async def nothing(_: timedelta) -> int:  # the vendor's own lifecycle ends what was begun and left
        return 0

    return LocalStore(settings.path).sweep if settings.backend == "local" else nothing


@asynccontextmanager
async def open_store(settings: StorageSettings, metrics: Metrics) -> AsyncIterator[ObjectStore]:
    """Open the configured backend behind its policy."""
    async with AsyncExitStack() as stack:
        store: ObjectStore
        if settings.backend == "local":
            store = LocalStore(settings.path)
        elif settings.backend == "s3":
            store = await stack.enter_async_context(S3Store(_s3_config(settings)))
        else:
            store = await stack.enter_async_context(R2Store(_r2_config(settings)))
        yield MeteredStore(RetryingStore(store), metrics.storage_operation)


def _s3_config(settings: StorageSettings) -> S3Config:
    secret, session_token = settings.s3_secret_access_key, settings.s3_session_token
    return S3Config(
        bucket=settings.s3_bucket or "",
        region=settings.s3_region,
        endpoint_url=settings.s3_endpoint,
        access_key_id=settings.s3_access_key_id,
        secret_access_key=secret.get_secret_value() if secret else None,
        session_token=session_token.get_secret_value() if session_token else None,
        addressing_style=settings.s3_addressing_style,
    )


def _r2_config(settings: StorageSettings) -> S3Config:
    secret = settings.r2_secret_access_key
    return S3Config.for_r2(
        account_id=settings.r2_account_id or "",
        bucket=settings.r2_bucket or "",
        access_key_id=settings.r2_access_key_id or "",
        secret_access_key=secret.get_secret_value() if secret else "",
        endpoint_url=settings.r2_endpoint,
    )


@asynccontextmanager
async def open_origin(settings: Settings, metrics: Metrics) -> AsyncIterator[BudgetedOrigin]:
    """Open the provider's client behind its error budget."""
    provider, accounts = _provider(settings), _accounts(settings)
    async with WhatsAppClient(provider, accounts, observe=metrics.provider_call) as client:
        yield BudgetedOrigin(client, breaker=provider.profile.breaker)


def check_provider(settings: Settings) -> None:
    """Raise ConfigurationError where the settings of the provider are such that it could not be asked."""
    _provider(settings)
    _accounts(settings)


def _provider(settings: Settings) -> Provider:
    """Return the provider's API as configured; raises ConfigurationError where it is malformed."""
    ingest = settings.ingest
    profile = PROFILES[ingest.provider]
    default = DIALOG360_URL if ingest.provider == "360dialog" else GRAPH_URL
    try:
        hosts = HostRules.parse(ingest.download_hosts) if ingest.download_hosts else META_HOST_RULES
    except ValueError as error:
        raise ConfigurationError(f"WHATSAPP_DOWNLOAD_HOSTS: {error}") from None
    try:
        return Provider(
            base_url=ingest.graph_url or default,
            api_version=f"v{ingest.api_version.removeprefix('v')}",
            profile=profile,
            hosts=hosts,
        )
    except ValueError as error:
        raise ConfigurationError(f"WHATSAPP_GRAPH_URL: {error}") from None


def _accounts(settings: Settings) -> Mapping[str, Account]:
    token = settings.ingest.access_token.get_secret_value()
    if not token:
        return {}
    try:
        account = Account(workspace_id=WORKSPACE, access_token=token, phone_number_id=settings.ingest.phone_number_id)
    except ValueError as error:
        raise ConfigurationError(f"WHATSAPP_ACCESS_TOKEN: {error}") from None
    return {WORKSPACE: account}


@asynccontextmanager
async def open_services(settings: Settings, metrics: Metrics, registry: CollectorRegistry) -> AsyncIterator[Services]:
    """Open the foundation and build the endpoints over it."""
    async with open_foundation(settings, metrics, registry) as foundation:
        yield build_services(foundation)


def build_services(foundation: Foundation) -> Services:
    """Build the endpoints."""
    settings, records, queue = foundation.settings, foundation.records, foundation.queue
    signer = Signer(settings.gateway.keys(), public_url=settings.gateway.public_url)
    api_keys = [key.get_secret_value() for key in settings.gateway.api_keys]
    gatekeeper = Gatekeeper(signer, api_keys, enabled=settings.gateway.auth == "on")
    cached_records = RecordCache(records.get)
    bodies = BodyCache(settings.storage.cache_bytes, max_item=CACHED_ITEM)
    wants_ingest = settings.ingest.ingest != "off"
    registry = Registry(
        records=records,
        cache=cached_records,
        queue=queue,
        flights=foundation.flights,
        forget=foundation.origin.forget,
        ingest=wants_ingest,
    )
    return Services(
        foundation=foundation,
        media=MediaReader(
            gatekeeper=gatekeeper,
            records=cached_records,
            retrieval=_retrieval(foundation, bodies),
            metrics=foundation.metrics,
        ),
        messages=Messages(gatekeeper=gatekeeper, signer=signer, registry=registry),
        webhooks=Webhooks(
            {WORKSPACE: _subscription(settings)},
            Intake(records=records, queue=queue, ingest=wants_ingest),
            foundation.metrics,
        ),
        operations=_operations(foundation, bodies),
        signer=signer,
    )


def _retrieval(foundation: Foundation, bodies: BodyCache) -> Retrieval:
    async def landed(record: MediaRecord) -> None:
        if foundation.settings.ingest.ingest == "all":
            await foundation.queue.enqueue(INGEST, record.message_id, HIGH)

    return Retrieval(
        cache=bodies,
        store=foundation.store,
        flights=foundation.flights,
        reload=foundation.records.get,
        landed=landed,
        observer=foundation.metrics,
        storage_first=foundation.settings.gateway.storage_first == "on",
    )


def _operations(foundation: Foundation, bodies: BodyCache) -> Operations:
    return Operations(
        probes={
            "database": foundation.records.check,
            "queue": foundation.queue.check,
            "storage": foundation.store.check,
        },
        breakers=foundation.origin.states,
        records=foundation.records,
        queue=foundation.queue,
        cache=bodies,
        metrics=foundation.metrics,
        registry=foundation.registry,
    )


def _subscription(settings: Settings) -> Subscription:
    secret = settings.ingest.app_secret.get_secret_value()
    return Subscription(
        app_secrets=(secret,) if secret else (), verify_token=settings.ingest.verify_token.get_secret_value()
    )
