"""What is refused before any route is asked: on a real server, by clients that a trusted proxy tells apart."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from gateway import logs
from gateway.accesslog import AccessLog
from gateway.errors import Unauthorized, problem
from gateway.forwarded import Networks
from gateway.limits import Limits, Rate, RateExceeded
from gateway.metrics import Metrics
from gateway.middleware import Observed
from gateway.throttle import MAX_FIELDS, MAX_FIELDS_SIZE, Cause, Throttle, toll_of, too_many_requests
from tests.gateway import raw
from tests.gateway.problems import problem_type
from tests.running import NO_TLS, PATIENCE, serving

SECOND = 1_000_000_000
PROXY = Networks.parse("127.0.0.1")
HANDSHAKE = {  # RFC 6455 section 1.3
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@dataclass
class Scene:
    """A server with limits, the clock that they go by, and what was refused."""

    addresses: Limits
    credentials: Limits
    refused: list[Cause] = field(default_factory=list)
    now: int = 1_000 * SECOND
    url: str = ""

    def throttled(self, by: Cause) -> None:
        self.refused.append(by)

    async def get(self, path: str, address: str = "192.0.2.1", **fields: str) -> httpx.Response:
        """Ask as a client with that address."""
        headers = {"X-Forwarded-For": address} | {name.replace("_", "-"): value for name, value in fields.items()}
        async with httpx.AsyncClient(base_url=self.url, verify=NO_TLS, timeout=PATIENCE) as client:
            return await client.get(path, headers=headers)

    async def statuses(self, path: str, times: int, address: str = "192.0.2.1") -> list[int]:
        """Ask several times."""
        return [(await self.get(path, address)).status_code for _ in range(times)]


OpenScene = Callable[..., AbstractAsyncContextManager[Scene]]


async def fine(_: Request) -> Response:
    return PlainTextResponse("x" * 1000)


async def unauthorized(request: Request) -> Response:
    return problem(Unauthorized(), request.state.request_id)


async def user(request: Request) -> Response:
    toll_of(request.scope).charge(f"user:{request.path_params['name']}", names_holder=True)
    return PlainTextResponse("x" * 1000)


async def signed(request: Request) -> Response:
    toll_of(request.scope).charge(f"url:{request.path_params['name']}", names_holder=False)
    return PlainTextResponse("x" * 1000)


async def ours(request: Request) -> Response:
    toll_of(request.scope).waive()
    return PlainTextResponse("x" * 1000)


async def upload(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def too_many(request: Request, error: Exception) -> Response:
    assert isinstance(error, RateExceeded)
    return too_many_requests(error, request.scope)


def application(scene: Scene, options: dict[str, Any]) -> Starlette:
    throttle = Middleware(Throttle, addresses=scene.addresses, credentials=scene.credentials, observer=scene, **options)
    return Starlette(
        routes=[
            Route("/fine", fine),
            Route("/healthz", fine),
            Route("/unauthorized", unauthorized),
            Route("/user/{name}", user),
            Route("/signed/{name}", signed),
            Route("/ours", ours),
            Route("/upload", upload, methods=["PUT"]),
        ],
        middleware=[Middleware(Observed, metrics=Metrics(CollectorRegistry()), access_log=AccessLog()), throttle],
        exception_handlers={RateExceeded: too_many},
    )


@pytest.fixture
def open_scene() -> OpenScene:
    """Open a scene with rates by address and by credential; further arguments are those of `Throttle`."""
    logs.configure("error")

    @asynccontextmanager
    async def opened(
        requests: Rate | None = None, traffic: Rate | None = None, capacity: int = 10_000, **options: Any
    ) -> AsyncIterator[Scene]:
        def limits() -> Limits:
            return Limits(requests, traffic, capacity=capacity, clock=lambda: scene.now)

        scene = Scene(limits(), limits())
        options.setdefault("trusted", PROXY)
        async with serving(application(scene, options), proxy_headers=False) as scene.url:
            yield scene

    return opened


class TestTooManyRequests:
    async def test_is_a_problem_with_an_honest_wait(self, open_scene: OpenScene) -> None:
        async with open_scene(Rate(1, 3)) as scene:
            assert await scene.statuses("/fine", 3) == [200] * 3
            scene.now += SECOND // 2
            response = await scene.get("/fine")
            assert (response.status_code, problem_type(response)) == (429, "too-many-requests")
            assert response.headers["retry-after"] == "1"
            scene.now += SECOND
            assert await scene.statuses("/fine", 2) == [200, 429]
            assert scene.refused == ["address", "address"]

    async def test_is_for_one_address_alone(self, open_scene: OpenScene) -> None:
        async with open_scene(Rate(1, 2)) as scene:
            assert await scene.statuses("/fine", 3) == [200, 200, 429]
            assert await scene.statuses("/fine", 3, "192.0.2.2") == [200, 200, 429]
            assert await scene.statuses("/fine", 1, "2001:db8::1") == [200]
            assert await scene.statuses("/fine", 2, "2001:db8::2") == [200, 429]  # in the same /64
            assert await scene.statuses("/fine", 1, "2001:db8:0:1::1") == [200]

    async def test_never_is_for_who_asks_how_we_are(self, open_scene: OpenScene) -> None:
        async with open_scene(Rate(1, 1), Rate(1, 1)) as scene:
            assert await scene.statuses("/healthz", 5) == [200] * 5
            assert scene.addresses.remembered == 0

    async def test_is_for_unknown_paths_too(self, open_scene: OpenScene) -> None:
        async with open_scene(Rate(1, 2)) as scene:
            assert await scene.statuses("/nothing", 3) == [404, 404, 429]

    async def test_is_also_what_who_was_sent_too_many_bytes_gets(self, open_scene: OpenScene) -> None:
        async with open_scene(None, Rate(100, 2500)) as scene:
            assert await scene.statuses("/fine", 4) == [200, 200, 200, 429]
            assert (await scene.get("/fine")).headers["retry-after"] == "5"
            scene.now += 5 * SECOND
            assert await scene.statuses("/fine", 2) == [200, 429]

    async def test_is_what_a_websocket_gets_before_it_is_one(self, open_scene: OpenScene) -> None:
        async with open_scene(Rate(1, 1)) as scene:
            scene.addresses.admit("127.0.0.1")
            answer = await raw.send(scene.url, request("/events", **HANDSHAKE))
            assert (answer.status, answer.headers["retry-after"]) == (429, "1")


class TestWhoPays:
    async def test_who_names_no_credential_that_is_good_costs_its_address_alone(self, open_scene: OpenScene) -> None:
        async with open_scene(Rate(1, 2)) as scene:
            for _ in range(3):
                await scene.get("/unauthorized", authorization="Bearer of.user.ann", cookie="media_token=of.user.ann")
            assert scene.refused == ["address"]
            assert scene.credentials.remembered == 0
            assert await scene.statuses("/user/ann", 2, "192.0.2.2") == [200, 200]

    async def test_a_holder_pays_in_place_of_an_address_that_many_share(self, open_scene: OpenScene) -> None:
        async with open_scene(Rate(1, 3), Rate(1000, 3000)) as scene:
            for name in ("ann", "bob", "eve"):
                assert await scene.statuses(f"/user/{name}", 3) == [200] * 3
            assert scene.addresses.remembered == 1  # of a bucket that is full
            assert await scene.statuses("/fine", 4) == [200] * 3 + [429]

    async def test_a_holder_has_one_limit_from_everywhere(self, open_scene: OpenScene) -> None:
        async with open_scene(Rate(1, 3)) as scene:
            assert [(await scene.get("/user/ann", f"192.0.2.{host}")).status_code for host in range(4)] == [200] * 3 + [
                429
            ]
            assert scene.refused == ["credential"]
            refusal = await scene.get("/user/ann", "192.0.2.9")
            assert (problem_type(refusal), refusal.headers["retry-after"]) == ("too-many-requests", "1")

    async def test_a_holder_that_was_refused_has_cost_its_address_the_asking(self, open_scene: OpenScene) -> None:
        async with open_scene(Rate(1, 3)) as scene:
            assert await scene.statuses("/user/ann", 7) == [200] * 3 + [429] * 4
            assert scene.refused == ["credential"] * 3 + ["address"]

    async def test_a_signed_url_costs_the_address_too(self, open_scene: OpenScene) -> None:
        async with open_scene(Rate(1, 3)) as scene:
            assert [(await scene.get(f"/signed/{name}")).status_code for name in "abcd"] == [200] * 3 + [429]
            assert [(await scene.get("/signed/b", f"192.0.2.{host}")).status_code for host in (2, 3, 4)] == [
                200,
                200,
                429,
            ]
            assert scene.refused == ["address", "credential"]

    async def test_bytes_are_charged_to_whoever_pays(self, open_scene: OpenScene) -> None:
        async with open_scene(None, Rate(1, 1500)) as scene:
            assert await scene.statuses("/user/ann", 3) == [200, 200, 429]
            assert await scene.statuses("/signed/url", 3) == [200, 200, 429]
            assert scene.refused == ["credential", "address"]

    async def test_nobody_pays_for_one_of_ours(self, open_scene: OpenScene) -> None:
        async with open_scene(Rate(1, 1), Rate(1, 1)) as scene:
            assert await scene.statuses("/ours", 5) == [200] * 5

    async def test_who_is_behind_no_proxy_pays_by_its_own_address(self, open_scene: OpenScene) -> None:
        async with open_scene(Rate(1, 2), trusted=Networks()) as scene:
            statuses = [(await scene.get("/fine", f"192.0.2.{host}")).status_code for host in range(3)]
            assert statuses == [200, 200, 429]


class TestAFlood:
    async def test_of_strangers_neither_fills_memory_nor_keeps_others_out(self, open_scene: OpenScene) -> None:
        async with open_scene(Rate(1, 2), Rate(10_000, 10_000), capacity=100) as scene:
            scene.addresses.admit("192.0.2.1")
            floods = [asyncio.create_task(flood(scene.url, random.Random(seed))) for seed in range(4)]
            served = []
            while not all(task.done() for task in floods):
                served.append((await scene.get("/fine")).status_code)
                scene.now += SECOND
                assert scene.addresses.remembered <= 200
            assert sum(await asyncio.gather(*floods)) == 2_000
            assert set(served) == {200}
            assert scene.credentials.remembered == 0


async def flood(url: str, chance: random.Random, batches: int = 10, batch: int = 50) -> int:
    """Send bad requests from random addresses as fast as the server takes them; return the number of answers."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    answers = 0
    for _ in range(batches):
        addresses = (f"2001:db8:{chance.randrange(65536):x}:{chance.randrange(65536):x}::1" for _ in range(batch))
        writer.write(
            b"".join(
                f"GET /unauthorized HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\n\r\n".encode()
                for address in addresses
            )
        )
        for _ in range(batch):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
            await reader.readexactly(int(length.rpartition(b" ")[2]))
            answers += head.startswith((b"HTTP/1.1 401", b"HTTP/1.1 429"))
    writer.close()
    return answers


