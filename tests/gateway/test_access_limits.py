"""Limits over the whole gateway: who pays for a request, what it is told when it is too much, and who never pays."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.limits import Limits, Rate
from ingest.simulator import WebhookSender
from tests.gateway.access import ACCESS, CDN, bearer, cookie, token
from tests.gateway.problems import problem_type
from tests.gateway.scene import SIZE, OpenScene, Scene
from tests.gateway.test_limits import Clock
from tests.running import APP_SECRET

BURST = 3
FLOOD = 1000
PROXY = {"MEDIA_TRUSTED_PROXIES": "127.0.0.1"}
OpenLimited = Callable[..., AbstractAsyncContextManager[Scene]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_limited(open_scene: OpenScene, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> OpenLimited:
    """Open a gateway behind a proxy on loopback, with limits that go by the clock."""
    monkeypatch.setattr("gateway.throttle.Limits", partial(Limits, clock=clock))

    @asynccontextmanager
    async def opened(**variables: str) -> AsyncIterator[Scene]:
        limits = {
            "MEDIA_LIMIT_REQUESTS": f"1/{BURST}",
            "MEDIA_LIMIT_BYTES": "off",
            "MEDIA_TRUSTED_PROXIES": "127.0.0.1",
        }
        async with open_scene(**(ACCESS | limits | variables)) as scene:
            yield scene

    return opened


@pytest.fixture
async def scene(open_limited: OpenLimited) -> AsyncIterator[Scene]:
    """Three requests at once, and one a second."""
    async with open_limited() as opened:
        yield opened


def at(address: str) -> dict[str, str]:
    """Return what the proxy says of a client."""
    return {"X-Forwarded-For": address}


async def statuses(scene: Scene, path: str, times: int, fields: dict[str, str] | None = None) -> list[int]:
    """Ask several times without a credential but those in the fields."""
    return [(await scene.nobody.get(path, headers=fields)).status_code for _ in range(times)]


class TestTooMany:
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_is_a_problem_with_an_honest_wait(self, scene: Scene, clock: Clock, method: str) -> None:
        message = await scene.message()
        ask = partial(scene.nobody.request, method, message.path, headers=bearer(token()))
        assert [(await ask()).status_code for _ in range(BURST)] == [200] * BURST
        refused = await ask()
        assert refused.status_code == 429
        assert method == "HEAD" or problem_type(refused) == "too-many-requests"
        assert not {"cdn-cache-control", "cache-tag"} & set(refused.headers)
        wait = int(refused.headers["retry-after"])
        clock.go_on(wait - 0.01)
        assert (await ask()).status_code == 429
        clock.go_on(0.01)
        assert (await ask()).status_code == 200

    async def test_is_honest_about_bytes_too(self, open_limited: OpenLimited, clock: Clock) -> None:
        async with open_limited(MEDIA_LIMIT_REQUESTS="off", MEDIA_LIMIT_BYTES=f"100/{SIZE}") as scene:
            message = await scene.message()
            ask = partial(scene.nobody.get, message.path)
            for _ in range(2):  # what is owed is paid afterwards
                assert (await ask(headers=bearer(token()))).content == message.body
            refused = await ask(headers=bearer(token()))
            assert (refused.status_code, refused.headers["retry-after"]) == (429, str(SIZE // 100))
            assert (await ask(headers=bearer(token(sub="bob")))).status_code == 200
            clock.go_on(SIZE / 100)
            assert (await ask(headers=bearer(token()))).status_code == 200

    async def test_is_told_to_pages_of_other_origins(self, open_limited: OpenLimited) -> None:
        async with open_limited(MEDIA_CORS_ORIGINS="https://chat.example.com") as scene:
            answers = [
                await scene.nobody.get("/media/messages/m", headers={"Origin": "https://chat.example.com"})
                for _ in range(BURST + 1)
            ]
            assert [answer.status_code for answer in answers] == [401] * BURST + [429]
            assert answers[-1].headers["access-control-allow-origin"] == "https://chat.example.com"
            assert "Retry-After" in answers[-1].headers["access-control-expose-headers"]

    async def test_reaches_neither_store_nor_provider(self, scene: Scene) -> None:
        message = await scene.message()
        await statuses(scene, "/media/messages/m", BURST)
        scene.forget_requests()
        assert await statuses(scene, message.path, 3, bearer(token())) == [429] * 3
        assert list(scene.simulator.requests) == []


CHAINS = {
    ("192.0.2.1", "192.0.2.2"): True,
    ("198.51.100.9, 192.0.2.1", "198.51.100.9, 192.0.2.2"): True,  # the last hop is what our proxy has seen
    ("192.0.2.1, 198.51.100.9", "192.0.2.2, 198.51.100.9"): False,  # what a client says of itself
    ("nonsense", "unknown"): False,
    ("2001:db8::1", "2001:db8::2"): False,  # one customer's network
    ("2001:db8::1", "2001:db8:0:1::1"): True,
}


class TestAnAddress:
    async def test_pays_for_whoever_has_no_credential_or_a_bad_one(self, scene: Scene) -> None:
        message = await scene.message()
        signed = scene.gateway.signer.mint(message.id).url
        tries: list[tuple[str, dict[str, str], int]] = [
            (message.path, {}, 401),
            (message.path, {"X-API-Key": "wrong"}, 403),
            (message.path, bearer("wrong"), 403),
            (message.path, bearer(token(exp=1)), 403),
            (message.path, cookie("wrong"), 403),
            (message.path, {"X-Origin-Verify": "wrong"}, 403),
            (f"{message.path}?exp=1&kid=k1&sig=x", {}, 403),
            ("/nothing", {}, 404),
            ("/openapi.json", {}, 200),
            (signed, {}, 200),
        ]
        for number, (path, fields, status) in enumerate(tries):
            got = await statuses(scene, path, BURST + 1, at(f"192.0.2.{number}") | fields)
            assert got == [status] * BURST + [429]

    async def test_is_what_trusted_hops_say(self, scene: Scene, clock: Clock) -> None:
        for (first, second), told_apart in CHAINS.items():
            assert await statuses(scene, "/nothing", BURST + 1, at(first)) == [404] * BURST + [429]
            assert await statuses(scene, "/nothing", 1, at(second)) == [404 if told_apart else 429]
            clock.go_on(BURST)  # until all are full again

    async def test_is_what_forwarded_says_as_well(self, scene: Scene) -> None:
        for host in ("192.0.2.1", '"[2001:db8::1]:4711"'):
            fields = {"Forwarded": f"for=198.51.100.9, for={host};proto=https"}
            assert await statuses(scene, "/nothing", BURST + 1, fields) == [404] * BURST + [429]

    async def test_of_nobody_trusted_is_its_own(self, open_limited: OpenLimited) -> None:
        async with open_limited(MEDIA_TRUSTED_PROXIES="192.0.2.1") as scene:
            got = [(await statuses(scene, "/nothing", 1, at(f"198.51.100.{host}")))[0] for host in range(BURST + 1)]
            assert got == [404] * BURST + [429]


class TestACredential:
    async def test_pays_in_place_of_the_address_that_an_office_shares(self, scene: Scene) -> None:
        message = await scene.message()
        for name in ("ana", "bob", "eve"):
            fields = bearer(token(sub=name))
            assert await statuses(scene, message.path, BURST + 1, fields) == [200] * BURST + [429]
        assert await statuses(scene, message.path, 1, bearer(token(sub="dan"))) == [429]  # three refusals cost it

    async def test_is_the_same_however_and_from_wherever_it_comes(self, scene: Scene) -> None:
        message = await scene.message()
        carried = [
            bearer(token()),
            cookie(token()),
            bearer(token(iat=0)),
            bearer(token(workspace_ids=["default", "x"])),
        ]
        got = [
            (await statuses(scene, message.path, 1, at(f"192.0.2.{number}") | fields))[0]
            for number, fields in enumerate(carried)
        ]
        assert got == [200] * BURST + [429]

    async def test_pays_on_every_route(self, scene: Scene) -> None:
        message = await scene.message()
        asks = [
            scene.nobody.get(message.path, headers=bearer(token())),
            scene.nobody.get(f"{message.path}/info", headers=bearer(token())),
            scene.nobody.post(f"{message.path}/url", headers=bearer(token())),
            scene.nobody.post("/media/urls", headers=bearer(token()), json={"urls": []}),
        ]
        assert [(await ask).status_code for ask in asks] == [200, 200, 200, 429]

    async def test_costs_nobody_else_anything(self, scene: Scene) -> None:
        """Nor can anybody spend it who does not have it: its subject's name is no secret."""
        message = await scene.message()
        forged = token().rpartition(".")[0] + ".AAAA"
        assert await statuses(scene, message.path, BURST + 1, at("192.0.2.1") | bearer(forged)) == [403] * BURST + [429]
        assert await statuses(scene, message.path, BURST, at("192.0.2.2") | bearer(token())) == [200] * BURST

    async def test_that_anybody_may_carry_costs_the_address_too(self, scene: Scene) -> None:
        message = await scene.message()
        signed = scene.gateway.signer.mint(message.id).url
        assert await statuses(scene, signed, BURST + 1, at("192.0.2.1")) == [200] * BURST + [429]
        assert await statuses(scene, signed, 1, at("192.0.2.2")) == [429]  # the URL itself is used up
        other = scene.gateway.signer.mint(message.id, download=True).url
        assert await statuses(scene, other, 1, at("192.0.2.1")) == [429]  # so is the address
        assert await statuses(scene, other, 1, at("192.0.2.2")) == [200]


