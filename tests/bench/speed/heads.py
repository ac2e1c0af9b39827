"""``python heads.py HOST:PORT CONNECTIONS SECONDS FILE``: wrk for ``HEAD``, after whose answers wrk waits for a body.

Of the file's lines as of `load`; prints what ``cycle.lua`` prints.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import cast

import uvloop


class _Connection(asyncio.Protocol):
    """Sends one request after the other, each as soon as the head of the answer before it is there."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.took: list[float] = []
        self.size = 0
        self.failed = 0
        self._requests = requests
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self.size += len(data)
        self._head += data
        if self._head.endswith(b"\r\n\r\n"):
            self.took.append(perf_counter() - self._began)
            self.failed += not self._head.startswith((b"HTTP/1.1 2", b"HTTP/1.1 3"))
            self._head = b""
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self.failed += 1

    def _next(self) -> None:
        self._began = perf_counter()
        self._transport.write(next(self._requests))


def read_requests(path: Path, host: str) -> list[bytes]:
    """Return the requests that a file lists, as they are sent."""
    rows = (line.split("\t") for line in path.read_text().splitlines())
    return ["\r\n".join((f"{first} HTTP/1.1", f"Host: {host}", *fields, "", "")).encode() for first, *fields in rows]


async def load(address: str, connections: int, seconds: float, path: Path) -> dict[str, float]:
    """Ask over so many connections for so many seconds."""
    host, port = address.split(":")
    requests = cycle(read_requests(path, address))
    opened = [_Connection(requests) for _ in range(connections)]
    began = perf_counter()
    for each in opened:
        await asyncio.get_running_loop().create_connection(lambda each=each: each, host, int(port))  # type: ignore[misc] # the loop's variable
    await asyncio.sleep(seconds)
    took, ended = [one for each in opened for one in each.took], perf_counter()
    cuts = quantiles(took, n=100) if len(took) > 1 else [0.0] * 99
    return {
        "requests": len(took),
        "bytes": sum(each.size for each in opened),
        "seconds": ended - began,
        "failed": sum(each.failed for each in opened),
        "p50": cuts[49],
        "p99": cuts[98],
    }


if __name__ == "__main__":
    ADDRESS, CONNECTIONS, SECONDS, FILE = sys.argv[1:]
    print(json.dumps(uvloop.run(load(ADDRESS, int(CONNECTIONS), float(SECONDS), Path(FILE)))))  # noqa: T201 its report
