"""Answers that are given again without the application: the same as from it, and only while they hold."""

import asyncio
import json
import random
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.express import MAX_BODY
from gateway.protocol import LeanProtocol
from storage.cache import RecordCache, VariantCache
from tests.gateway.raw import PATIENCE
from tests.gateway.scene import SIZE, Message, OpenScene, Scene, jpeg
from tests.gateway.test_variants_http import CHROME, PHOTO
from tests.running import until

ITS_OWN = ("date", "x-request-id", "server-timing")
"""What every answer has for itself."""
BY_THE_APPLICATION = {"Origin": "https://chat.example.com"}
"""A field that leads to it, and changes nothing where no origin may read."""

REQUESTS: dict[str, tuple[str, dict[str, str]]] = {
    "RFC 9110 section 9.3.1": ("GET", {}),
    "RFC 9110 section 9.3.2": ("HEAD", {}),
    "RFC 9110 section 14.2, one range": ("GET", {"Range": "bytes=0-99"}),
    "RFC 9110 section 14.1.2, a suffix": ("GET", {"Range": "bytes=-5"}),
    "RFC 9110 section 14.2, ignored by HEAD": ("HEAD", {"Range": "bytes=0-99"}),
    "RFC 9110 section 14.2, malformed": ("GET", {"Range": "lines=1-2"}),
    "RFC 9110 section 13.1.2, it matches": ("GET", {"If-None-Match": "ETAG"}),
    "RFC 9110 section 13.1.2, any of a list": ("HEAD", {"If-None-Match": '"other", ETAG'}),
    "RFC 9110 section 13.1.2, it does not": ("GET", {"If-None-Match": '"other"'}),
    "RFC 9110 section 13.1.3": ("GET", {"If-Modified-Since": "Fri, 31 Dec 2100 23:59:59 GMT"}),
    "RFC 9110 section 13.1.5, it matches": ("GET", {"Range": "bytes=1-2", "If-Range": "ETAG"}),
    "RFC 9110 section 13.1.5, it does not": ("GET", {"Range": "bytes=1-2", "If-Range": '"other"'}),
}

FIELDS = {
    "Accept": "text/html",
    "Accept-Encoding": "gzip, br",
    "Accept-Language": "de",
    "Authorization": "Bearer nonsense",
    "Cache-Control": "no-cache",
    "Cookie": "media_token=nonsense",
    "DNT": "1",
    "Forwarded": "for=192.0.2.1",
    "If-Match": '"other"',
    "If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT",
    "Pragma": "no-cache",
    "Priority": "u=1",
    "Referer": "https://chat.example.com/",
    "Sec-Fetch-Dest": "image",
    "TE": "trailers",
    "Via": "1.1 proxy.example",
    "X-API-Key": "nonsense",
    "X-Forwarded-For": "192.0.2.1, nonsense",
    "X-HTTP-Method-Override": "DELETE",
    "X-Origin-Verify": "nonsense",
    "X-SSL-Client-S-DN": "CN=cdn",
}
"""Fields that clients and proxies send, with values that would change the answer if they were believed too much."""


@pytest.fixture(autouse=True)
def patient_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe what is cached for as long as a test takes; the feed would tell late of what a test has prepared."""
    monkeypatch.setattr("gateway.services.RecordCache", lambda load, **_: RecordCache(load, ttl=3600.0))
    monkeypatch.setattr("gateway.services.VariantCache", lambda load, **_: VariantCache(load, ttl=3600.0))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request was answered below the application."""
    told: list[bool] = []
    original = LeanProtocol._answer_at_once

    def watched(protocol: LeanProtocol) -> bool:
        told.append(original(protocol))
        return told[-1]

    monkeypatch.setattr(LeanProtocol, "_answer_at_once", watched)
    return told


async def hot(scene: Scene, *, size: int = SIZE) -> tuple[Message, str]:
    """Return a stored message and its signed URL, once it is in memory and known."""
    message = await scene.store(await scene.message(jpeg(size, seed=random.randrange(2**32))))
    url = scene.gateway.signer.mint(message.id).url
    for _ in range(3):
        await scene.nobody.get(url)
    return message, url