class TestNobodyPays:
    async def test_for_the_host_application_or_a_cdn(self, open_limited: OpenLimited) -> None:
        async with open_limited(MEDIA_LIMIT_BYTES=f"1/{SIZE}") as scene:
            message = await scene.message()
            for _ in range(3 * BURST):
                assert (await scene.client.get(message.path)).status_code == 200
                assert (await scene.nobody.get(message.path, headers=CDN)).status_code == 200
                assert (await scene.client.post(f"{message.path}/url")).status_code == 200
                assert (await scene.client.put(message.path, json=registration(message.medium.id))).status_code == 200
            assert await statuses(scene, "/nothing", BURST) == [404] * BURST

    async def test_for_signed_webhooks(self, scene: Scene) -> None:
        sender = WebhookSender(f"{scene.gateway.url}/webhooks/whatsapp", APP_SECRET, scene.nobody)
        payload = scene.simulator.webhooks.media_payload((await scene.message()).medium)
        answers = [await sender.send(payload) for _ in range(3 * BURST)]
        assert {answer.status_code for answer in answers} == {200}
        forged = WebhookSender(f"{scene.gateway.url}/webhooks/whatsapp", "another secret", scene.nobody)
        assert [(await forged.send(payload)).status_code for _ in range(BURST + 1)] == [403] * BURST + [429]

    async def test_to_ask_how_we_are(self, open_limited: OpenLimited) -> None:
        async with open_limited(MEDIA_LIMIT_BYTES="1/1") as scene:
            for path in ("/healthz", "/readyz", "/metrics"):
                assert await statuses(scene, path, 3 * BURST) == [200] * 3 * BURST

    async def test_where_limits_are_off(self, open_limited: OpenLimited) -> None:
        async with open_limited(MEDIA_LIMIT_REQUESTS="off") as scene:
            assert await statuses(scene, "/nothing", 5 * BURST) == [404] * 5 * BURST

    async def test_and_operators_see_who_was_refused(self, scene: Scene) -> None:
        message = await scene.message()
        await statuses(scene, message.path, BURST + 2, at("192.0.2.1"))
        await statuses(scene, message.path, BURST + 1, bearer(token()))
        told = (await scene.nobody.get("/metrics")).text.splitlines()
        assert 'media_gateway_throttled_total{by="address"} 2.0' in told
        assert 'media_gateway_throttled_total{by="credential"} 1.0' in told


