"""Posts webhooks to a callback URL: signed, repeated, out of order and stubborn, as the provider does."""

import asyncio
import hmac
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

import httpx

from ingest.simulator.webhooks import Json, encode

SIGNATURE_HEADER = "X-Hub-Signature-256"


class Signature(StrEnum):
    """How a POST is signed."""

    VALID = "valid"
    WRONG = "wrong"  # well-formed, by another secret
    MALFORMED = "malformed"  # no `sha256=`, too short
    MISSING = "missing"


def sign(body: bytes, app_secret: str) -> str:
    """Compute the value of `X-Hub-Signature-256` over the raw bytes of a body."""
    return "sha256=" + hmac.digest(app_secret.encode(), body, "sha256").hex()


class WebhookSender:
    """Delivers webhooks to one callback URL.

    Args:
        callback_url: The subscriber.
        app_secret: Signs the bodies; never shown.
        client: Carries the requests; its time limits are the delivery's.
        first_delay: Seconds before the first retry; each later one waits twice as long. The real steps are unknown.
        attempts: Deliveries before giving up, the first included; the real window is 7 days.
        sleep: Waits between retries.
    """

    def __init__(
        self,
        callback_url: str,
        app_secret: str,
        client: httpx.AsyncClient,
        *,
        first_delay: float = 1.0,
        attempts: int = 8,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.callback_url = callback_url
        self._app_secret = app_secret
        self._client = client
        self._first_delay = first_delay
        self._attempts = attempts
        self._sleep = sleep

    async def handshake(self, verify_token: str) -> bool:
        """Verify the subscription: the subscriber must answer 200 with nothing but the challenge."""
        challenge = str(secrets.randbelow(10**10))
        query = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": verify_token}
        response = await self._client.get(self.callback_url, params=query)
        return response.status_code == httpx.codes.OK and response.text == challenge

    async def send(self, payload: Json | bytes, *, signature: Signature = Signature.VALID) -> httpx.Response:
        """Post once; bytes go out as they are.

        Raises:
            httpx.HTTPError: The subscriber cannot be reached, or does not answer in time.
        """
        body = payload if isinstance(payload, bytes) else encode(payload)
        headers = {"Content-Type": "application/json", **self._signed(body, signature)}
        return await self._client.post(self.callback_url, content=body, headers=headers)

    async def deliver(self, payload: Json | bytes) -> list[int | None]:
        """Post until the answer is 200, or the attempts are used up.

        Returns:
            The status of each attempt; None where there was no answer.
        """
        body = payload if isinstance(payload, bytes) else encode(payload)
        statuses: list[int | None] = []
        while True:
            try:
                statuses.append((await self.send(body)).status_code)
            except httpx.HTTPError:
                statuses.append(None)
            if statuses[-1] == httpx.codes.OK or len(statuses) >= self._attempts:
                return statuses
            await self._sleep(self._first_delay * 2 ** (len(statuses) - 1))

    async def send_repeatedly(self, payload: Json | bytes, times: int = 2) -> list[httpx.Response]:
        """Post the same bytes again and again, each after the answer to the one before."""
        body = payload if isinstance(payload, bytes) else encode(payload)
        return [await self.send(body) for _ in range(times)]

    async def send_concurrently(self, payload: Json | bytes, times: int = 2) -> list[httpx.Response]:
        """Post the same bytes several times at once."""
        body = payload if isinstance(payload, bytes) else encode(payload)
        return await asyncio.gather(*(self.send(body) for _ in range(times)))

    async def send_reordered(self, payloads: Sequence[Json | bytes], *, seed: int = 0) -> list[httpx.Response]:
        """Post payloads in an order that depends on the seed only; of two, the later one first."""
        order = list(reversed(payloads))
        if len(order) > 2:  # noqa: PLR2004 - two have one other order
            random.Random(seed).shuffle(order)  # noqa: S311 - an order to repeat, not a secret
        return [await self.send(payload) for payload in order]

    def _signed(self, body: bytes, signature: Signature) -> dict[str, str]:
        values = {
            Signature.VALID: sign(body, self._app_secret),
            Signature.WRONG: sign(body, "not " + self._app_secret),
            Signature.MALFORMED: sign(body, self._app_secret).removeprefix("sha256=")[:32],
        }
        return {SIGNATURE_HEADER: values[signature]} if signature in values else {}
