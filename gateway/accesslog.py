"""The line that every request leaves in the log: written in batches off the event loop, and sampled where wanted."""

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from json import dumps
from time import time
from typing import TextIO

import structlog

from gateway.logs import redacted

FLUSH = 0.2  # seconds that a line may wait
MAX_WAITING = 50_000  # lines; more are dropped and counted: who reads the log does not keep up
_ERROR = 400
_LONGEST = 300  # characters of a path
_SECRET_MARKS = frozenset("=@ ")  # without one of them nothing in a path looks like a secret

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Line:
    """What one request leaves, as far as it is the same for the next one like it."""

    text: str
    status: int

    @classmethod
    def of(cls, method: str, path: str, *, route: str, status: int, source: str, size: int) -> "Line":
        """Describe a request and its answer, ``size`` in bytes; a path without its query, which holds secrets."""
        shown = path[:_LONGEST]
        safe = redacted(shown) if _SECRET_MARKS.intersection(shown) else shown
        fields = {"method": method, "path": safe, "route": route, "status": status, "source": source, "bytes": size}
        return cls(dumps(fields)[:-1], status)


class AccessLog:
    """Writes requests as JSON lines to standard error; never waits for who reads them."""

    def __init__(self, *, enabled: bool = True, every: int = 1, stream: TextIO | None = None) -> None:
        """Take whether there are any lines, and that one in ``every`` of those without an error is written."""
        self._enabled = enabled
        self._every = every
        self._stream = stream
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._dropped = 0
        self._second = 0
        self._until_second = ""
        self._turn = count()

    def write(self, line: Line, request_id: str, seconds: float) -> None:
        """Add a request that was answered."""
        if not self._enabled or (line.status in range(1, _ERROR) and next(self._turn) % self._every):
            return
        if len(self._lines) >= MAX_WAITING:
            self._dropped += 1
            return
        now = time()
        if int(now) != self._second:
            self._second = int(now)
            self._until_second = datetime.fromtimestamp(self._second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        self._lines.append(
            f'{line.text}, "seconds": {seconds:.4f}, "event": "request", "request_id": "{request_id}", '
            f'"level": "info", "timestamp": "{self._until_second}.{int(now % 1 * 1_000_000):06d}Z"}}\n'
        )
        self._flush_soon()

    async def aclose(self) -> None:
        """Write what waits."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        if self._timer is not None:  # which may have been set by what has just been waited for
            self._timer.cancel()
            self._timer = None
        await asyncio.to_thread(self._write, self._taken())

    def _flush_soon(self) -> None:
        if self._timer is None and self._flushing is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH, self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._flushing = asyncio.create_task(asyncio.to_thread(self._write, self._taken()))
        self._flushing.add_done_callback(self._flushed)

    def _flushed(self, task: asyncio.Task[None]) -> None:
        self._flushing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("access log could not be written", error=type(error).__name__)
        if self._lines:
            self._flush_soon()

    def _taken(self) -> str:
        text, self._lines = "".join(self._lines), []
        if self._dropped:
            log.warning("lines of the access log were dropped", lines=self._dropped)
            self._dropped = 0
        return text

    def _write(self, text: str) -> None:
        stream = self._stream or sys.stderr
        stream.write(text)
        stream.flush()
