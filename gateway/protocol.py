"""The HTTP/1.1 protocol of the server, with bounds for each connection: memory, header, and patience."""

import asyncio
import json
import socket
import struct
from collections.abc import Sequence
from http import HTTPStatus
from typing import ClassVar, Protocol, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.corked import Corked
from gateway.requestids import request_id

Fields = Sequence[tuple[bytes, bytes]]
EXPRESS = "express"
"""The name in the lifespan's state of what answers requests at once."""

_NO_LINGER = struct.pack("ii", 1, 0)  # see socket(7): a close sends a reset


class Express(Protocol):
    """Knows the answers to some requests without asking the application."""

    def answer(
        self, method: bytes, target: bytes, fields: Fields, peer: str, server_fields: Fields
    ) -> Sequence[bytes | memoryview] | None:
        """Return what to write for a request without a body, or None: it is for the application."""


class LeanProtocol(HttpToolsProtocol):
    """Holds no chunk in user space beyond the one that the kernel has not taken whole, and no connection for nothing.

    The event loop would otherwise queue 64 KiB and more for every client that reads slowly; the kernel's own buffer
    keeps fast ones busy.

    The parser bounds neither the size of a header nor the time that it takes to come, and a transport that is closed
    waits for ever for a client to take what is left: so both are watched here, below ASGI, which cannot break a
    connection.
    """

    max_head: ClassVar[int] = 64 * 1024  # bytes of request line and header fields
    head_patience: ClassVar[float] = 20.0  # seconds for a whole header to come
    write_patience: ClassVar[float] = 60.0  # seconds in which a client takes no byte of what waits for it

    _transport: asyncio.Transport
    _corked: Corked
    _in_head = False
    _is_answered = False
    _head_size = 0
    _head_due: asyncio.TimerHandle | None = None
    _write_due: asyncio.TimerHandle | None = None
    _idle_since: float | None = None
    """When the last request was answered at once, if none has begun since; in the event loop's time."""
    _idle_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pause the application as soon as the kernel's buffer is full, and wait for a request."""
        super().connection_made(transport)  # type: ignore[arg-type] # uvicorn narrows the type
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self._corked = Corked(self._transport, self.loop)
        self.transport = cast("asyncio.Transport", self._corked)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._end_head()
        self._end_write()
        if self._idle_due is not None:
            self._idle_due.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and refuse a header that does not end."""
        super().data_received(data)
        if self._head_due is None and self._is_idle():
            self._await_head()
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > self.max_head and not self._transport.is_closing():
                status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                detail = "The request's header is too large."
                self._transport.write(_problem(status, "header-fields-too-large", "Header fields too large", detail))
                self._transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP with a problem document, like everything else."""
        self._transport.write(_problem(HTTPStatus.BAD_REQUEST, "bad-request", "Bad request", msg))
        self._transport.close()

    def on_message_begin(self) -> None:
        """Begin to measure a header, without the scope that only the application needs."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._in_head, self._head_size, self._idle_since = True, 0, None

    def on_headers_complete(self) -> None:
        """Answer the request at once, or begin it."""
        self._end_head()
        self._is_answered = self._answer_at_once()
        if not self._is_answered:
            url, fields, expects = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expects
            self.headers += fields  # the same list as in the scope
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, if somebody waits for it."""
        if not self._is_answered:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request, if it is not answered yet."""
        if not self._is_answered:
            super().on_message_complete()

    def _answer_at_once(self) -> bool:
        """Answer what is known without a task; not while answers before it are still on their way."""
        express: Express | None = self.app_state.get(EXPRESS)
        if express is None or self.flow.write_paused or self._is_running() or not self._is_plain():
            return False
        peer = self.client[0] if self.client else ""
        server_fields = self.server_state.default_headers
        pieces = express.answer(self.parser.get_method(), self.url, self.headers, peer, server_fields)
        if pieces is None:
            return False
        self._corked.flush()
        for piece in pieces:
            self._corked.send(piece)
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self._idle_due is None:
            self._await_request(self.timeout_keep_alive)
        return True

    def _is_plain(self) -> bool:
        """Whether the connection stays what it is behind the request."""
        parser = self.parser
        keeps: bool = parser.should_keep_alive() and not parser.should_upgrade()
        return keeps and parser.get_http_version() == "1.1"

    def _is_idle(self) -> bool:
        """Whether nothing else watches over the connection: no request runs, and none has just been answered."""
        return not self._is_running() and self.timeout_keep_alive_task is None and self._idle_since is None

    def _is_running(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def pause_writing(self) -> None:
        """Begin to watch the client: it has to take something in time."""
        super().pause_writing()
        self._await_progress(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client has taken all there was."""
        self._end_write()
        super().resume_writing()

    def _await_head(self) -> None:
        self._head_due = self.loop.call_later(self.head_patience, self._transport.close)

    def _end_head(self) -> None:
        self._in_head = False
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _await_request(self, seconds: float) -> None:
        # One timer for many requests: to set one and cancel it for each costs as much as a limit.
        self._idle_due = self.loop.call_later(seconds, self._check_idle)

    def _check_idle(self) -> None:
        self._idle_due = None
        if self._idle_since is None:
            return  # a request is on its way, or has been answered by the application, which has a timer for that
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._await_request(left)
        else:
            self.timeout_keep_alive_handler()

    def _await_progress(self, waiting: int) -> None:
        self._write_due = self.loop.call_later(self.write_patience, self._check_progress, waiting)

    def _end_write(self) -> None:
        if self._write_due is not None:
            self._write_due.cancel()
            self._write_due = None

    def _check_progress(self, waiting: int) -> None:
        left = self._transport.get_write_buffer_size()
        if left < waiting:
            self._await_progress(left)
        else:
            # `close` would wait until the client has taken the rest, and so would the kernel after `abort` alone.
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._transport.abort()


def _problem(status: HTTPStatus, kind: str, title: str, detail: str) -> bytes:
    """Return a whole response: there is no request yet that the application could answer."""
    named = request_id(b"").decode("ascii")
    body = json.dumps({"type": kind, "title": title, "status": status, "detail": detail, "request_id": named})
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "content-type: application/problem+json",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        f"x-request-id: {named}",
        "connection: close",
    )
    return "\r\n".join((*head, "", body)).encode()
