"""An issuer's keys stay fresh from an endpoint that rotates, fails, hangs or lies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from gateway.jwks import MAX_DOCUMENT, MAX_WAITING, URL, Jwks, fetch, open_jwks
from tests.gateway.issuer import Clock, document, knows, signing
from tests.running import NO_TLS, PATIENCE, serving, until

OLD, NEW = signing("RS256", "old"), signing("RS256", "new")


class Endpoint:
    """A JWKS endpoint that answers as told, and counts."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.body = document(OLD.jwk())
        self.status = 200
        self.headers: dict[str, str] = {}
        self.chunked = False
        self.pause = 0.0  # seconds between chunks
        self.encodings: set[str] = set()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Mount("", self)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests.append(Request(scope).url.path)
        self.encodings.add(Request(scope).headers["accept-encoding"])
        await self.may_answer.wait()
        answer = Response(self.body, self.status, self.headers)
        await (StreamingResponse(self._drops()) if self.chunked else answer)(scope, receive, send)

    async def _drops(self) -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * (1 if self.pause else 65_536)
            await asyncio.sleep(self.pause)


@pytest.fixture
async def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def keys_of(endpoint: Endpoint, clock: Clock, patience: float = PATIENCE) -> AsyncIterator[Jwks]:
    """Serve the endpoint, and follow it as `URL` says by that clock, with that patience in real seconds."""
    freshness = replace(URL, patience=patience)
    async with serving(endpoint.app) as base, httpx.AsyncClient(verify=NO_TLS, trust_env=False) as client:
        read = partial(fetch, client, httpx.URL(f"{base}/jwks.json"), patience)
        async with aclosing(Jwks(read, freshness, clock=clock)) as jwks:
            try:
                yield jwks
            finally:
                endpoint.may_answer.set()  # the server ends when its requests have


async def settled(jwks: Jwks) -> None:
    await until(lambda: jwks._reading is None)


async def test_keys_are_read_once_and_kept(endpoint: Endpoint, clock: Clock) -> None:
    async with keys_of(endpoint, clock) as jwks:
        for _ in range(10):
            assert await knows(jwks, "old")
        clock.now += URL.max_age - 1
        assert await knows(jwks, "old")
    assert endpoint.requests == ["/jwks.json"]
    assert endpoint.encodings == {"identity"}  # what is compressed has no size that can be bounded


async def test_keys_are_read_again_in_the_background_when_they_are_old(endpoint: Endpoint, clock: Clock) -> None:
    async with keys_of(endpoint, clock) as jwks:
        assert await knows(jwks, "old")
        endpoint.body = document(NEW.jwk())
        endpoint.may_answer.clear()
        clock.now += URL.max_age
        assert await knows(jwks, "old")  # nobody waits
        endpoint.may_answer.set()
        await settled(jwks)
        assert await knows(jwks, "new")
        assert not await knows(jwks, "old")  # withdrawn


async def test_an_unknown_key_is_asked_for(endpoint: Endpoint, clock: Clock) -> None:
    async with keys_of(endpoint, clock) as jwks:
        assert await knows(jwks, "old")
        clock.now += URL.cooldown
        endpoint.body = document(OLD.jwk(), NEW.jwk())
        assert await knows(jwks, "new")
        assert await knows(jwks, "old")
    assert len(endpoint.requests) == 2


async def test_forged_key_ids_cause_one_request_per_cooldown(endpoint: Endpoint, clock: Clock) -> None:
    async with keys_of(endpoint, clock) as jwks:
        for period in range(1, 4):
            found = await asyncio.gather(*(knows(jwks, f"forged {number}") for number in range(200)))
            assert not any(found)
            assert not await knows(jwks, "forged later")
            assert len(endpoint.requests) == period
            clock.now += URL.cooldown


async def test_all_who_wait_share_one_request(endpoint: Endpoint, clock: Clock) -> None:
    async with keys_of(endpoint, clock) as jwks:
        endpoint.may_answer.clear()
        waiting = [asyncio.create_task(knows(jwks, "old")) for _ in range(100)]
        await until(lambda: jwks._waiting == 100)
        waiting.pop().cancel()  # whoever asked first, or last, may go
        waiting.pop(0).cancel()
        endpoint.may_answer.set()
        assert all(await asyncio.gather(*waiting))
    assert len(endpoint.requests) == 1


async def test_only_so_many_may_wait(endpoint: Endpoint, clock: Clock) -> None:
    async with keys_of(endpoint, clock) as jwks:
        endpoint.may_answer.clear()
        waiting = [asyncio.create_task(knows(jwks, "old")) for _ in range(MAX_WAITING)]
        await until(lambda: jwks._waiting == MAX_WAITING)
        assert not await knows(jwks, "old")
        endpoint.may_answer.set()
        assert all(await asyncio.gather(*waiting))
    assert len(endpoint.requests) == 1


async def test_a_hanging_endpoint_delays_nobody_whose_key_is_known(endpoint: Endpoint, clock: Clock) -> None:
    async with keys_of(endpoint, clock) as jwks:
        assert await knows(jwks, "old")
        endpoint.may_answer.clear()
        clock.now += URL.max_age
        for _ in range(10):
            assert await knows(jwks, "old")
        await until(lambda: len(endpoint.requests) == 2)
        assert jwks._reading is not None  # all that while it hung
        stranger = asyncio.create_task(knows(jwks, "unknown"))
        await until(lambda: jwks._waiting == 1)
        assert await knows(jwks, "old")
        assert not stranger.done()
        stranger.cancel()


