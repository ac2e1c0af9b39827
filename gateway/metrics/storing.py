"""Metrics of where media come from: stores, the disk cache, the provider and its downloads."""

from collections.abc import Mapping
from functools import cache, partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.metrics.histogram import FAST, SLOW, Histogram


class Storing:
    """Observes stores, the provider, flights, and the feed of records."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, histogram = partial(Counter, registry=registry), partial(Histogram, registry=registry)
        largest = partial(Gauge, registry=registry, multiprocess_mode="livemax")
        name = "media_gateway_storage_operation_duration_seconds"
        self.storage = histogram(
            name, "Operations on object stores.", ("backend", "operation", "outcome"), buckets=FAST
        )
        name = "media_gateway_provider_call_duration_seconds"
        self.provider = histogram(name, "Calls to the provider.", ("operation", "outcome"), buckets=SLOW)
        outcome = ("outcome",)
        self.hedges = counter("media_gateway_storage_hedges", "Reads of the store that were asked twice.", outcome)
        self.fallbacks = counter("media_gateway_fallbacks", "Stored media that the provider had to deliver.", outcome)
        name = "media_gateway_flights_open"
        self.flights_open = Gauge(name, "Downloads under way.", registry=registry, multiprocess_mode="livesum")
        self.flights_joined = counter("media_gateway_flights_joined", "Readers that shared a download.")
        name = "media_gateway_disk_cache_events"
        self.disk_cache_events = counter(name, "Reads and copies of the disk cache.", ("event",))
        self.disk_cache_bytes = largest("media_gateway_disk_cache_bytes", "Bytes on the disk cache's disk.")
        name = "media_gateway_record_feed_age_seconds"
        self.record_feed_age = largest(name, "Since when changes of records by other processes may be unseen.")
        name = "media_gateway_upstream_breaker_open"
        self.breakers = largest(name, "1 while an account's breaker is open.", ("workspace",))
        self._storage = cache(self.storage.labels)  # see `Serving`

    def storage_operation(self, backend: str, operation: str, outcome: str, seconds: float) -> None:
        """Count an operation on a store."""
        self._storage(backend, operation, outcome).observe(seconds)

    def storage_hedged(self, outcome: str) -> None:
        """Count a read that was late and asked a second time, which ``won`` or ``lost``."""
        self.hedges.labels(outcome).inc()

    def provider_call(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a call to the provider."""
        self.provider.labels(operation, outcome).observe(seconds)

    def fallback(self, outcome: str) -> None:
        """Count a stored medium that was asked from the provider."""
        self.fallbacks.labels(outcome).inc()

    def flight_opened(self) -> None:
        """Count a flight that began."""
        self.flights_open.inc()

    def flight_joined(self) -> None:
        """Count a reader that shared one."""
        self.flights_joined.inc()

    def flight_closed(self) -> None:
        """Count a flight that ended."""
        self.flights_open.dec()

    def disk_cache(self, event: str, count: int = 1) -> None:
        """Count what became of reads and copies."""
        self.disk_cache_events.labels(event).inc(count)

    def disk_cache_holds(self, size: int) -> None:
        """Show the bytes on the disk."""
        self.disk_cache_bytes.set(size)

    def breaker_states(self, states: Mapping[str, str]) -> None:
        """Show which accounts' breakers are ``open``."""
        for workspace_id, state in states.items():
            self.breakers.labels(workspace_id).set(state == "open")
