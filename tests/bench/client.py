"""A crowd of HTTP clients that costs little itself: bare asyncio streams, bodies hashed and dropped."""

import asyncio
import hashlib
from dataclasses import dataclass
from time import perf_counter
from urllib.parse import urlsplit

READ = 256 * 1024  # bytes at once
DEADLINE = 120.0  # seconds for one request


@dataclass(frozen=True, slots=True)
class Answer:
    """What one client got."""

    status: int
    sha256: str
    size: int
    seconds: float
    complete: bool


async def fetch(url: str, *, headers: dict[str, str] | None = None) -> Answer:
    """Fetch one URL over a connection of its own."""
    began = perf_counter()
    async with asyncio.timeout(DEADLINE):
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=READ)
        try:
            writer.write(_request("GET", url, headers or {}))
            status, length = await _head(reader)
            digest, size = hashlib.sha256(), 0
            while length is None or size < length:
                chunk = await reader.read(READ)
                if not chunk:
                    break
                digest.update(chunk)
                size += len(chunk)
        finally:
            writer.close()
    return Answer(status, digest.hexdigest(), size, perf_counter() - began, size == length)


async def read_slowly(url: str, *, chunk: int, pause: float, seconds: float) -> int:
    """Read a few bytes, pause, and so on for so many seconds; return how many bytes came."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=chunk)
    try:
        writer.write(_request("GET", url, {}))
        status, _ = await _head(reader)
        if status != 200:
            raise RuntimeError(f"status {status}")
        size, end = 0, perf_counter() + seconds
        while perf_counter() < end:
            size += len(await reader.read(chunk))
            await asyncio.sleep(pause)
    finally:
        writer.transport.abort()
    return size


class Poster:
    """Posts over one kept connection."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes, headers: dict[str, str]) -> int:
        """Send a body and return the status."""
        parts = urlsplit(self._url)
        async with asyncio.timeout(DEADLINE):
            if self._streams is None:
                self._streams = await asyncio.open_connection(parts.hostname, parts.port)
            reader, writer = self._streams
            writer.write(_request("POST", self._url, headers | {"Content-Length": str(len(body))}) + body)
            status, length = await _head(reader)
            await reader.readexactly(length or 0)
        return status

    def close(self) -> None:
        """Drop the connection."""
        if self._streams is not None:
            self._streams[1].close()


def _request(method: str, url: str, headers: dict[str, str]) -> bytes:
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _head(reader: asyncio.StreamReader) -> tuple[int, int | None]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    lengths = [line.partition(":")[2] for line in head.split("\r\n") if line.startswith("content-length:")]
    return int(head.split(" ", 2)[1]), int(lengths[0]) if lengths else None
