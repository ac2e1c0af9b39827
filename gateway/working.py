"""Runs the ingest worker: apart from what serves, which has no use for what jobs are made of."""

import asyncio
import signal
import sys

import structlog
from prometheus_client import CollectorRegistry, start_http_server

from gateway import logs
from gateway.foundation import open_foundation
from gateway.metrics import Metrics
from gateway.serving import raise_file_limit
from gateway.settings import Settings
from ingest.purging import Purging
from ingest.worker import Upkeep, Worker
from ingest.workflows import Workflows
from storage.liveness import Liveness

log = structlog.get_logger()


async def work(settings: Settings, *, concurrency: int, metrics_port: int | None, watch_stdin: bool) -> None:
    """Run jobs until told to stop by a signal or, with ``watch_stdin``, by the end of our parent."""
    logs.configure(settings.gateway.log_level)
    raise_file_limit()
    stop = _stop_event(watch_stdin=watch_stdin)
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    if metrics_port is not None:
        start_http_server(metrics_port, registry=registry)
    async with open_foundation(settings, metrics, registry) as base:
        loop = asyncio.get_running_loop()
        tasks = base.tasks()
        purging = Purging(base.purger)
        worker = Worker(
            queue_url=settings.queue_url,
            queue=base.queue,
            records=base.records,
            renditions=base.renditions,
            flights=base.flights,
            liveness=Liveness(base.engine),
            sweep_files=base.sweep_files,
            upkeep=Upkeep(ingest=settings.ingest.ingest != "off"),
            on_beat=lambda: metrics.breaker_states(base.origin.states()),
        )
        running = worker.running(
            lambda: Workflows(
                tasks, base.rendering, purging, loop, delays=settings.ingest.retry_delays, observer=metrics
            ),
            concurrency=concurrency,
            processors=settings.processing.children,
            purges=purging.batch_size,
            polling=settings.ingest.poll_interval,
            grace=settings.gateway.graceful_timeout,
        )
        async with running:
            log.info("worker started", executor_id=worker.executor_id, concurrency=concurrency)
            await stop.wait()
            log.info("worker stopping")


def _stop_event(*, watch_stdin: bool) -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if watch_stdin:
        # The pipe ends with our parent, however it dies; nobody ever writes to it.
        pipe = sys.stdin.fileno()

        def ended() -> None:
            loop.remove_reader(pipe)
            stop.set()

        loop.add_reader(pipe, ended)
    return stop
