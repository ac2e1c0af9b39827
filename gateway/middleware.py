"""Around every request: its id, its line in the log, its metrics, the problem document of what went wrong; CORS."""

import re
from time import perf_counter
from typing import Any
from uuid import uuid4

import structlog
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import problem
from gateway.metrics import Metrics

_SANE_ID = re.compile(rb"[A-Za-z0-9._:=/+-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})

log = structlog.get_logger()


class Observed:
    """Gives a request its id, and tells log and metrics how it was answered."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        answer: dict[str, Any] = {"status": 0, "source": "none", "bytes": 0}

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer["status"] = message["status"]
                answer["source"] = _source(message["headers"])
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            else:
                answer["bytes"] += len(message.get("body", b""))
            await send(message)

        began = perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, observed)
            except Exception as error:
                log.exception("request failed")
                if answer["status"] == 0:  # otherwise the server breaks the connection: the body has not ended
                    await problem(error, request_id)(scope, receive, observed)
            finally:
                self._tell(scope, answer, perf_counter() - began)

    def _tell(self, scope: Scope, answer: dict[str, Any], seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = getattr(scope.get("route"), "name", "unknown")
        self._metrics.answered(route, method, answer["status"], answer["source"], seconds)
        # The path without its query: that holds signatures.
        log.info("request", method=method, path=scope["path"][:300], route=route, **answer, seconds=round(seconds, 4))


class CrossOrigin(CORSMiddleware):
    """Starlette's CORS, except that a preflight is refused as browsers expect it: by saying nothing."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer without an error where the page may not: that would have to be a problem document."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:  # noqa: PLR2004 OK
            return response
        return Response(status_code=204, headers={"Vary": response.headers["vary"]})


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode("ascii") if _SANE_ID.fullmatch(given) else uuid4().hex


def _source(headers: list[tuple[bytes, bytes]]) -> str:
    return next((value.decode("ascii") for name, value in headers if name == b"x-media-source"), "none")
