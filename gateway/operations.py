"""What operators ask: does it live, is it ready, and how is it doing."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from importlib.metadata import version
from time import time

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from gateway.auth import bearer, digest_of, is_one_of
from gateway.bodies import json_response
from gateway.errors import Forbidden, NotReady, Unauthorized
from gateway.forwarded import joined
from gateway.metrics import Metrics
from ingest.queue import Queue
from storage.bodies import BodyCache
from storage.errors import MediaError
from storage.records import Records

PROBE_DEADLINE = 3.0  # seconds for each dependency
LAST_DAY = timedelta(hours=24)

log = structlog.get_logger()
Probe = Callable[[], Awaitable[None]]


class Operations:
    """The endpoints."""

    def __init__(
        self,
        *,
        probes: Mapping[str, Probe],
        breakers: Callable[[], Mapping[str, str]],
        records: Records,
        queue: Queue,
        cache: BodyCache,
        metrics: Metrics,
        registry: CollectorRegistry,
        token: str | None,
    ) -> None:
        """Take what is asked about.

        Args:
            probes: By dependency; each proves that it answers, or raises a `MediaError`.
            breakers: The state of every account's breaker.
            records: For the state of the media.
            queue: For its backlog.
            cache: For its size.
            metrics: Of this process.
            registry: Where they are registered.
            token: Opens what tells of the gateway's inside; None leaves it open.
        """
        self._tokens = [digest_of(token)] if token is not None else []
        self._probes = probes
        self._breakers = breakers
        self._records = records
        self._queue = queue
        self._cache = cache
        self._metrics = metrics
        self._registry = registry

    async def healthz(self, _request: Request) -> Response:
        """Say that the process lives and its event loop turns."""
        return json_response({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Ask every dependency, and say a word for each, where a token is needed only to who has it.

        Raises:
            NotReady: One is missing.
        """
        trusted = self._trusts(request)
        words = dict(zip(self._probes, await asyncio.gather(*map(_word, self._probes.values())), strict=True))
        ready = all(word == "ok" for word in words.values())
        words["provider"] = "breaker open" if "open" in self._breakers().values() else "ok"
        if not ready:
            raise NotReady("A dependency is missing.", members={"checks": words} if trusted else {})
        return json_response({"status": "ready"} | ({"checks": words} if trusted else {}))

    async def metrics(self, request: Request) -> Response:
        """Show all metrics of all processes as Prometheus text.

        Raises:
            Unauthorized: The operators' token is needed.
            Forbidden: It is another one.
        """
        if not self._trusts(request):
            raise Forbidden if "authorization" in request.headers else Unauthorized("The operators' token is needed.")
        self._metrics.batch.settle()
        self._metrics.breaker_states(self._breakers())
        self._metrics.cache_bytes.set(self._cache.size)
        self._metrics.cache_entries.set(len(self._cache))
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # the library has no types here
        text = await asyncio.to_thread(generate_latest, registry)
        asked = CollectorRegistry()
        asked.register(_Snapshot(await self._snapshot()))
        return Response(text + generate_latest(asked), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _trusts(self, request: Request) -> bool:
        given = bearer(joined(request.scope["headers"], b"authorization"))
        return not self._tokens or (given is not None and is_one_of(given, self._tokens))

    async def _snapshot(self) -> list[Metric]:
        """Ask the database for what only it knows; without an answer, those metrics are missing."""
        build = GaugeMetricFamily("media_gateway_build_info", "1, by version.", labels=["version"])
        build.add_metric([version("media-gateway")], 1)
        try:
            async with asyncio.timeout(PROBE_DEADLINE):
                return [build, *await self._media(), *await self._backlog()]
        except (MediaError, TimeoutError) as error:
            log.warning("metrics are incomplete", error=type(error).__name__)
            return [build]

    async def _media(self) -> list[Metric]:
        media = GaugeMetricFamily("media_gateway_media", "Media by status.", labels=["status"])
        for status, count in (await self._records.count_by_status()).items():
            media.add_metric([status], count)
        expiring = GaugeMetricFamily(
            "media_gateway_media_expiring", "Media that will be lost within 24 hours unless they are stored."
        )
        expiring.add_metric([], await self._records.count_expiring(LAST_DAY))
        lost = GaugeMetricFamily("media_gateway_media_lost", "Media not stored, and gone at the provider.")
        lost.add_metric([], await self._records.count_lost())
        return [media, expiring, lost]

    async def _backlog(self) -> list[Metric]:
        depth = GaugeMetricFamily("media_gateway_queue_depth", "Jobs that wait.", labels=["queue"])
        age = GaugeMetricFamily(
            "media_gateway_queue_oldest_age_seconds", "Age of the oldest job that waits.", labels=["queue"]
        )
        for backlog in await self._queue.backlog():
            depth.add_metric([backlog.queue], backlog.depth)
            age.add_metric([backlog.queue], time() - backlog.oldest if backlog.oldest is not None else 0)
        return [depth, age]


class _Snapshot(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


async def _word(probe: Probe) -> str:
    try:
        async with asyncio.timeout(PROBE_DEADLINE):
            await probe()
    except TimeoutError:
        return "timeout"
    except MediaError as error:
        return error.code
    return "ok"
