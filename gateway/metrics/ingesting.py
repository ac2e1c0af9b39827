"""Metrics of the worker: jobs, processing, and what is made of media."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter

from gateway.metrics.histogram import SLOW, Histogram


class Ingesting:
    """Observes jobs, steps, children and variants."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        durations = partial(Histogram, registry=registry, buckets=SLOW)
        name = "media_gateway_ingest_job_duration_seconds"
        self.jobs = durations(name, "Attempts of jobs.", ("kind", "outcome"))
        name = "media_gateway_processing_step_duration_seconds"
        self.processing_steps = durations(name, "Steps of processing.", ("step", "outcome"))
        name = "media_gateway_processing_children_ended"
        self.processing_children = counter(name, "Child processes that ended.", ("reason",))
        by_variant = ("variant",)
        self.variants = counter("media_gateway_variants_made", "Variants stored.", by_variant)
        self.variant_bytes = counter("media_gateway_variant_bytes", "Bytes of variants stored.", by_variant)
        name, text = "media_gateway_compression_saved_bytes", "Bytes that a variant takes less than its original."
        self.saved_bytes = counter(name, text, by_variant)
        name, text = "media_gateway_dedup_saved_bytes", "Bytes that did not have to be stored again."
        self.deduplicated_bytes = counter(name, text)
        self.quarantines = counter("media_gateway_media_quarantined", "Media found to be malware.")

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

    def deduplicated(self, size: int) -> None:
        """Count an object that was stored already; ``size`` in bytes."""
        self.deduplicated_bytes.inc(size)

    def quarantined(self) -> None:
        """Count malware."""
        self.quarantines.inc()
