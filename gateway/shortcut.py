"""Middleware that answers what is known how to answer, from memory or from the store, past all that decides it."""

from time import perf_counter

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.answers import Answers, Found
from gateway.forwarded import peer_of
from gateway.metrics import Metrics
from gateway.prepared import target_of
from gateway.responses import Decision, send_body, send_bodyless, server_timing
from storage.errors import StorageError
from storage.retrieval import Retrieval

log = structlog.get_logger()


class Way:
    """What a shortcut leads to, once the services are open."""

    def __init__(self, answers: Answers, retrieval: Retrieval, metrics: Metrics) -> None:
        self._answers = answers
        self._retrieval = retrieval
        self._metrics = metrics

    async def taken(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer a request, or return False: nothing was sent, nor charged."""
        began = perf_counter()
        found = self._answers.find(scope["method"].encode(), target_of(scope), scope["headers"], peer_of(scope))
        if found is None or not self._answers.charge(found):
            return False
        scope["route"] = found.prepared.route
        if found.prepared.body is None:
            await send_bodyless(_timed(found, began), send)
            self._answers.sent(found, found.prepared.elsewhere)
            self._metrics.served(found.prepared.source, found.prepared.status, perf_counter() - began, 0)
            return True
        if await self._sent(found, began, receive, send):
            return True
        self._answers.forget(found)
        self._answers.excuse(found)
        return False

    async def _sent(self, found: Found, began: float, receive: Receive, send: Send) -> bool:
        prepared = found.prepared
        try:
            async with self._retrieval.open_stored(prepared.shown, prepared.part) as opened:
                if opened.representation.source is not prepared.source:
                    return False
                first_byte = perf_counter() - began
                sent = await send_body(_timed(found, began), opened, receive, send)
        except StorageError as error:  # nothing was sent yet: `send_body` takes care of what comes later
            log.warning("store failed where it should have been read", error=type(error).__name__)
            return False
        self._answers.sent(found, sent)
        self._metrics.served(prepared.source, prepared.status, first_byte, sent)
        return True


class Shortcut:
    """Takes the way that the lifespan has put into the state, if there is one."""

    STATE = "shortcut"

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on."""
        way: Way | None = scope.get("state", {}).get(self.STATE)
        if scope["type"] != "http" or way is None or not await way.taken(scope, receive, send):
            await self._app(scope, receive, send)


def _timed(found: Found, began: float) -> Decision:
    prepared = found.prepared
    ranges = (prepared.part,) if prepared.part is not None else None
    return Decision(
        prepared.status, [*prepared.fields, server_timing(prepared.source, began)], ranges, length=prepared.size
    )
