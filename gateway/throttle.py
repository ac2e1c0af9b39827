"""Refuses what is too much, outside of all routes: requests and bytes of a client, header fields, slow bodies."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import Row, problem_response
from gateway.forwarded import Networks, client_address, peer_of, subscriber
from gateway.limits import Limits, Rate, RateExceeded
from gateway.settings import GatewaySettings

EXEMPT = frozenset({"/healthz", "/readyz", "/metrics"})
MAX_FIELDS = 100
MAX_FIELDS_SIZE = 32 * 1024  # bytes of all names and values; a JWT takes up to 8 KiB, cookies as much
BODY_PATIENCE = 20.0  # seconds without a byte of a body that was announced

Cause = Literal["address", "credential", "fields", "body"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolls:
    """What everybody may have, and by whose word clients are told apart."""

    addresses: Limits
    credentials: Limits
    trusted: Networks

    @classmethod
    def of(cls, settings: GatewaySettings) -> Self:
        """Read the settings."""
        requests, traffic = Rate.parse(settings.limit_requests), Rate.parse(settings.limit_bytes)
        return cls(
            addresses=Limits(requests, traffic),
            credentials=Limits(requests, traffic),
            trusted=Networks.parse(settings.trusted_proxies),
        )


class ThrottleObserver(Protocol):
    """What wants to know of refusals, such as metrics."""

    def throttled(self, by: Cause) -> None:
        """A request was refused."""


class Toll:
    """Who pays for a request: its address, until a credential is proven.

    Nobody can spend what belongs to a credential without having it: what is not verified yet costs the address alone.
    """

    def __init__(
        self, address: str, addresses: Limits, credentials: Limits, observer: ThrottleObserver, *, exempt: bool = False
    ) -> None:
        """Take the address and the limits; who is ``exempt`` pays for nothing by the address."""
        self.address = address
        """Of the client, for the log."""
        self._subscriber = subscriber(address)
        self._addresses = addresses
        self._credentials = credentials
        self._observer = observer
        self._address_pays = not exempt
        self._credential: str | None = None

    def enter(self) -> None:
        """Charge the address for the request; raises RateExceeded."""
        if self._address_pays:
            self._admit(self._addresses, self._subscriber, "address")

    def charge(self, credential: str, *, names_holder: bool) -> None:
        """Let a credential that was verified pay.

        Args:
            credential: What tells it from all others, such as ``user:`` and the subject; it is kept in memory.
            names_holder: Whether it is somebody's own: then the address does not pay any more, which a whole office
                may share. What anybody may carry, such as a signed URL, costs the address as well.

        Raises:
            RateExceeded: The credential was used too much; the address has paid for asking.
        """
        self._admit(self._credentials, credential, "credential")
        self._credential = credential
        if names_holder:
            self.waive()

    def waive(self) -> None:
        """Take the charge back from the address: who asks has proven to be one of ours."""
        if self._address_pays:
            self._addresses.excuse(self._subscriber)
        self._address_pays = False

    def sent(self, size: int) -> None:
        """Charge bytes of the response's body."""
        if self._address_pays:
            self._addresses.sent(self._subscriber, size)
        if self._credential is not None:
            self._credentials.sent(self._credential, size)

    def _admit(self, limits: Limits, client: str, cause: Cause) -> None:
        try:
            limits.admit(client)
        except RateExceeded:
            self._observer.throttled(cause)
            raise


def toll_of(scope: Scope) -> Toll:
    """Return who pays for a request that came through `Throttle`."""
    toll: Toll = scope["state"]["toll"]
    return toll


class Throttle:
    """Middleware that charges every request to somebody, and bounds what it may send and how slowly."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        addresses: Limits,
        credentials: Limits,
        trusted: Networks,
        observer: ThrottleObserver,
        exempt: Collection[str] = EXEMPT,
        body_patience: float = BODY_PATIENCE,
    ) -> None:
        """Take limits by address and by credential, the proxies that are believed, and paths that cost nothing.

        ``body_patience`` is how many seconds a body may make no progress.
        """
        self._app = app
        self._addresses = addresses
        self._credentials = credentials
        self._trusted = trusted
        self._observer = observer
        self._exempt = frozenset(exempt)
        self._body_patience = body_patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        toll = self._toll(scope)
        scope.setdefault("state", {})["toll"] = toll
        refusal = self._refusal(scope, toll)
        if refusal is not None:
            await refusal(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._exchange(scope, receive, send, toll)

    def _toll(self, scope: Scope) -> Toll:
        address = client_address(peer_of(scope), scope["headers"], self._trusted)
        exempt = scope["path"] in self._exempt
        return Toll(address, self._addresses, self._credentials, self._observer, exempt=exempt)

    def _refusal(self, scope: Scope, toll: Toll) -> Response | None:
        fields = scope["headers"]
        if len(fields) > MAX_FIELDS or sum(len(name) + len(value) for name, value in fields) > MAX_FIELDS_SIZE:
            self._observer.throttled("fields")
            return _fields_too_large(scope)
        try:
            toll.enter()
        except RateExceeded as error:
            return too_many_requests(error, scope)
        return None

    async def _exchange(self, scope: Scope, receive: Receive, send: Send, toll: Toll) -> None:
        exchange = _Exchange(receive, send, toll, self._body_patience)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            if not exchange.stalled:
                raise
        if exchange.stalled:
            self._observer.throttled("body")
            await _request_timeout(scope)(scope, receive, send)


class _Exchange:
    """One request and its response, as the application sees them."""

    def __init__(self, receive: Receive, send: Send, toll: Toll, patience: float) -> None:
        self.stalled = False
        """Whether the body stopped coming before the response began: what the application says to that is dropped."""
        self._receive = receive
        self._send = send
        self._toll = toll
        self._patience = patience
        self._has_all = False
        self._has_answer = False

    async def receive(self) -> Message:
        if self._has_all or self._has_answer:
            return await self._receive()
        try:
            async with asyncio.timeout(self._patience):
                message = await self._receive()
        except TimeoutError:
            if self._has_answer:  # it began meanwhile, and needs no body
                return await self._receive()
            self.stalled = True
            return {"type": "http.disconnect"}
        self._has_all = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if self.stalled:
            return
        self._has_answer = True
        await self._send(message)
        self._toll.sent(len(message.get("body", b"")))


def too_many_requests(error: RateExceeded, scope: Scope) -> Response:
    """Return the answer to a client that asked for too much."""
    headers = {"Retry-After": str(error.retry_after)}
    row = Row(429, "Too many requests")
    return problem_response(row, "too-many-requests", str(error), _request_id(scope), headers=headers)


def _fields_too_large(scope: Scope) -> Response:
    detail = f"A request has at most {MAX_FIELDS} header fields, of {MAX_FIELDS_SIZE} bytes together."
    return problem_response(Row(431, "Header fields too large"), "header-fields-too-large", detail, _request_id(scope))


def _request_timeout(scope: Scope) -> Response:
    # RFC 9110 section 15.5.9: and close, as the rest of the body may still come.
    headers = {"Connection": "close"}
    detail = "The body did not arrive in time."
    return problem_response(Row(408, "Too slow"), "request-timeout", detail, _request_id(scope), headers=headers)


def _request_id(scope: Scope) -> str:
    return str(scope["state"].get("request_id", ""))