def shared(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """Return what two answers to the same request have in common."""
    return answer.status_code, answer.content, {k: v for k, v in answer.headers.items() if k not in ITS_OWN}


@pytest.mark.parametrize(("method", "fields"), REQUESTS.values(), ids=REQUESTS)
async def test_an_answer_that_is_known_is_the_same_as_from_the_application(
    scene: Scene, at_once: list[bool], method: str, fields: dict[str, str]
) -> None:
    message, url = await hot(scene)
    fields = {name: value.replace("ETAG", message.etag) for name, value in fields.items()}
    await scene.nobody.request(method, url, headers=fields)
    again = await scene.nobody.request(method, url, headers=fields)
    assert at_once[-1]
    decided = await scene.nobody.request(method, url, headers=fields | BY_THE_APPLICATION)
    assert not at_once[-1]
    assert shared(again) == shared(decided)
    assert set(again.headers) == set(decided.headers)


@pytest.mark.parametrize("name", FIELDS)
async def test_no_field_gets_another_answer_than_from_the_application(scene: Scene, name: str) -> None:
    _, url = await hot(scene)
    field = {name: FIELDS[name]}
    known = [await scene.nobody.get(url, headers=field) for _ in range(3)]
    decided = await scene.nobody.get(url, headers=field | BY_THE_APPLICATION)
    assert [status for status, *_ in map(shared, known)] == [decided.status_code] * 3
    if decided.status_code == 200:
        assert shared(known[-1]) == shared(decided)


async def test_auto_is_answered_by_what_the_client_accepts(scene: Scene, at_once: list[bool]) -> None:
    photo = await scene.process(await scene.message(PHOTO, "image/jpeg"))
    signed = scene.gateway.signer.mint(photo.id, "auto").url
    for url in (signed, signed.replace("=auto", "=%61uto")):
        for accept, expected in ((CHROME, "webp"), ("image/jpeg", "compressed"), (CHROME, "webp")):
            seen = [await scene.nobody.get(url, headers={"Accept": accept}) for _ in range(3)]
            assert {answer.headers["x-media-variant"] for answer in seen} == {expected}
            assert at_once[-1] is (url == signed)


async def test_a_variant_is_known_until_there_is_a_better_one(scene: Scene, at_once: list[bool]) -> None:
    photo = await scene.process(await scene.message(PHOTO, "image/jpeg"))
    url = scene.gateway.signer.mint(photo.id, "webp").url
    before = [await scene.nobody.get(url) for _ in range(3)][-1]
    assert at_once[-1]
    assert before.headers["x-media-variant"] == "webp"


class TestItEnds:
    async def test_with_the_message(self, scene: Scene, at_once: list[bool]) -> None:
        message, url = await hot(scene)
        assert (await scene.nobody.get(url)).status_code == 200
        assert at_once[-1]
        assert (await scene.client.delete(message.path)).status_code == 204
        assert (await scene.nobody.get(url)).status_code == 410

    async def test_where_the_client_has_used_up_what_it_may(self, open_scene: OpenScene, at_once: list[bool]) -> None:
        async with open_scene(MEDIA_LIMIT_REQUESTS="1/8") as scene:
            _, url = await hot(scene)  # three of the eight
            statuses = [(await scene.nobody.get(url)).status_code for _ in range(6)]
            assert statuses == [200] * 5 + [429]
            assert at_once[-6:] == [True] * 5 + [False]

    async def test_where_the_body_is_in_memory_no_more(self, open_scene: OpenScene, at_once: list[bool]) -> None:
        async with open_scene(MEDIA_CACHE_BYTES="4000") as scene:
            _, url = await hot(scene, size=1000)
            for _ in range(12):
                await hot(scene, size=1000)
            answer = await scene.nobody.get(url)
            assert (answer.headers["x-media-source"], at_once[-1]) == ("storage", False)

    async def test_never_begins_for_what_is_audited(self, open_scene: OpenScene, at_once: list[bool]) -> None:
        async with open_scene(MEDIA_AUDIT="default") as scene:
            await hot(scene)
        assert not any(at_once)

    async def test_never_begins_for_large_bodies(self, scene: Scene, at_once: list[bool]) -> None:
        _, url = await hot(scene, size=MAX_BODY + 1)
        assert (await scene.nobody.get(url)).headers["x-media-source"] == "cache"
        assert not any(at_once)


@pytest.mark.parametrize("fields", [{}, {"Range": "bytes=1-"}, {"Range": "bytes=-300000"}], ids=str)
async def test_a_body_that_no_socket_takes_at_once_arrives_whole(
    scene: Scene, at_once: list[bool], fields: dict[str, str]
) -> None:
    message, url = await hot(scene, size=MAX_BODY)
    for _ in range(3):
        answer = await scene.nobody.get(url, headers=fields)
    assert at_once[-1]
    start = len(message.body) - int(answer.headers["content-length"])
    assert answer.content == message.body[start:]


Requests = Callable[[str], bytes]


@pytest.mark.parametrize(
    ("request_of", "is_known"),
    [
        (lambda target: f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), True),
        (lambda target: f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(), False),
        (lambda target: f"GET {target} HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n".encode(), False),
        (lambda target: f"GET {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".encode(), False),
        (
            lambda target: f"GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n".encode(),
            False,
        ),
    ],
    ids=["plain", "the last one", "HTTP/1.0", "with a body", "an upgrade"],
)
async def test_only_a_request_after_which_the_connection_stays_what_it_is(
    scene: Scene, at_once: list[bool], request_of: Requests, *, is_known: bool
) -> None:
    message, url = await hot(scene)
    head, body = (await over_one_connection(scene, [request_of(target_of(url))], answers=1))[0]
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == message.body
    assert at_once[-1] == is_known


