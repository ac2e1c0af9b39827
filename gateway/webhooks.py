"""``/webhooks/whatsapp``: the provider's handshake and its signed events."""

import asyncio

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.bodies import json_response, read_body
from gateway.errors import BadRequest, Forbidden, NotFound, Unauthorized
from gateway.metrics import Metrics
from gateway.throttle import toll_of
from ingest.subscriptions import Routing, Subscriptions
from ingest.webhook import MAX_BODY, THREADED, Intake, MalformedWebhook

MAX_VERIFYING = 2  # large bodies at a time: strangers must not take all threads

log = structlog.get_logger()


class Webhooks:
    """The endpoints, one for each workspace and one that all share."""

    def __init__(self, subscriptions: Subscriptions, intake: Intake, metrics: Metrics) -> None:
        self._subscriptions = subscriptions
        self._intake = intake
        self._metrics = metrics
        self._verifying = asyncio.Semaphore(MAX_VERIFYING)

    async def handshake(self, request: Request) -> Response:
        """Echo the challenge to who knows the verify token."""
        workspace_id, query = self._addressed(request), request.query_params
        given = query.get("hub.verify_token", "")
        if query.get("hub.mode") != "subscribe" or not self._subscriptions.is_verified(given, workspace_id):
            raise Forbidden("The verify token is not ours.")
        # Text, never HTML: the challenge is the caller's.
        return PlainTextResponse(query.get("hub.challenge", ""), headers={"X-Content-Type-Options": "nosniff"})

    async def receive(self, request: Request) -> Response:
        """Take signed events in: 200 only after every medium's record and job are durable."""
        workspace_id = self._addressed(request)
        signature = request.headers.get("x-hub-signature-256")
        if signature is None:
            self._metrics.webhooks.labels("unsigned").inc()
            raise Unauthorized("The webhook is not signed.")
        body = await read_body(request, limit=MAX_BODY)
        routing = await self._routing(body, signature, workspace_id)
        if routing is None:
            self._metrics.webhooks.labels("forged").inc()
            raise Forbidden("The webhook's signature is wrong.")
        toll_of(request.scope).waive()  # the provider sends as fast as people write
        try:
            taken = await self._intake.accept(body, route=routing)
        except MalformedWebhook as error:
            self._metrics.webhooks.labels("malformed").inc()
            raise BadRequest(str(error)) from None
        if taken.dropped:
            log.warning(
                "events of numbers that are others' dropped", signers=sorted(routing.signers), events=taken.dropped
            )
        self._metrics.webhooks.labels("misrouted" if taken.dropped else "accepted").inc()
        return json_response({"new_media": taken.new})

    async def _routing(self, body: bytes, signature: str, workspace_id: str | None) -> Routing | None:
        if len(body) <= THREADED:
            return self._subscriptions.routing(body, signature, workspace_id)
        async with self._verifying:
            return await asyncio.to_thread(self._subscriptions.routing, body, signature, workspace_id)

    def _addressed(self, request: Request) -> str | None:
        """Return the workspace whose address this is; None: the one that all share."""
        workspace_id: str | None = request.path_params.get("workspace_id")
        if workspace_id is not None and workspace_id not in self._subscriptions:
            raise NotFound("There is no such workspace.")
        return workspace_id
