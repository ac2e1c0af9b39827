"""The composition root: opens every collaborator once, in order of dependency, and closes them in reverse."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import httpx
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission import Admission
from gateway.audit import Audit
from gateway.auth import Gatekeeper
from gateway.cdn import open_purger
from gateway.delivery import Delivery
from gateway.forwarded import ALB, NGINX, Networks
from gateway.info import Infos
from gateway.jwks import open_jwks
from gateway.media import MediaReader
from gateway.messages import Messages
from gateway.metrics import Metrics
from gateway.minting import Minter
from gateway.operations import Operations
from gateway.settings import ConfigurationError, GatewaySettings, Settings
from gateway.showing import Showing
from gateway.signing import Signer
from gateway.tokens import Keys, SharedSecret, Verifier
from gateway.urls import Urls
from gateway.webhooks import Webhooks
from gateway.workspaces import read_workspaces
from ingest.cdn.purge import Purger
from ingest.processing.limits import Limits
from ingest.processing.pool import Pool
from ingest.processing.steps import Ceilings
from ingest.purging import PurgeOrders
from ingest.queue import HIGH, INGEST, Queue
from ingest.registry import Registry
from ingest.rendering import Rendering
from ingest.scanner import ClamAddress, Scanner
from ingest.subscriptions import Subscriptions
from ingest.webhook import Intake
from ingest.whatsapp.accounts import Accounts
from ingest.whatsapp.budget import MAX_REMEMBERED, BudgetedOrigin
from ingest.whatsapp.client import WhatsAppClient
from ingest.workspaces import Workspace
from storage.cache import BodyCache, RecordCache, VariantCache
from storage.database import open_engine
from storage.flights import Flights
from storage.local import LocalStore
from storage.middleware import MeteredStore, RetryingStore
from storage.record import MediaRecord
from storage.records import Records
from storage.renditions import Renditions
from storage.retrieval import Retrieval
from storage.s3 import R2Store, S3Config, S3Store
from storage.settings import StorageSettings
from storage.spool import Spools
from storage.store import ObjectStore, Presigner

CACHED_ITEM = 4 * 1024**2  # bytes; a larger body is never kept in memory
MIN_REMEMBERED = 1000  # answers of the provider, for each account however many there are
DRAIN = 5.0  # seconds that downloads which nobody waits for any more have to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """What the gateway and the worker both stand on."""

    settings: Settings
    metrics: Metrics
    registry: CollectorRegistry
    engine: AsyncEngine
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The gateway's endpoints, ready to answer."""

    foundation: Foundation
    media: MediaReader
    messages: Messages
    urls: Urls
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
async def open_origin(workspaces: Iterable[Workspace], metrics: Metrics) -> AsyncIterator[Accounts]:
    """Open a client for every account, each behind an error budget of its own."""
    accounts = [(workspace.provider, workspace.account) for workspace in workspaces if workspace.account is not None]
    origins: dict[str, BudgetedOrigin] = {}
    async with AsyncExitStack() as stack:
        trusted = httpx.create_ssl_context(trust_env=False) if accounts else None
        for provider, account in accounts:
            client = WhatsAppClient(provider, account, observe=metrics.provider_call, ssl_context=trusted)
            origins[account.workspace_id] = BudgetedOrigin(
                await stack.enter_async_context(client),
                breaker=provider.profile.breaker,
                capacity=max(MIN_REMEMBERED, MAX_REMEMBERED // len(accounts)),
            )
        yield Accounts(origins)


async def check(settings: Settings) -> None:
    """Raise ConfigurationError where the settings are such that no provider could be asked, or no token verified."""
    await asyncio.to_thread(read_workspaces, settings)
    async with open_verifier(settings.gateway):
        pass


@asynccontextmanager
async def open_services(settings: Settings, metrics: Metrics, registry: CollectorRegistry) -> AsyncIterator[Services]:
    """Open the foundation and build the endpoints over it."""
    async with open_verifier(settings.gateway) as verifier, open_foundation(settings, metrics, registry) as foundation:
        yield _services(foundation, verifier)


def _services(foundation: Foundation, verifier: Verifier | None) -> Services:
    """Build the endpoints."""
    settings, records, queue = foundation.settings, foundation.records, foundation.queue
    signer = Signer(settings.gateway.keys(), public_url=settings.gateway.public_url)
    minter = Minter(signer, settings.cdn.edge())
    admission = _admission(foundation, signer, verifier)
    cached_records = RecordCache(records.get)
    bodies = BodyCache(settings.storage.cache_bytes, max_item=CACHED_ITEM)
    wants_ingest = settings.ingest.ingest != "off"
    registry = Registry(
        records=records,
        renditions=foundation.renditions,
        cache=cached_records,
        queue=queue,
        flights=foundation.flights,
        forget=foundation.origin.forget,
        ingest=wants_ingest,
        purges=foundation.purges,
    )
    return Services(
        foundation=foundation,
        media=MediaReader(
            admission=admission,
            records=cached_records,
            retrieval=_retrieval(foundation, bodies),
            showing=Showing(variants=VariantCache(foundation.renditions.of), rendering=foundation.rendering),
            delivery=_delivery(foundation, minter),
            metrics=foundation.metrics,
        ),
        messages=Messages(admission=admission, registry=registry, infos=Infos(foundation.renditions, minter)),
        urls=Urls(admission=admission, minter=minter, registry=registry),
        webhooks=Webhooks(
            Subscriptions(foundation.workspaces.values()),
            Intake(records=records, queue=queue, ingest=wants_ingest),
            foundation.metrics,
        ),
        operations=_operations(foundation, bodies),
        signer=signer,
    )


def _delivery(foundation: Foundation, minter: Minter) -> Delivery:
    settings, store = foundation.settings.gateway, foundation.store
    # A CDN that cannot prove itself would be sent to itself, for ever.
    at_edge = foundation.settings.cdn.edge() is not None and (settings.origin_secrets or settings.mtls != "off")
    return Delivery(
        store if isinstance(store, Presigner) else None,
        minter if at_edge else None,
        mode=settings.delivery if settings.storage_first == "on" else "proxy",
        life=settings.redirect_life,
    )


def _admission(foundation: Foundation, signer: Signer, verifier: Verifier | None) -> Admission:
    settings = foundation.settings.gateway
    gatekeeper = Gatekeeper(
        signer,
        [key.get_secret_value() for key in settings.api_keys],
        verifier=verifier,
        origin_secrets=[secret.get_secret_value() for secret in settings.origin_secrets],
        origin_subjects=settings.mtls_subjects,
        enabled=settings.auth == "on",
    )
    audited = {*settings.audit, *(name for name, each in foundation.workspaces.items() if each.audit)}
    return Admission(
        gatekeeper,
        Audit("*" if "*" in audited else frozenset(audited)),
        trusted=Networks.parse(settings.trusted_proxies),
        certificates={"off": None, "nginx": NGINX, "alb": ALB}[settings.mtls],
    )


@asynccontextmanager
async def open_verifier(settings: GatewaySettings) -> AsyncIterator[Verifier | None]:
    """Open what tells whose a token is; None where no token is accepted.

    Raises:
        ConfigurationError: The secret or the keys are such that no token could be verified.
    """
    sources: list[Keys] = []
    async with AsyncExitStack() as stack:
        try:
            if settings.jwt_secret is not None:
                sources.append(SharedSecret(settings.jwt_secret.get_secret_value().encode()))
        except ValueError as error:
            raise ConfigurationError(f"MEDIA_JWT_SECRET: {error}") from None
        try:
            if settings.jwks is not None:
                sources.append(await stack.enter_async_context(open_jwks(settings.jwks)))
        except ValueError as error:
            raise ConfigurationError(f"MEDIA_JWKS: {error}") from None
        yield Verifier(sources, audience=settings.jwt_audience, issuer=settings.jwt_issuer) if sources else None


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
    token = foundation.settings.gateway.operations_token
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
        token=token.get_secret_value() if token is not None else None,
    )
