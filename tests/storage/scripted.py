"""A store that does on each connection what a test says, and knows which connections are open."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from storage.s3 import S3Config

SECRET = "wJalrXUtnFEMI/K7MDENG"
NEVER = b""
"""Instead of an answer: the client is left waiting until it goes."""

Script = Callable[[int], Iterable[bytes]]
"""The answers to the requests of one connection, by its number; with the last one given, the next request ends it."""


def response(status: str = "200 OK", body: bytes = b"", **fields: str | int) -> bytes:
    """Write down an answer."""
    named = {"Content-Length": len(body)} | {name.replace("_", "-"): value for name, value in fields.items()}
    return "\r\n".join([f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in named.items()), "", ""]).encode() + body


def always(*answers: bytes) -> Script:
    """Give each connection the same answers."""
    return lambda _number: answers


@dataclass
class ScriptedStore:
    """What the server has seen."""

    script: Script
    port: int = 0
    scheme: str = "http"
    requests: list[str] = field(default_factory=list)
    opened: int = 0
    open: int = 0

    def config(self, **changes: object) -> S3Config:
        """Return how to reach it."""
        settings: dict[str, object] = {
            "bucket": "b",
            "endpoint_url": f"{self.scheme}://localhost:{self.port}",
            "access_key_id": "AKIDEXAMPLE",
            "secret_access_key": SECRET,
            "read_timeout": 5.0,
        }
        return S3Config(**(settings | changes))  # type: ignore[arg-type] # named by the test

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Follow the script on one connection."""
        answers = iter(self.script(self.opened))
        self.opened, self.open = self.opened + 1, self.open + 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer, answers)
        finally:
            self.open -= 1
            writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Iterator[bytes]
    ) -> None:
        while True:
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            answer = next(answers, None)
            if answer is None:
                return
            writer.write(answer)
            await writer.drain()
            if answer == NEVER:
                await reader.read()


@asynccontextmanager
async def scripted_store(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedStore]:
    """Run the server on loopback."""
    store = ScriptedStore(script, scheme="https" if tls else "http")
    async with await asyncio.start_server(store.talk, "127.0.0.1", 0, ssl=tls) as server:
        store.port = server.sockets[0].getsockname()[1]
        yield store