async def test_a_hanging_endpoint_delays_the_others_once(endpoint: Endpoint, clock: Clock) -> None:
    async with keys_of(endpoint, clock, patience=0.2) as jwks:
        endpoint.may_answer.clear()
        began = monotonic()
        assert not await knows(jwks, "new")
        assert 0.1 < monotonic() - began < PATIENCE
        await settled(jwks)
        for _ in range(100):  # would take twenty seconds
            assert not await knows(jwks, "new")
        assert len(endpoint.requests) == 1
        endpoint.may_answer.set()
        endpoint.body = document(NEW.jwk())
        clock.now += URL.cooldown
        assert await knows(jwks, "new")


async def test_an_endpoint_that_drips_is_given_up(endpoint: Endpoint, clock: Clock) -> None:
    endpoint.chunked, endpoint.pause = True, 0.1  # ten seconds, each phase of it short
    async with keys_of(endpoint, clock, patience=1) as jwks:
        with capture_logs() as logs:
            assert not await knows(jwks, "old")
            await settled(jwks)
        assert [entry["error"] for entry in logs] == ["TimeoutError"]


FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"{status}": ({"status": status, "headers": {"Location": "/elsewhere"}}, f"answered {status}")
        for status in (204, 301, 302, 307, 308, 401, 404, 429, 500, 503)
    },
    "too long": ({"body": b" " * (MAX_DOCUMENT + 1)}, "larger than 262144 bytes"),
    "chunked and too long": ({"chunked": True}, "larger than 262144 bytes"),
    "compressed": ({"headers": {"Content-Encoding": "gzip"}, "body": b"\x1f\x8b\x08\x00"}, "not JSON"),
    "a web page": ({"body": b"<html>Sign in to the hotel's network"}, "not JSON"),
    "a private key": ({"body": document(NEW.jwk(d="AQ"))}, "private key"),
}


@pytest.mark.parametrize(("answer", "detail"), FAILURES.values(), ids=FAILURES)
async def test_while_an_endpoint_fails_the_keys_stay_for_a_day(
    endpoint: Endpoint, clock: Clock, answer: dict[str, Any], detail: str
) -> None:
    async with keys_of(endpoint, clock) as jwks:
        assert await knows(jwks, "old")
        vars(endpoint).update(answer)
        clock.now += URL.max_age
        with capture_logs() as logs:
            assert await knows(jwks, "old")
            await settled(jwks)
            assert await knows(jwks, "old")
            assert not await knows(jwks, "new")
        assert [entry["event"] for entry in logs] == ["JWKS could not be read"]
        assert detail in logs[0]["detail"]
        clock.now += URL.stale - URL.max_age - 1
        assert await knows(jwks, "old")
        await settled(jwks)
        clock.now += 1
        assert not await knows(jwks, "old")
    assert set(endpoint.requests) == {"/jwks.json"}  # no redirect is followed


async def test_a_failing_endpoint_is_asked_once_per_cooldown(endpoint: Endpoint, clock: Clock) -> None:
    async with keys_of(endpoint, clock) as jwks:
        assert await knows(jwks, "old")
        endpoint.status = 500
        clock.now += URL.max_age
        for period in range(2, 5):
            for _ in range(10):
                assert await knows(jwks, "old")
                await settled(jwks)
            assert len(endpoint.requests) == period
            clock.now += URL.cooldown


async def test_an_endpoint_that_withdraws_all_keys_is_believed(endpoint: Endpoint, clock: Clock) -> None:
    async with keys_of(endpoint, clock) as jwks:
        assert await knows(jwks, "old")
        endpoint.body = document()
        clock.now += URL.max_age
        jwks.start()
        await settled(jwks)
        assert not await knows(jwks, "old")


async def test_the_same_document_leaves_the_same_keys(endpoint: Endpoint, clock: Clock) -> None:
    async with keys_of(endpoint, clock) as jwks:
        key = await jwks.find("RS256", "old")
        clock.now += URL.max_age
        jwks.start()
        await settled(jwks)
        assert await jwks.find("RS256", "old") is key
    assert len(endpoint.requests) == 2


async def test_a_gateway_starts_before_its_issuer(endpoint: Endpoint) -> None:
    endpoint.may_answer.clear()
    async with (
        serving(endpoint.app) as base,
        open_jwks(f"{base}/jwks.json", ssl_context=NO_TLS) as jwks,
    ):
        await until(lambda: endpoint.requests)  # it is asked at once
        assert jwks.current.keys == ()
        endpoint.may_answer.set()
        assert await knows(jwks, "old")
    assert len(endpoint.requests) == 1


async def test_a_gateway_stops_while_its_issuer_hangs(endpoint: Endpoint) -> None:
    endpoint.may_answer.clear()
    async with serving(endpoint.app) as base:
        async with open_jwks(f"{base}/jwks.json", ssl_context=NO_TLS) as jwks:
            await until(lambda: endpoint.requests)
            reading = jwks._reading
        assert reading is not None
        assert reading.cancelled()
        endpoint.may_answer.set()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_nobody_listening_is_a_failure_like_others(scheme: str) -> None:
    async with open_jwks(f"{scheme}://127.0.0.1:1/jwks.json") as jwks:
        with capture_logs() as logs:
            assert not await knows(jwks, "old")
        assert [entry["error"] for entry in logs] == ["ConnectError"]
