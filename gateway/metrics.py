"""All metrics of the gateway and its worker; labels are bounded, units are base units."""

from collections.abc import Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Observes every part that wants to be observed, so that none of them knows Prometheus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "media_gateway_requests", "Requests answered.", ("route", "method", "status", "source"), registry=registry
        )
        self.latency = Histogram(
            "media_gateway_request_duration_seconds",
            "From the request to the last byte.",
            ("source",),
            registry=registry,
            buckets=_SLOW,
        )
        self.first_byte = Histogram(
            "media_gateway_time_to_first_byte_seconds",
            "Until a medium was ready to be sent.",
            ("source",),
            registry=registry,
            buckets=_FAST,
        )
        self.sent = Counter("media_gateway_sent_bytes", "Bytes of media sent.", ("source",), registry=registry)
        self.ranges = Counter("media_gateway_ranges_served", "Partial answers.", registry=registry)
        self.storage = Histogram(
            "media_gateway_storage_operation_duration_seconds",
            "Operations on object stores.",
            ("backend", "operation", "outcome"),
            registry=registry,
            buckets=_FAST,
        )
        self.hedges = Counter(
            "media_gateway_storage_hedges", "Reads of the store that were asked twice.", ("outcome",), registry=registry
        )
        self.provider = Histogram(
            "media_gateway_provider_call_duration_seconds",
            "Calls to the provider.",
            ("operation", "outcome"),
            registry=registry,
            buckets=_SLOW,
        )
        self.fallbacks = Counter(
            "media_gateway_fallbacks", "Stored media that the provider had to deliver.", ("outcome",), registry=registry
        )
        self.flights_open = Gauge(
            "media_gateway_flights_open",
            "Downloads under way.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.flights_joined = Counter(
            "media_gateway_flights_joined", "Readers that shared a download.", registry=registry
        )
        self.cache_hits = Counter("media_gateway_cache_hits", "Reads from the memory cache.", registry=registry)
        self.cache_misses = Counter("media_gateway_cache_misses", "Reads past the memory cache.", registry=registry)
        self.cache_bytes = Gauge(
            "media_gateway_cache_bytes", "Bytes in the memory cache.", registry=registry, multiprocess_mode="livesum"
        )
        self.cache_entries = Gauge(
            "media_gateway_cache_entries", "Bodies in the memory cache.", registry=registry, multiprocess_mode="livesum"
        )
        self.cache_evictions = Counter(
            "media_gateway_cache_evicted", "Bodies that had to go from memory.", ("queue",), registry=registry
        )
        self.disk_cache_events = Counter(
            "media_gateway_disk_cache_events", "Reads and copies of the disk cache.", ("event",), registry=registry
        )
        self.disk_cache_bytes = Gauge(
            "media_gateway_disk_cache_bytes",
            "Bytes on the disk cache's disk.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.record_feed_age = Gauge(
            "media_gateway_record_feed_age_seconds",
            "Since when changes of records by other processes may be unseen.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.webhooks = Counter("media_gateway_webhooks", "Webhooks received.", ("outcome",), registry=registry)
        self.jobs = Histogram(
            "media_gateway_ingest_job_duration_seconds",
            "Attempts of jobs.",
            ("kind", "outcome"),
            registry=registry,
            buckets=_SLOW,
        )
        self.processing_steps = Histogram(
            "media_gateway_processing_step_duration_seconds",
            "Steps of processing.",
            ("step", "outcome"),
            registry=registry,
            buckets=_SLOW,
        )
        self.processing_children = Counter(
            "media_gateway_processing_children_ended", "Child processes that ended.", ("reason",), registry=registry
        )
        self.variants = Counter("media_gateway_variants_made", "Variants stored.", ("variant",), registry=registry)
        self.variant_bytes = Counter(
            "media_gateway_variant_bytes", "Bytes of variants stored.", ("variant",), registry=registry
        )
        self.saved_bytes = Counter(
            "media_gateway_compression_saved_bytes",
            "Bytes that a variant takes less than its original.",
            ("variant",),
            registry=registry,
        )
        self.deduplicated_bytes = Counter(
            "media_gateway_dedup_saved_bytes", "Bytes that did not have to be stored again.", registry=registry
        )
        self.quarantines = Counter("media_gateway_media_quarantined", "Media found to be malware.", registry=registry)
        self.throttles = Counter("media_gateway_throttled", "Requests refused as too much.", ("by",), registry=registry)
        self.breakers = Gauge(
            "media_gateway_upstream_breaker_open",
            "1 while an account's breaker is open.",
            ("workspace",),
            registry=registry,
            multiprocess_mode="livemax",
        )

        # Looking a child up by its labels costs more than counting; the labels are bounded, and so are these.
        self._requests = cache(self.requests.labels)
        self._latency = cache(self.latency.labels)
        self._first_byte = cache(self.first_byte.labels)
        self._sent = cache(self.sent.labels)
        self._storage = cache(self.storage.labels)

    def served(self, source: str, status: int, first_byte: float, sent: int) -> None:
        """Count a medium that was served; ``first_byte`` in seconds, ``sent`` in bytes."""
        self._first_byte(source).observe(first_byte)
        self._sent(source).inc(sent)
        if status == 206:  # noqa: PLR2004 Partial Content
            self.ranges.inc()

    def answered(self, route: str, method: str, status: int, source: str, seconds: float) -> None:
        """Count a request."""
        self._requests(route, method, str(status), source).inc()
        self._latency(source).observe(seconds)

    def storage_operation(self, backend: str, operation: str, outcome: str, seconds: float) -> None:
        """Count an operation on a store."""
        self._storage(backend, operation, outcome).observe(seconds)

    def storage_hedged(self, outcome: str) -> None:
        """Count a read that was late and asked a second time, which ``won`` or ``lost``."""
        self.hedges.labels(outcome).inc()

    def provider_call(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a call to the provider."""
        self.provider.labels(operation, outcome).observe(seconds)

    def flight_opened(self) -> None:
        """Count a flight that began."""
        self.flights_open.inc()

    def flight_joined(self) -> None:
        """Count a reader that shared one."""
        self.flights_joined.inc()

    def flight_closed(self) -> None:
        """Count a flight that ended."""
        self.flights_open.dec()

    def cache_read(self, *, hit: bool) -> None:
        """Count a read of the memory cache."""
        (self.cache_hits if hit else self.cache_misses).inc()

    def cache_evicted(self, queue: str) -> None:
        """Count a body that had to go from memory: a ``new`` one that was not read again, or a ``popular`` one."""
        self.cache_evictions.labels(queue).inc()

    def disk_cache(self, event: str, count: int = 1) -> None:
        """Count what became of reads and copies."""
        self.disk_cache_events.labels(event).inc(count)

    def disk_cache_holds(self, size: int) -> None:
        """Show the bytes on the disk."""
        self.disk_cache_bytes.set(size)

    def fallback(self, outcome: str) -> None:
        """Count a stored medium that was asked from the provider."""
        self.fallbacks.labels(outcome).inc()

    def job_ended(self, kind: str, outcome: str, seconds: float) -> None:
        """Count an attempt of a job."""
        self.jobs.labels(kind, outcome).observe(seconds)

    def step_ended(self, step: str, outcome: str, seconds: float) -> None:
        """Count a step of processing."""
        self.processing_steps.labels(step, outcome).observe(seconds)

    def child_ended(self, reason: str) -> None:
        """Count a child process that ended."""
        self.processing_children.labels(reason).inc()

    def variant_made(self, name: str, original: int, size: int) -> None:
        """Count a variant that was stored; sizes in bytes. A stream counts once, with the bytes of all its files."""
        variant, _, file = name.partition("/")
        self.variants.labels(variant).inc(not file)
        self.variant_bytes.labels(variant).inc(size)
        if variant in {"compressed", "webp"}:  # what is shown in place of the original
            self.saved_bytes.labels(variant).inc(max(0, original - size))

    def quarantined(self) -> None:
        """Count malware."""
        self.quarantines.inc()

    def deduplicated(self, size: int) -> None:
        """Count an object that was stored already; ``size`` in bytes."""
        self.deduplicated_bytes.inc(size)

    def throttled(self, by: str) -> None:
        """Count a request that was refused: for its ``address``, ``credential``, ``fields`` or ``body``."""
        self.throttles.labels(by).inc()

    def breaker_states(self, states: Mapping[str, str]) -> None:
        """Show which accounts' breakers are ``open``."""
        for workspace_id, state in states.items():
            self.breakers.labels(workspace_id).set(state == "open")
