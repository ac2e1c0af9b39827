"""``/webhooks/whatsapp``: the provider's handshake and its signed events."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.bodies import json_response, read_body
from gateway.errors import BadRequest, Forbidden, NotFound, Unauthorized
from gateway.metrics import Metrics
from ingest.webhook import MAX_BODY, Intake, MalformedWebhook, signature_is_valid


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """The secrets that one workspace shares with the provider; an empty one opens nothing."""

    app_secrets: tuple[str, ...]
    verify_token: str

    def __repr__(self) -> str:
        """Show no secret."""
        return "Subscription()"


class Webhooks:
    """The endpoints, for every workspace that has a subscription."""

    def __init__(self, subscriptions: Mapping[str, Subscription], intake: Intake, metrics: Metrics) -> None:
        self._subscriptions = subscriptions
        self._intake = intake
        self._metrics = metrics

    async def handshake(self, request: Request) -> Response:
        """Echo the challenge to who knows the verify token."""
        _, subscription = self._subscription(request)
        query = request.query_params
        given = query.get("hub.verify_token", "").encode()
        known = subscription.verify_token.encode()
        if query.get("hub.mode") != "subscribe" or not known or not hmac.compare_digest(given, known):
            raise Forbidden("The verify token is not ours.")
        # Text, never HTML: the challenge is the caller's.
        return PlainTextResponse(query.get("hub.challenge", ""), headers={"X-Content-Type-Options": "nosniff"})

    async def receive(self, request: Request) -> Response:
        """Take signed events in: 200 only after every medium's record and job are durable."""
        workspace_id, subscription = self._subscription(request)
        signature = request.headers.get("x-hub-signature-256")
        if signature is None:
            self._metrics.webhooks.labels("unsigned").inc()
            raise Unauthorized("The webhook is not signed.")
        body = await read_body(request, limit=MAX_BODY)
        if not signature_is_valid(body, signature, subscription.app_secrets):
            self._metrics.webhooks.labels("forged").inc()
            raise Forbidden("The webhook's signature is wrong.")
        try:
            new = await self._intake.accept(body, workspace_id=workspace_id)
        except MalformedWebhook as error:
            self._metrics.webhooks.labels("malformed").inc()
            raise BadRequest(str(error)) from None
        self._metrics.webhooks.labels("accepted").inc()
        return json_response({"new_media": new})

    def _subscription(self, request: Request) -> tuple[str, Subscription]:
        workspace_id: str = request.path_params.get("workspace_id", "default")
        subscription = self._subscriptions.get(workspace_id)
        if subscription is None:
            raise NotFound("There is no such workspace.")
        return workspace_id, subscription
