"""Serves operators on a port of their own, which no client of the media reaches."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp

from gateway.protocol import LeanProtocol
from gateway.settings import ConfigurationError
from gateway.websockets import websocket


class _Server(uvicorn.Server):
    """A second server in one process: the signals are the first one's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def backstage(app: ASGIApp, *, host: str, port: int) -> AsyncIterator[None]:
    """Serve ``app`` there while inside; every process of the gateway does so on the same port, and any may answer.

    Raises:
        ConfigurationError: There can be no such server.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, reuse_port=True)
    except OSError as error:
        raise ConfigurationError(f"MEDIA_OPERATIONS_PORT: cannot listen on {port}: {error.strerror}") from None
    with listening:
        config = uvicorn.Config(
            app,
            http=LeanProtocol,
            ws=websocket,  # type: ignore[arg-type] # uvicorn only calls it
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listening]), name="backstage")
        try:
            yield
        finally:
            server.should_exit = True
            await task
