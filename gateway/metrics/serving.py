"""Metrics of what clients ask for, and of the memory that answers them."""

from collections.abc import Sequence
from functools import cache, partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.metrics.batch import Answer, Batch
from gateway.metrics.histogram import FAST, SLOW, Histogram

_PARTIAL_CONTENT = 206


class Serving:
    """Observes requests, limits and the memory cache."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        by_source = partial(Histogram, registry=registry, labelnames=("source",))
        labels = ("route", "method", "status", "source")
        self.requests = counter("media_gateway_requests", "Requests answered.", labels)
        name = "media_gateway_request_duration_seconds"
        self.latency = by_source(name, "From the request to the last byte.", buckets=SLOW)
        name = "media_gateway_time_to_first_byte_seconds"
        self.first_byte = by_source(name, "Until a medium was ready to be sent.", buckets=FAST)
        self.sent = counter("media_gateway_sent_bytes", "Bytes of media sent.", ("source",))
        self.ranges = counter("media_gateway_ranges_served", "Partial answers.")
        self.throttles = counter("media_gateway_throttled", "Requests refused as too much.", ("by",))
        self.webhooks = counter("media_gateway_webhooks", "Webhooks received.", ("outcome",))
        self.cache_hits = counter("media_gateway_cache_hits", "Reads from the memory cache.")
        self.cache_misses = counter("media_gateway_cache_misses", "Reads past the memory cache.")
        self.cache_evictions = counter("media_gateway_cache_evicted", "Bodies that had to go from memory.", ("queue",))
        held = partial(gauge, multiprocess_mode="livesum")
        self.cache_bytes = held("media_gateway_cache_bytes", "Bytes in the memory cache.")
        self.cache_entries = held("media_gateway_cache_entries", "Bodies in the memory cache.")
        self.batch = Batch(self)
        """Of answers from memory."""

        # Looking a child up by its labels costs more than counting; the labels are bounded, and so are these.
        self._requests = cache(self.requests.labels)
        self._latency = cache(self.latency.labels)
        self._first_byte = cache(self.first_byte.labels)
        self._sent = cache(self.sent.labels)

    def served(self, source: str, status: int, first_byte: float, sent: int) -> None:
        """Count a medium that was served; ``first_byte`` in seconds, ``sent`` in bytes."""
        self._first_byte(source).observe(first_byte)
        self._sent(source).inc(sent)
        if status == _PARTIAL_CONTENT:
            self.ranges.inc()

    def answered(self, route: str, method: str, status: int, source: str, seconds: float) -> None:
        """Count a request."""
        self._requests(route, method, str(status), source).inc()
        self._latency(source).observe(seconds)

    def answered_alike(self, answer: Answer, seconds: Sequence[float]) -> None:
        """Count requests for media that were answered alike, from memory: as many as there are durations."""
        count, source = len(seconds), answer.source
        self._requests(answer.route, answer.method, str(answer.status), source).inc(count)
        self._latency(source).observe_all(seconds)
        self._first_byte(source).observe_all(seconds)
        self._sent(source).inc(answer.sent * count)
        if answer.status == _PARTIAL_CONTENT:
            self.ranges.inc(count)
        if answer.from_memory:
            self.cache_hits.inc(count)

    def cache_read(self, *, hit: bool) -> None:
        """Count a read of the memory cache."""
        (self.cache_hits if hit else self.cache_misses).inc()

    def cache_evicted(self, queue: str) -> None:
        """Count a body that had to go from memory: a ``new`` one that was not read again, or a ``popular`` one."""
        self.cache_evictions.labels(queue).inc()

    def throttled(self, by: str) -> None:
        """Count a request that was refused: for its ``address``, ``credential``, ``fields`` or ``body``."""
        self.throttles.labels(by).inc()