def request(path: str, **fields: str) -> bytes:
    """Return a request that has no other fields."""
    return "\r\n".join(
        [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    ).encode()


class TestHeaderFields:
    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            ({f"X-{number}": "y" for number in range(MAX_FIELDS - 2)}, 200),  # and Host, and Connection
            ({f"X-{number}": "y" for number in range(MAX_FIELDS - 1)}, 431),
            ({"X": "y" * (MAX_FIELDS_SIZE - len("XHostxConnectionclose"))}, 200),
            ({"X": "y" * (MAX_FIELDS_SIZE - len("XHostxConnectionclose") + 1)}, 431),
        ],
        ids=["as many", "too many", "as large", "too large"],
    )
    async def test_have_bounds(self, open_scene: OpenScene, fields: dict[str, str], status: int) -> None:
        async with open_scene() as scene:
            answer = await raw.send(scene.url, request("/fine", Host="x", Connection="close", **fields))
            assert answer.status == status
            if status == 431:
                assert json.loads(answer.body)["type"] == "header-fields-too-large"
                assert scene.refused == ["fields"]


class TestABody:
    async def test_that_stops_coming_is_waited_for_only_so_long(self, open_scene: OpenScene) -> None:
        async with open_scene(body_patience=0.1) as scene:
            head = b"PUT /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
            answer = await raw.send(scene.url, head + b"12345")
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            assert json.loads(answer.body)["type"] == "request-timeout"
            assert answer.is_whole
            assert scene.refused == ["body"]

    async def test_that_comes_is_taken(self, open_scene: OpenScene) -> None:
        async with open_scene() as scene, httpx.AsyncClient(base_url=scene.url, verify=NO_TLS) as client:

            async def pieces() -> AsyncIterator[bytes]:
                for _ in range(100):
                    yield b"x" * 1000

            assert (await client.put("/upload", content=pieces())).text == "100000"

    async def test_that_stops_coming_does_not_end_an_answer_that_began(self) -> None:
        calls: list[str] = []
        arrives = asyncio.Event()

        async def receive() -> Message:
            calls.append("receive")
            await arrives.wait()
            return {"type": "http.request", "body": b"late", "more_body": False}

        async def send(message: Message) -> None:
            calls.append(message["type"])

        async def app(_: Scope, receive: Receive, send: Send) -> None:
            reading = asyncio.ensure_future(receive())
            while not calls:
                await asyncio.sleep(0)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while calls.count("receive") < 2:  # the first one has been given up
                await asyncio.sleep(0)
            arrives.set()
            assert (await reading)["body"] == b"late"
            await send({"type": "http.response.body", "body": b""})

        scope = {"type": "http", "path": "/", "client": ("192.0.2.1", 1), "headers": []}
        nothing = Limits(None, None)
        throttle = Throttle(
            app,
            addresses=nothing,
            credentials=nothing,
            trusted=PROXY,
            observer=Scene(nothing, nothing),
            body_patience=0,
        )
        await throttle(scope, receive, send)
        assert calls == ["receive", "http.response.start", "receive", "http.response.body"]
