"""What the server does with clients that send or take too little, or too long a header."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast
from urllib.parse import urlsplit

import pytest
from starlette.types import Receive, Scope, Send

from gateway.protocol import EXPRESS, LeanProtocol
from tests.gateway import raw
from tests.gateway.raw import PATIENCE
from tests.running import serving, until

LARGE = 64 * 1024 * 1024  # bytes; more than all buffers of the kernel
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Impatient(LeanProtocol):
    """Waits for tenths of a second, so that a test need not."""

    head_patience = 0.2
    write_patience = 0.2


class App:
    """Answers with its path's body, and counts the requests that came to their end."""

    def __init__(self) -> None:
        self.ended = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        body = {"/chunks": [bytes(65536)] * (LARGE // 65536), "/once": [bytes(LARGE)]}.get(scope["path"], [b"x"])
        length = str(sum(map(len, body))).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        for number, chunk in enumerate(body, 1):
            await send({"type": "http.response.body", "body": chunk, "more_body": number < len(body)})
        self.ended += 1


async def lifespan(receive: Receive, send: Send) -> None:
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})


@asynccontextmanager
async def connected(app: App, protocol: type[LeanProtocol]) -> AsyncIterator[tuple[str, socket.socket]]:
    """Serve the application, and connect to it by a socket that reads only what the test reads."""
    async with serving(app, http=protocol, timeout_keep_alive=1) as url:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port)) as client:
            client.setblocking(False)  # noqa: FBT003 the standard library's own signature
            yield url, client


async def received(client: socket.socket) -> int:
    """Read to the end, and return the number of bytes."""
    loop = asyncio.get_running_loop()
    total = 0
    async with asyncio.timeout(PATIENCE):
        try:
            while chunk := await loop.sock_recv(client, 1 << 20):
                total += len(chunk)
        except ConnectionResetError:
            pass  # the kernel says so where bytes were lost
    return total


@pytest.mark.parametrize(
    "path", ["/chunks", "/once"], ids=["in chunks", "at once: when the application has long ended"]
)
async def test_a_client_that_takes_nothing_is_left(path: str) -> None:
    app = App()
    async with connected(app, Impatient) as (_, client):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, REQUEST.replace(b"GET /", b"GET " + path.encode()))
        await until(lambda: app.ended)
        await until(lambda: gone(client))
        assert await received(client) < LARGE


def gone(client: socket.socket) -> bool:
    """Whether the server's side of a connection is not established any more, by the client's TCP state."""
    state = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state != 1  # TCP_ESTABLISHED


async def test_a_client_that_takes_all_gets_all() -> None:
    async with connected(App(), LeanProtocol) as (url, _):
        answer = await raw.exchange(url, b"/chunks")
    assert answer.is_whole
    assert len(answer.body) == LARGE


@pytest.mark.parametrize(
    "said", [b"", b"\r\n", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", REQUEST + b"\r\n", REQUEST + b"GET / HTTP/1.1\r\n"]
)
async def test_a_header_that_does_not_come_is_waited_for_only_so_long(said: bytes) -> None:
    app = App()
    async with connected(app, Impatient) as (_, client):
        await asyncio.get_running_loop().sock_sendall(client, said)
        assert bool(await received(client)) is said.startswith(REQUEST)
        assert app.ended == said.startswith(REQUEST)


class Known:
    """Knows the answer to everything."""

    def answer(self, *_request: object) -> tuple[bytes]:
        return (b"HTTP/1.1 204 No Content\r\n\r\n",)


class Knowing(Impatient):
    """A protocol that asks nobody else."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.app_state = {EXPRESS: Known()}
        super().connection_made(transport)


@pytest.mark.parametrize("said", [REQUEST, REQUEST * 3, REQUEST + b"\r\n", REQUEST + b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_connection_whose_requests_are_answered_at_once_is_closed_when_nothing_comes(said: bytes) -> None:
    app = App()
    async with connected(app, Knowing) as (_, client):
        await asyncio.get_running_loop().sock_sendall(client, said)
        assert await received(client) == said.count(REQUEST) * len(Known().answer()[0])
    assert app.ended == 0


async def test_a_request_in_the_same_packet_has_the_time_that_the_application_needs() -> None:
    looked, may_end = asyncio.Event(), asyncio.Event()

    class Watched(Knowing):
        def _answer_at_once(self) -> bool:
            return self.url == b"/" and super()._answer_at_once()

        def _check_idle(self) -> None:
            super()._check_idle()
            looked.set()

    class Slow(App):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await may_end.wait()
            await super().__call__(scope, receive, send)

    async with connected(Slow(), Watched) as (_, client):
        await asyncio.get_running_loop().sock_sendall(client, REQUEST + REQUEST.replace(b"GET /", b"GET /slow"))
        async with asyncio.timeout(PATIENCE):
            await looked.wait()
        may_end.set()
        assert await received(client) > len(Known().answer()[0])


async def test_a_connection_whose_requests_are_answered_at_once_stays_while_they_come() -> None:
    now = 100.0
    protocol = Knowing.__new__(Knowing)
    protocol.timeout_keep_alive = 5
    closed, waits = list[float](), list[float]()
    protocol.loop = cast("asyncio.AbstractEventLoop", SimpleNamespace(time=lambda: now))
    protocol.timeout_keep_alive_handler = lambda: closed.append(now)  # type: ignore[method-assign] # what it would do
    protocol._await_request = waits.append  # type: ignore[method-assign,assignment] # no real timer
    protocol._idle_since = now - 3
    protocol._check_idle()
    assert (waits, closed) == ([2.0], [])
    protocol._idle_since = None  # a request has begun
    protocol._check_idle()
    assert (waits, closed) == ([2.0], [])
    protocol._idle_since = now - 5
    protocol._check_idle()
    assert (waits, closed) == ([2.0], [now])


@pytest.mark.parametrize(
    "start",
    [
        b"GET /" + b"x" * 100_000,
        b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"z" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000,
    ],
    ids=["path", "value", "name", "many fields"],
)
async def test_a_header_that_does_not_end_is_too_large(start: bytes) -> None:
    async with connected(App(), LeanProtocol) as (url, _):
        answer = await raw.send(url, start)
    document = json.loads(answer.body)
    assert (answer.status, document["type"]) == (431, "header-fields-too-large")
    assert answer.is_whole
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == document["request_id"]


async def test_a_client_that_takes_a_little_is_served_on() -> None:
    """As long as less is waiting each time that patience ends."""
    protocol = LeanProtocol.__new__(LeanProtocol)
    protocol.loop = asyncio.get_running_loop()
    with socket.socket() as one:
        protocol._transport = transport = Transport(one)
        for transport.waiting in (3000, 2000, 1999):
            protocol._check_progress(transport.waiting + 1)
            assert not transport.aborted
        protocol._check_progress(1999)
        assert transport.aborted
    protocol._end_write()


class Transport(asyncio.Transport):
    """Has bytes to write, and nobody to take them."""

    waiting = 0
    aborted = False

    def __init__(self, one: socket.socket) -> None:
        super().__init__({"socket": one})

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.aborted = True
