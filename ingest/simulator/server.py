"""Runs a simulator's two hosts on real sockets of this machine, inside the running event loop."""

import asyncio
import contextlib
import functools
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest.simulator.hosts import HANG_UP
from ingest.simulator.simulator import Simulator

_STOP_SECONDS = 1
_START_SECONDS = 10
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where a simulator is served: three names, so that rules across hosts can be seen at work."""

    graph_url: str
    lookaside_url: str
    elsewhere_url: str
    """Where `Redirect.OTHER_HOST` leads."""


@contextlib.asynccontextmanager
async def serve(simulator: Simulator, *, graph_port: int = 0, lookaside_port: int = 0) -> AsyncIterator[Endpoints]:
    """Serve a simulator until the context ends, and tell it the URLs to build its answers from.

    The API is at `127.0.0.1`; the download host is called `localhost`, and is `127.0.0.1` elsewhere.

    Args:
        simulator: What to serve.
        graph_port: The port of the API; 0: any free one.
        lookaside_port: The port of the download host; 0: any free one.
    """
    with _listen(graph_port) as graph_socket, _listen(lookaside_port) as lookaside_socket:
        graph, lookaside = graph_socket.getsockname()[1], lookaside_socket.getsockname()[1]
        endpoints = Endpoints(
            graph_url=f"http://127.0.0.1:{graph}",
            lookaside_url=f"http://localhost:{lookaside}",
            elsewhere_url=f"http://127.0.0.1:{lookaside}",
        )
        simulator.graph_url = endpoints.graph_url
        simulator.lookaside_url = endpoints.lookaside_url
        simulator.elsewhere_url = endpoints.elsewhere_url
        async with _running({graph_socket: simulator.graph, lookaside_socket: simulator.lookaside}):
            yield endpoints


@contextlib.contextmanager
def _listen(port: int) -> Iterator[socket.socket]:
    # By its protocol asyncio knows to send at once (TCP_NODELAY): else each answer in two parts waits for 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        yield listener


class _Server(uvicorn.Server):
    """A server that leaves the process's signals alone, and tells when it has started."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            self._with_hang_up(app),
            http="httptools",
            lifespan="off",
            log_config=None,  # the process that serves a simulator has its own
            access_log=False,
            proxy_headers=False,  # `_hang_up` knows a connection by its real peer
            timeout_graceful_shutdown=2 * _STOP_SECONDS,
        )
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def drop_connections(self) -> None:
        """Close what is still open, such as a download that stalls for ever."""
        for connection in self._connections():
            connection.transport.close()

    def _connections(self) -> list[HttpToolsProtocol]:
        return [one for one in self.server_state.connections if isinstance(one, HttpToolsProtocol)]

    def _with_hang_up(self, app: ASGIApp) -> ASGIApp:
        async def extended(scope: Scope, receive: Receive, send: Send) -> None:
            call = functools.partial(self._hang_up, scope["client"])
            await app({**scope, "extensions": {HANG_UP: {"call": call}}}, receive, send)

        return extended

    def _hang_up(self, peer: tuple[str, int], *, reset: bool) -> None:
        transport = next(one.transport for one in self._connections() if one.client == peer)
        if reset:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.close()  # once it has written what it still holds


@contextlib.asynccontextmanager
async def _running(apps: Mapping[socket.socket, ASGIApp]) -> AsyncIterator[None]:
    servers = {listener: _Server(app) for listener, app in apps.items()}
    serving = [asyncio.create_task(server.serve([listener])) for listener, server in servers.items()]
    try:
        async with asyncio.timeout(_START_SECONDS):
            await asyncio.gather(*(server.ready.wait() for server in servers.values()))
        yield
    finally:
        for server in servers.values():
            server.should_exit = True
        await asyncio.wait(serving, timeout=_STOP_SECONDS)
        for server in servers.values():
            server.drop_connections()
        await asyncio.gather(*serving)
