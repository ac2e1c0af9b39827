"""The composition root of the HTTP side: builds every endpoint over the foundation."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from gateway.acceleration import Acceleration
from gateway.accesslog import AccessLog
from gateway.admission import Admission
from gateway.answers import Answers
from gateway.audit import Audit
from gateway.auth import Gatekeeper
from gateway.delivery import Delivery, Redirection
from gateway.express import Express
from gateway.forwarded import ALB, NGINX, Networks
from gateway.foundation import Foundation, open_foundation
from gateway.info import Infos
from gateway.media import MediaReader
from gateway.messages import Messages
from gateway.metrics import Metrics
from gateway.minting import Minter
from gateway.operations import Operations
from gateway.settings import ConfigurationError, GatewaySettings, Settings
from gateway.shortcut import Way
from gateway.showing import Showing
from gateway.signing import Signer
from gateway.throttle import Tolls
from gateway.urls import Urls
from gateway.webhooks import Webhooks
from gateway.workspaces import read_workspaces
from ingest.queue import HIGH, INGEST
from ingest.registry import Registry
from ingest.subscriptions import Subscriptions
from ingest.webhook import Intake
from storage.bodies import BodyCache
from storage.cache import RecordCache, VariantCache
from storage.changes import Feed, following
from storage.record import MediaRecord
from storage.retrieval import Retrieval
from storage.store import Presigner

if TYPE_CHECKING:
    from gateway.tokens import Verifier


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
    express: Express
    shortcut: Way


async def check(settings: Settings) -> None:
    """Raise ConfigurationError where the settings are such that no provider could be asked, or no token verified."""
    await asyncio.to_thread(read_workspaces, settings)
    async with open_verifier(settings.gateway):
        pass


@asynccontextmanager
async def open_services(
    settings: Settings,
    metrics: Metrics,
    registry: CollectorRegistry,
    *,
    tolls: Tolls | None = None,
    access_log: AccessLog | None = None,
) -> AsyncIterator[Services]:
    """Open the foundation and build the endpoints over it; ``tolls`` and ``access_log`` are those of the middleware."""
    tolls, access_log = tolls or Tolls.of(settings.gateway), access_log or AccessLog(enabled=False)
    async with (
        open_verifier(settings.gateway) as verifier,
        open_foundation(settings, metrics, registry) as foundation,
        following(foundation.engine, metrics.record_feed_age.set) as feed,
    ):
        yield _services(foundation, feed, verifier, tolls, access_log)


def _services(
    foundation: Foundation, feed: Feed, verifier: "Verifier | None", tolls: Tolls, access_log: AccessLog
) -> Services:
    """Build the endpoints."""
    settings, records, queue = foundation.settings, foundation.records, foundation.queue
    signer = Signer(settings.gateway.keys(), public_url=settings.gateway.public_url)
    minter = Minter(signer, settings.cdn.edge())
    admission = _admission(foundation, signer, verifier)
    cached_records = RecordCache(records.get, feed=feed)
    cached_variants = VariantCache(foundation.renditions.of, feed=feed)
    bodies = BodyCache(
        settings.storage.cache_bytes,
        max_item=settings.storage.cache_item_bytes,
        evicted=foundation.metrics.cache_evicted,
    )
    answers = Answers(
        records=cached_records,
        variants=cached_variants,
        bodies=bodies,
        tolls=tolls,
        barred=admission.certificate_fields,
    )
    retrieval = _retrieval(foundation, bodies)
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
            retrieval=retrieval,
            showing=Showing(variants=cached_variants, rendering=foundation.rendering),
            delivery=_delivery(foundation, minter),
            metrics=foundation.metrics,
            answers=answers,
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
        express=Express(answers, metrics=foundation.metrics, access_log=access_log),
        shortcut=Way(answers, retrieval, foundation.metrics),
    )


def _delivery(foundation: Foundation, minter: Minter) -> Delivery:
    settings, store = foundation.settings.gateway, foundation.store
    presigner = store if isinstance(store, Presigner) else None
    mode = settings.delivery if settings.storage_first == "on" else "proxy"
    if mode == "accel":
        return Acceleration(presigner if store.backend != "local" else None, Networks.parse(settings.trusted_proxies))
    if mode == "proxy":
        return Redirection(None, life=settings.redirect_life)
    # A CDN that cannot prove itself would be sent to itself, for ever.
    at_edge = minter.at_edge and (settings.origin_secrets or settings.mtls != "off")
    return Redirection(presigner, minter if at_edge else None, life=settings.redirect_life)


def _admission(foundation: Foundation, signer: Signer, verifier: "Verifier | None") -> Admission:
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
async def open_verifier(settings: GatewaySettings) -> AsyncIterator["Verifier | None"]:
    """Open what tells whose a token is; None where no token is accepted.

    Raises:
        ConfigurationError: The secret or the keys are such that no token could be verified.
    """
    if settings.jwt_secret is None and settings.jwks is None:
        yield None
        return
    # Not above: what verifies signatures takes a thirtieth of a start, and a tenth of the memory.
    from gateway.jwks import open_jwks  # noqa: PLC0415 see above
    from gateway.tokens import Keys, SharedSecret, Verifier  # noqa: PLC0415 see above

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
        yield Verifier(sources, audience=settings.jwt_audience, issuer=settings.jwt_issuer)


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
