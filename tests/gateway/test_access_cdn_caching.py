"""What a CDN is answered, from every layer, is what CDNs need of an origin, and no more than they may keep.

What they need is in AWS's "Request and response behavior for custom origins" and "How CloudFront processes range GETs",
and in Cloudflare's "Origin Cache Control", "ETag headers", "Range requests" and "Purge cache by tags".
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from uuid import uuid4

import httpx
import pytest

from gateway.conditional import parse_http_date
from ingest.simulator import Faults, SizeForm
from tests.gateway.access import ACCESS, CDN, FOR_CDNS, ORIGIN_SECRET, PUBLIC, bearer, cookie, token
from tests.gateway.layers import LAYERS, Layer, LayerName, open_layer
from tests.gateway.problems import problem_type
from tests.gateway.raw import exchange
from tests.gateway.scene import IMMUTABLE, SIZE, Message, OpenScene, Scene
from tests.running import NO_TLS, PATIENCE

NEVER = {"set-cookie", "transfer-encoding", "content-encoding", "vary", "surrogate-control", "expires", "pragma"}
UNSTORED: set[LayerName] = {"provider", "growing"}


@pytest.fixture
async def scene(open_scene: OpenScene) -> AsyncIterator[Scene]:
    """A gateway that knows every credential."""
    async with open_scene(**ACCESS) as opened:
        yield opened


@pytest.fixture(params=LAYERS)
async def layer(request: pytest.FixtureRequest, open_scene: OpenScene, s3: dict[str, str]) -> AsyncIterator[Layer]:
    """Every layer in turn, asked by the CDN."""
    async with open_layer(request.param, partial(open_scene, **ACCESS), s3) as opened:
        url = opened.scene.gateway.url
        async with httpx.AsyncClient(base_url=url, headers=CDN, timeout=PATIENCE, verify=NO_TLS) as edge:
            yield replace(opened, reader=edge)


def directives(answer: httpx.Response, field: str = "cache-control") -> dict[str, str]:
    """Return the directives of a field (RFC 9111 section 5.2)."""
    pairs = (part.strip().partition("=") for part in answer.headers.get(field, "").split(","))
    return {name: value for name, _, value in pairs}


class TestEveryLayer:
    async def test_answers_a_cdn_with_what_it_needs(self, layer: Layer) -> None:
        answer = await layer.ask()
        response, message = answer.response, answer.message
        assert (response.status_code, response.content) == (200, message.body)
        expected = {
            "content-length": str(SIZE),
            "accept-ranges": "bytes",
            "etag": message.etag,  # strong, and of the content: the same from every layer
            "content-type": "image/jpeg",
            "cache-control": PUBLIC,
            "x-media-source": layer.source,
        }
        assert {name: response.headers.get(name) for name in expected} == expected
        assert directives(response, "cdn-cache-control") == {"max-age": "31536000", "stale-if-error": "604800"}
        assert f"m-{message.id}" in response.headers["cache-tag"].split(",")
        assert "w-default" in response.headers["cache-tag"].split(",")
        assert not NEVER & set(response.headers)
        assert parse_http_date(response.headers["last-modified"]) is not None

    async def test_answers_one_range_exactly(self, layer: Layer) -> None:
        """Cloudflare cuts the answer short where any of it is not as asked; the last one ends with the medium."""
        for asked, first, last in (("bytes=0-499", 0, 499), ("bytes=500-1048575", 500, SIZE - 1)):
            answer = await layer.ask(headers={"Range": asked, "Accept-Encoding": "identity"})
            response = answer.response
            assert (response.status_code, response.content) == (206, answer.message.body[first : last + 1])
            assert response.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
            assert response.headers["content-length"] == str(last + 1 - first)
            assert response.headers["etag"] == answer.message.etag
            assert not NEVER & set(response.headers)
            if layer.name in UNSTORED and last < SIZE - 1:  # sent before the last byte was verified
                assert response.headers["cache-control"] == "no-store"
                assert "cdn-cache-control" not in response.headers
            else:
                assert response.headers["cache-control"] == PUBLIC

    async def test_answers_a_revalidation_with_the_same_fields(self, layer: Layer) -> None:
        """RFC 9110 section 15.4.5: what it would have said with a 200, for the CDN to go on with."""
        answer = await layer.ask(headers={"If-None-Match": "{etag}"})
        known, message = answer.response, answer.message
        assert (known.status_code, known.content) == (304, b"")
        assert (known.headers["etag"], known.headers["cache-control"]) == (message.etag, PUBLIC)
        assert f"m-{message.id}" in known.headers["cache-tag"].split(",")
        assert {"last-modified", "date", "cdn-cache-control"} <= set(known.headers)
        assert not (NEVER | {"content-type"}) & set(known.headers)

    async def test_lets_a_cdn_keep_of_a_head_only_what_is_certain(self, layer: Layer) -> None:
        """Nobody has seen the bytes of what was never fetched: its type and size may turn out to be others."""
        response = (await layer.ask("HEAD")).response
        assert response.status_code == 200
        certain = layer.name not in UNSTORED
        assert response.headers["cache-control"] == (PUBLIC if certain else "no-store")
        assert (set(response.headers) & FOR_CDNS) == (FOR_CDNS if certain else set())


class TestCaching:
    async def test_never_says_what_switches_off_stale_answers_or_changes_bytes(self, scene: Scene) -> None:
        """Cloudflare: s-maxage, must-revalidate, proxy-revalidate and no-cache disable stale-if-error."""
        message = await scene.message()
        answer = await scene.nobody.get(message.path, headers=CDN)
        said = directives(answer) | directives(answer, "cdn-cache-control")
        assert not {"s-maxage", "must-revalidate", "proxy-revalidate", "no-cache", "private", "no-store"} & set(said)
        assert {"public", "no-transform", "stale-if-error"} <= set(said)
        assert not answer.headers["etag"].startswith("W/")  # Safari takes no ranges of a film with a weak one

    @pytest.mark.parametrize("version", [b"1.0", b"1.1"])
    async def test_needs_a_length_on_the_wire_too(self, scene: Scene, version: bytes) -> None:
        message = await scene.message()
        answer = await exchange(
            scene.gateway.url, message.path.encode(), version=version, X_Origin_Verify=ORIGIN_SECRET
        )
        assert (answer.headers["content-length"], "transfer-encoding" in answer.headers) == (str(SIZE), False)
        assert answer.body == message.body

    async def test_is_not_for_a_body_without_a_length(self, scene: Scene) -> None:
        """CloudFront keeps what broke off where no length tells it so."""
        message = await scene.message(faults=Faults(chunked=True, file_size=SizeForm.MISSING))
        answer = await scene.nobody.get(message.path, headers=CDN)
        assert (answer.status_code, answer.content) == (200, message.body)
        assert "content-length" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"
        assert not FOR_CDNS & set(answer.headers)

    async def test_is_not_for_what_stands_in_for_a_variant(self, scene: Scene) -> None:
        message = await scene.message()
        for variant in ("thumbnail", "webp", "hls", "auto"):
            answer = await scene.nobody.get(f"{message.path}?variant={variant}", headers=CDN)
            assert (answer.status_code, answer.headers["x-media-variant"]) == (200, "original")
            assert answer.headers["cache-control"] == "no-store"
            assert not FOR_CDNS & set(answer.headers)

    async def test_is_private_for_whoever_has_a_credential_of_their_own(self, scene: Scene) -> None:
        message = await scene.message()
        url = scene.gateway.signer.mint(message.id).url
        answers = [
            await scene.client.get(message.path),
            await scene.client.get(message.path, headers=CDN),  # the backend, through the CDN
            await scene.nobody.get(message.path, headers=bearer(token())),
            await scene.nobody.get(message.path, headers=cookie(token())),
            await scene.nobody.get(url),
            await scene.nobody.get(url, headers={"X-Origin-Verify": "wrong"}),
        ]
        assert {answer.headers["cache-control"] for answer in answers} == {IMMUTABLE}
        assert not [answer for answer in answers if FOR_CDNS & set(answer.headers)]

    async def test_is_shared_whatever_a_viewer_has_sent_along(self, scene: Scene) -> None:
        """The CDN vouches for its viewers: an answer that depended on their own credentials could not be shared."""
        message = await scene.message()
        for fields in (bearer(token(workspace_ids=[])), bearer("wrong"), cookie("wrong"), {"X-API-Key": "wrong"}):
            answer = await scene.nobody.get(message.path, headers=CDN | fields)
            assert (answer.status_code, answer.headers["cache-control"]) == (200, PUBLIC)

    async def test_of_cors_is_by_origin_even_where_none_is_named(self, open_scene: OpenScene) -> None:
        """Fetch standard, "CORS protocol and HTTP caches": or a page would get the answer that is for no page."""
        async with open_scene(**ACCESS, MEDIA_CORS_ORIGINS="https://chat.example.com") as scene:
            message = await scene.message()
            for fields in ({}, {"Origin": "https://chat.example.com"}, {"Origin": "https://evil.example.com"}):
                answer = await scene.nobody.get(message.path, headers=CDN | fields)
                assert (answer.headers["cache-control"], answer.headers["vary"]) == (PUBLIC, "Origin")


class TestTags:
    async def test_are_what_both_cdns_take_and_tell_messages_apart(self, scene: Scene) -> None:
        """CloudFront: 50 of 256 characters; Cloudflare: printable ASCII without spaces; both ignore case."""
        ids = [
            "m",
            "M",
            "a b",
            "a,b",
            "a/b",
            "wamid.A==",
            "wamid.a==",
            "ü",
            "u\u0308",
            "x" * 255,
            "X" * 255,
            "~",
            "*",
        ]
        seen: dict[str, str] = {}
        for message_id in ids:
            message = await scene.message(message_id=message_id, conversation_id="Chat, 7")
            parts = (await scene.nobody.get(message.path, headers=CDN)).headers["cache-tag"].split(",")
            assert all(re.fullmatch(r"[\x21-\x2b\x2d-\x7e]{1,256}", part) for part in parts)
            assert [part[:2] for part in parts] == ["m-", "w-", "c-"]
            seen[parts[0].lower()] = message_id
        assert len(seen) == len(ids)

    async def test_are_the_same_on_every_answer_about_a_message(self, scene: Scene) -> None:
        message = await scene.store(await scene.message(conversation_id="c7"))
        asked = [{}, {"Range": "bytes=0-9"}, {"If-None-Match": message.etag}, {"Range": "bytes=0-1,5-6"}]
        answers = [await scene.nobody.get(message.path, headers=CDN | fields) for fields in asked]
        answers += [await scene.nobody.head(message.path, headers=CDN)]
        answers += [await scene.nobody.get(f"{message.path}?download=1&x=y", headers=CDN)]
        assert [answer.status_code for answer in answers] == [200, 206, 304, 206, 200, 200]
        assert {answer.headers["cache-tag"] for answer in answers} == {f"m-{message.id},w-default,c-c7"}


Situation = Callable[[Scene], Awaitable[httpx.Response]]


def asking(path: str = "", *, method: str = "GET", fields: dict[str, str] | None = None) -> Situation:
    """Ask about a message that there is, below its path."""

    async def situation(scene: Scene) -> httpx.Response:
        message = await scene.message()
        return await scene.nobody.request(method, message.path + path, headers=CDN | (fields or {}))

    return situation


async def what_is_unknown(scene: Scene) -> httpx.Response:
    return await scene.nobody.get(f"/media/messages/{uuid4().hex}", headers=CDN)


async def what_was_deleted(scene: Scene) -> httpx.Response:
    message = await scene.message()
    await scene.client.delete(message.path)
    return await scene.nobody.get(message.path, headers=CDN)


async def what_the_provider_lost(scene: Scene) -> httpx.Response:
    message: Message = await scene.message()
    scene.simulator.delete(message.medium.id)
    return await scene.nobody.get(message.path, headers=CDN)


async def what_the_provider_fails_at(scene: Scene) -> httpx.Response:
    return await scene.nobody.get((await scene.message(faults=Faults(download_error=500))).path, headers=CDN)


ERRORS: list[tuple[int, Situation]] = [
    (400, asking("?variant=huge")),
    (401, asking("/info")),
    (403, asking(fields={"X-Origin-Verify": "wrong"})),
    (404, what_is_unknown),
    (404, asking("/hls/master.m3u8")),
    (404, asking("/nothing")),
    (405, asking(method="PATCH")),
    (410, what_was_deleted),
    (410, what_the_provider_lost),
    (412, asking(fields={"If-Match": '"x"'})),
    (416, asking(fields={"Range": "bytes=5000-"})),
    (502, what_the_provider_fails_at),
]


async def test_no_error_is_for_a_cdn_to_keep(scene: Scene) -> None:
    answers = [await situation(scene) for _, situation in ERRORS]
    assert [answer.status_code for answer in answers] == [status for status, _ in ERRORS]
    for answer in answers:
        assert problem_type(answer)  # and so no-store, with a length
        assert not (FOR_CDNS | NEVER | {"etag", "last-modified"}) & set(answer.headers)
