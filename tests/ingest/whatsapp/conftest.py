"""A simulated provider on real sockets, a server that answers word by word, and clients of both."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import stamina

from ingest.simulator import Simulator, serve
from ingest.whatsapp.client import WhatsAppClient
from ingest.whatsapp.dialling import HostRules
from ingest.whatsapp.provider import Account, Provider, Timeouts
from storage.origin import MediaRef

TOKEN = "secret-token"
PATIENT = Timeouts(resolve=10, connect=10, headers=10, chunk=10, download=10)


@pytest.fixture(autouse=True)
def retries_at_once() -> Iterator[None]:
    """Two attempts, as in production, without the pause between them."""
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A Graph API and its download host."""
    simulated = Simulator(access_token=TOKEN)
    async with serve(simulated):
        yield simulated


@pytest.fixture
def provider(simulator: Simulator) -> Provider:
    """The simulator as the client sees it; its two download hosts are named exactly."""
    hosts = HostRules.parse(f"{simulator.lookaside_url},{simulator.elsewhere_url}")
    return Provider(base_url=simulator.graph_url, hosts=hosts, timeouts=PATIENT)


@pytest.fixture
def account(simulator: Simulator) -> Account:
    """The account that the simulator knows."""
    return Account(workspace_id="default", access_token=TOKEN, phone_number_id=simulator.number.phone_number_id)


@pytest.fixture
async def client(provider: Provider, account: Account) -> AsyncIterator[WhatsAppClient]:
    """A client of the simulator."""
    async with WhatsAppClient(provider, account) as opened:
        yield opened


@pytest.fixture
def ref() -> Callable[[str], MediaRef]:
    """Name a medium of the default workspace."""
    return lambda media_id: MediaRef(workspace_id="default", provider_media_id=media_id)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a free port of 127.0.0.1 until the context ends, and every connection with it."""
    handling: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await handler(reader, writer)
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handling.add(asyncio.create_task(handle(reader, writer)))

    async with await asyncio.start_server(accept, "127.0.0.1", ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]
    async with asyncio.timeout(5):
        await asyncio.gather(*handling)


EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class ScriptedServer:
    """Answers each request with the next bytes of its script, and then closes the connection."""

    url: str = ""
    answers: list[bytes] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    """The heads that arrived."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(self.answers.pop(0) if self.answers else EMPTY)
        await writer.drain()

    def resolve_answer(self, url: str | None = None, members: str = "") -> bytes:
        """Build the answer that resolves an ID to ``url``, by default to this server; ``members`` are more JSON."""
        return answer(f'{{"url": "{url or self.url + "/media?hash=SECRET"}"{members}}}'.encode())

    @asynccontextmanager
    async def client(self, **changes: Any) -> AsyncIterator[WhatsAppClient]:
        """Open a client of this server; ``changes`` are fields of its provider."""
        provider = Provider(base_url=self.url, hosts=HostRules.parse(self.url), timeouts=PATIENT)
        account = Account(workspace_id="default", access_token=TOKEN)
        async with WhatsAppClient(replace(provider, **changes), account) as opened:
            yield opened


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """Build an HTTP answer."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(head).encode() + body


@pytest.fixture(name="answer")
def answer_fixture() -> Callable[..., bytes]:
    """Build HTTP answers for a script."""
    return answer


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    """A server with an empty script."""
    script = ScriptedServer()
    async with serving(script) as port:
        script.url = f"http://127.0.0.1:{port}"
        yield script


@pytest.fixture
def listener() -> Callable[..., AbstractAsyncContextManager[int]]:
    """Serve nothing in particular on a port of its own."""
    return lambda tls=None: serving(ScriptedServer(), tls)
