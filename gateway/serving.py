"""Runs processes: the HTTP server, the ingest worker beside it, and what both need first."""

import asyncio
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
import uvicorn
from prometheus_client import multiprocess

from gateway.protocol import LeanProtocol
from gateway.settings import ConfigurationError, Settings
from gateway.websockets import websocket
from ingest import queue_schema
from storage.database import open_engine, writing
from storage.migrations import upgrade

HEALTH_PATIENCE = 30  # seconds; after uvicorn's own 5 a machine that is short of processors kills who serves
RESTART_PAUSE = 1.0  # seconds before a worker that died is started again
BACKLOG = 4096  # connections that may wait to be accepted

log = structlog.get_logger()


async def migrate(settings: Settings) -> None:
    """Bring records and queue to the newest schema; safe to run from many processes at once.

    Raises:
        ConfigurationError: There can be no such folder.
        RecordsError: The database does not answer.
    """
    try:
        settings.storage.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"MEDIA_STORAGE_PATH: {error.strerror}") from None
    engine = open_engine(settings.storage.records_url)
    try:
        async with writing(engine, deadline=None) as connection:
            await connection.run_sync(upgrade)
    finally:
        await engine.dispose()
    await asyncio.to_thread(queue_schema.migrate, settings.queue_url)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises ConfigurationError where there can be none."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}, port {port}: {error.strerror}") from None


def serve(settings: Settings, *, host: str, port: int, workers: int) -> None:
    """Serve HTTP until told to stop; the application reads the same environment again."""
    raise_file_limit()
    uvicorn.run(
        "gateway.cli:application",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        loop="uvloop",
        http=LeanProtocol,
        ws=websocket,  # type: ignore[arg-type] # uvicorn only calls it
        access_log=False,
        proxy_headers=False,  # who is believed is for gateway.forwarded
        log_config=None,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=settings.gateway.graceful_timeout,
        timeout_worker_healthcheck=HEALTH_PATIENCE,
    )


def exit_on_signals() -> None:
    """Let SIGTERM and Ctrl-C unwind the stack: uvicorn sends itself the signal again once it has stopped in order."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))


def end_with_parent() -> None:
    """Let this process stop in order when the one that supervises it is gone, however that died."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


@contextmanager
def worker_beside(*arguments: str, grace: float) -> Iterator[None]:
    """Keep a worker process running beside this one, restarted where it dies."""
    companion = _Companion([sys.executable, "-m", "gateway.cli", "worker", "--watch-stdin", *arguments])
    companion.start()
    try:
        yield
    finally:
        companion.stop(grace)


class _Companion:
    """A child process that is started again whenever it ends, until it is stopped."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="worker companion", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace: float) -> None:
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(grace + 5)
        if self._thread.is_alive() and self._process is not None:
            self._process.kill()

    def _run(self) -> None:
        while not self._stopping.is_set():
            # In a session of its own: Ctrl-C reaches us alone, and we end the child in order.
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603 our own program
            if self._stopping.is_set():
                self._process.terminate()
            status = self._process.wait()
            if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
                multiprocess.mark_process_dead(self._process.pid)  # type: ignore[no-untyped-call] # has no types
            if not self._stopping.wait(RESTART_PAUSE):
                log.error("worker died and is started again", status=status)


def raise_file_limit() -> None:
    """Allow as many connections as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(ValueError, OSError):  # a container may not allow it; then its own limit holds
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