async def test_requests_in_a_row_are_answered_in_their_order(scene: Scene, at_once: list[bool]) -> None:
    first, one = await hot(scene)
    second, other = await hot(scene)
    known = [f"GET {target_of(url)} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for url in (one, other)]
    asked = [known[0], known[1], known[0].replace(b"Host", b"Origin: y\r\nHost"), known[1], known[0]]
    at_once.clear()
    answers = await over_one_connection(scene, [b"".join(asked)], answers=len(asked))
    assert [body for _, body in answers] == [each.body for each in (first, second, first, second, first)]
    assert at_once[:2] == [True, True]
    assert not at_once[2]


async def test_a_request_in_pieces_is_answered_when_it_is_whole(scene: Scene, at_once: list[bool]) -> None:
    message, url = await hot(scene)
    request = f"GET {target_of(url)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    ((_, body),) = await over_one_connection(scene, [request[:9], request[9:40], request[40:]], answers=1)
    assert body == message.body
    assert at_once[-1]


async def test_an_answer_has_the_id_of_the_request_a_line_and_its_counts(
    open_scene: OpenScene, at_once: list[bool], capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_scene(MEDIA_LOG_LEVEL="info") as scene:
        message, url = await hot(scene)
        before = await counted(scene)
        named = await scene.nobody.get(url, headers={"X-Request-ID": "mine-7"})
        unnamed = await scene.nobody.get(url, headers={"X-Request-ID": "in sane"})
        assert at_once[-2:] == [True, True]
        after = await counted(scene)
    assert named.headers["x-request-id"] == "mine-7"
    assert unnamed.headers["x-request-id"] not in {"", "in sane"}
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    line = next(line for line in lines if line.get("request_id") == "mine-7")
    expected = {"event": "request", "method": "GET", "path": message.path, "route": "media", "status": 200}
    expected |= {"source": "cache", "bytes": SIZE}
    assert expected.items() <= line.items()
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    assert grown['media_gateway_requests_total{method="GET",route="media",source="cache",status="200"}'] == 2
    assert grown['media_gateway_sent_bytes_total{source="cache"}'] == 2 * SIZE
    assert grown["media_gateway_cache_hits_total"] == 2


async def counted(scene: Scene) -> dict[str, float]:
    lines = (await scene.client.get("/metrics")).text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def target_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


async def over_one_connection(scene: Scene, pieces: list[bytes], *, answers: int) -> list[tuple[bytes, bytes]]:
    """Send pieces one by one, each when the one before has been taken, and return heads and bodies."""
    address = urlsplit(scene.gateway.url)
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await until(lambda: not writer.transport.get_write_buffer_size())
            return [await one(reader) for _ in range(answers)]
        finally:
            writer.close()


async def one(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return head, await reader.readexactly(int(length.partition(b":")[2]))


async def test_of_too_many_answers_those_not_asked_for_longest_go(
    scene: Scene, at_once: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.answers.MAX_ANSWERS", 2)
    (_, older), (_, newer) = await hot(scene), await hot(scene)
    await scene.nobody.get(older)
    _, newest = await hot(scene)
    at_once.clear()
    for url in (newest, older, newer):
        await scene.nobody.get(url)
    assert at_once == [True, True, False]