def registration(medium_id: str) -> dict[str, Any]:
    return {"provider_media_id": medium_id, "ingest": False}


async def test_a_flood_of_forged_tokens_leaves_nothing_behind_and_holds_up_nobody(
    open_scene: OpenScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From as many addresses as somebody likes; what is remembered of these has a bound, see `TokenBuckets`."""
    made: list[Limits] = []

    def remembered(*rates: Rate | None) -> Limits:
        made.append(Limits(*rates))
        return made[-1]

    monkeypatch.setattr("gateway.throttle.Limits", remembered)
    async with open_scene(**ACCESS, **PROXY) as scene:
        message = await scene.message()
        flood = asyncio.create_task(forged_requests(scene.gateway.url, message.path))
        served = []
        while not flood.done():
            served.append((await scene.nobody.get(message.path, headers=bearer(token()))).status_code)
        assert await flood == {b"403": FLOOD}
        assert set(served) == {200}
    _, credentials = made
    assert credentials.remembered <= 2  # Ana's requests, and her bytes


async def forged_requests(url: str, path: str) -> Counter[bytes]:
    """Ask with a new token each time, as fast as one connection can; return how often each status came."""
    parts, header = urlsplit(url), token().partition(".")[0]
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    statuses: Counter[bytes] = Counter()
    for start in range(0, FLOOD, 100):
        for number in range(start, start + 100):
            fields = bearer(f"{header}.{number:08}.AAAA") | at(f"2001:db8:{number:x}::1") | {"Host": "x"}
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        for _ in range(100):
            head = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", head)
            assert found is not None
            await reader.readexactly(int(found[1]))
            statuses[head.split(b" ", 2)[1]] += 1
    writer.close()
    return statuses
