"""Around every request: its id, its line in the log, its metrics, the problem document of what went wrong; CORS."""

from time import perf_counter

import structlog
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.accesslog import AccessLog, Line
from gateway.errors import problem
from gateway.metrics import Metrics
from gateway.requestids import request_id

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})

log = structlog.get_logger()


class Observed:
    """Gives a request its id, and tells log and metrics how it was answered."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, access_log: AccessLog) -> None:
        self._app = app
        self._metrics = metrics
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        answer = _Answer(send, request_id(given))
        named = scope.setdefault("state", {})["request_id"] = answer.request_id.decode("ascii")
        began = perf_counter()
        # A request is a task of its own, with a context of its own.
        structlog.contextvars.bind_contextvars(request_id=named)
        try:
            await self._app(scope, receive, answer.send)
        except Exception as error:
            log.exception("request failed")
            if answer.status == 0:  # otherwise the server breaks the connection: the body has not ended
                await problem(error, named)(scope, receive, answer.send)
        finally:
            self._tell(scope, answer, perf_counter() - began)

    def _tell(self, scope: Scope, answer: "_Answer", seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = getattr(scope.get("route"), "name", "unknown")
        self._metrics.answered(route, method, answer.status, answer.source, seconds)
        line = Line.of(method, scope["path"], route=route, status=answer.status, source=answer.source, size=answer.size)
        self._access_log.write(line, scope["state"]["request_id"], seconds)


class _Answer:
    """What is sent for one request."""

    __slots__ = ("_send", "request_id", "size", "source", "status")

    def __init__(self, send: Send, request_id: bytes) -> None:
        self.request_id = request_id
        self.status = 0
        self.source = "none"
        self.size = 0
        self._send = send

    async def send(self, message: Message) -> None:
        """Pass a message on, and add the id of the request."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.source = _source(message["headers"])
            message["headers"] = [*message["headers"], (b"x-request-id", self.request_id)]
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)


class CrossOrigin(CORSMiddleware):
    """Starlette's CORS, except that a preflight is refused as browsers expect it: by saying nothing."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer without an error where the page may not: that would have to be a problem document."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:  # noqa: PLR2004 OK
            return response
        return Response(status_code=204, headers={"Vary": response.headers["vary"]})


def _source(headers: list[tuple[bytes, bytes]]) -> str:
    return next((value.decode("ascii") for name, value in headers if name == b"x-media-source"), "none")
