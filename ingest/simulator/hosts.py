"""What both hosts of the provider have in common: the log, the master switch, and how a connection ends."""

import asyncio
import contextlib
from collections.abc import Coroutine

from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.simulator.provider import Outage, Provider
from ingest.simulator.traffic import HostName, note

CONTROL_PATH = "/_simulator"
HANG_UP = "simulator.hang_up"
"""An ASGI extension of our own server: its `call` ends the connection, by a reset where asked for one."""


class Host:
    """One of the provider's hosts, around the app that answers for it."""

    def __init__(self, app: ASGIApp, provider: Provider, name: HostName) -> None:
        self._app = app
        self._provider = provider
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note the request, and pass it on while the provider is online; control calls always pass."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL_PATH):
            await self._app(scope, receive, send)
            return
        entry = note(scope, at=self._provider.now(), host_name=self._name)
        self._provider.requests.append(entry)
        if self._provider.online:
            await self._app(scope, receive, entry.watch(send))
        elif self._provider.outage is Outage.DISCONNECT:
            await hang_up(scope, receive, reset=False)
        else:
            await send_text(entry.watch(send), 503, "Service Unavailable")


async def send_text(send: Send, status: int, text: str, headers: dict[str, str] | None = None) -> None:
    """Answer with a line of plain text."""
    body = text.encode()
    fields = {"content-type": "text/plain", "content-length": str(len(body)), **(headers or {})}
    await send_start(send, status, fields)
    await send({"type": "http.response.body", "body": body})


async def send_start(send: Send, status: int, headers: dict[str, str]) -> None:
    """Begin an answer."""
    fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})


async def hang_up(scope: Scope, receive: Receive, *, reset: bool) -> None:
    """End the connection without ending the answer.

    Raises:
        ConnectionResetError: The server is not ours; an exception makes most servers close the connection.
    """
    extension = scope.get("extensions", {}).get(HANG_UP)
    if extension is None:
        raise ConnectionResetError("the simulated provider hung up")
    extension["call"](reset=reset)
    await _disconnected(receive)


async def while_connected(receive: Receive, answer: Coroutine[None, None, None]) -> None:
    """Run an answer that may wait long, and drop it when the client goes away."""
    answering = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        answering.cancel()  # does nothing where it has ended
        with contextlib.suppress(asyncio.CancelledError):
            await answering


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
