"""A CDN that checks its viewers itself: how it proves that, and that its answers are what CDNs need of an origin.

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
from tests.gateway.access import ACCESS, CDN, OLD_ORIGIN_SECRET, ORIGIN_SECRET, PUBLIC, bearer, cookie, token
from tests.gateway.layers import LAYERS, Layer, LayerName, open_layer
from tests.gateway.problems import problem_type
from tests.gateway.raw import exchange
from tests.gateway.scene import IMMUTABLE, SIZE, Message, OpenScene, Scene
from tests.running import API_KEY, NO_TLS

FOR_CDNS = {"cdn-cache-control", "cache-tag"}
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
        async with httpx.AsyncClient(base_url=url, headers=CDN, timeout=30, verify=NO_TLS) as edge:
            yield replace(opened, reader=edge)


def directives(answer: httpx.Response, field: str = "cache-control") -> dict[str, str]:
    """Return the directives of a field (RFC 9111 section 5.2)."""
    pairs = (part.strip().partition("=") for part in answer.headers.get(field, "").split(","))
    return {name: value for name, _, value in pairs}


SECRETS = {
    ORIGIN_SECRET: 200,
    OLD_ORIGIN_SECRET: 200,
    f"{ORIGIN_SECRET},{OLD_ORIGIN_SECRET}": 403,
    ORIGIN_SECRET.upper(): 403,
    ORIGIN_SECRET[:-1]: 403,
    f"{ORIGIN_SECRET}x": 403,
    API_KEY: 403,
    "": 403,
}


class TestTheProof:
    async def test_is_one_of_several_secrets(self, scene: Scene) -> None:
        message = await scene.message()
        for method in ("GET", "HEAD"):
            answers = {
                secret: await scene.nobody.request(method, message.path, headers={"X-Origin-Verify": secret})
                for secret in SECRETS
            }
            assert {secret: answer.status_code for secret, answer in answers.items()} == SECRETS

    async def test_does_nothing_where_none_is_configured(self, open_scene: OpenScene) -> None:
        async with open_scene() as scene:
            message = await scene.message()
            for secret in ("", ORIGIN_SECRET):
                answer = await scene.nobody.get(message.path, headers={"X-Origin-Verify": secret})
                assert (answer.status_code, problem_type(answer)) == (403, "forbidden")

    async def test_opens_media_and_files_of_streams_to_be_read_and_nothing_else(self, scene: Scene) -> None:
        message = await scene.message()
        ask = partial(scene.nobody.request, headers=CDN)
        for method in ("GET", "HEAD"):
            assert (await ask(method, message.path)).status_code == 200
            assert (await ask(method, f"{message.path}/hls/master.m3u8")).status_code == 404  # let in; there is none
        for method, path in (
            ("PUT", message.path),
            ("DELETE", message.path),
            ("GET", f"{message.path}/info"),
            ("POST", f"{message.path}/url"),
            ("POST", f"{message.path}/retry"),
            ("GET", "/media/messages"),
            ("POST", "/media/urls"),
        ):
            answer = await ask(method, path, json={})
            assert (answer.status_code, problem_type(answer)) == (401, "unauthorized")
        for method in ("POST", "PATCH"):
            assert (await ask(method, message.path)).status_code == 405

    async def test_opens_messages_of_all_workspaces_whoever_takes_part(self, scene: Scene) -> None:
        for registration in ({"workspace_id": "acme"}, {"participants": ["bob"]}, {"conversation_id": "c1"}):
            message = await scene.message(**registration)
            assert (await scene.nobody.head(message.path, headers=CDN)).status_code == 200


SUBJECT = "CN=origin-pull.example.net,O=CDN\\, Inc.,L=San Francisco"
VERIFIED = {"X-SSL-Client-Verify": "SUCCESS", "X-SSL-Client-S-DN": SUBJECT}
NGINX: dict[str, tuple[list[tuple[str, str]], int]] = {
    "verified, ours": ([*VERIFIED.items()], 200),
    "verified, of the second": ([*(VERIFIED | {"X-SSL-Client-S-DN": "CN=other"}).items()], 200),
    "verified, somebody else's": ([*(VERIFIED | {"X-SSL-Client-S-DN": "CN=evil"}).items()], 403),
    "verified, a part of ours": ([*(VERIFIED | {"X-SSL-Client-S-DN": "CN=origin-pull.example.net"}).items()], 403),
    "verified, in other case": ([*(VERIFIED | {"X-SSL-Client-S-DN": SUBJECT.lower()}).items()], 403),
    "not verified": ([*(VERIFIED | {"X-SSL-Client-Verify": "FAILED:unable to verify"}).items()], 401),
    "no certificate": ([("X-SSL-Client-Verify", "NONE"), ("X-SSL-Client-S-DN", "")], 401),
    "nothing about verification": ([("X-SSL-Client-S-DN", SUBJECT)], 401),
    "the client's own field beside the proxy's": ([*VERIFIED.items(), ("X-SSL-Client-S-DN", SUBJECT)], 401),
    "the client's own verdict beside the proxy's": ([*VERIFIED.items(), ("X-SSL-Client-Verify", "SUCCESS")], 401),
    "another proxy's field": ([("X-Amzn-Mtls-Clientcert-Subject", SUBJECT)], 401),
}


class TestAClientCertificate:
    async def test_is_believed_as_a_trusted_proxy_tells_it(self, open_scene: OpenScene) -> None:
        variables = {"MEDIA_TRUSTED_PROXIES": "127.0.0.1", "MEDIA_MTLS_SUBJECTS": f"{SUBJECT};CN=other"}
        async with open_scene(MEDIA_MTLS="nginx", **variables) as scene:
            message = await scene.message()
            answers = {
                title: await scene.nobody.get(message.path, headers=httpx.Headers(fields))
                for title, (fields, _) in NGINX.items()
            }
            assert {title: answer.status_code for title, answer in answers.items()} == {
                title: status for title, (_, status) in NGINX.items()
            }
            assert answers["verified, ours"].headers["cache-control"] == PUBLIC
            assert (await scene.nobody.get(f"{message.path}/info", headers=VERIFIED)).status_code == 401
            assert (await scene.nobody.delete(message.path, headers=VERIFIED)).status_code == 401

    async def test_is_told_by_a_load_balancer_in_its_own_field(self, open_scene: OpenScene) -> None:
        variables = {"MEDIA_TRUSTED_PROXIES": "127.0.0.1", "MEDIA_MTLS_SUBJECTS": SUBJECT}
        async with open_scene(MEDIA_MTLS="alb", **variables) as scene:
            message = await scene.message()
            fields = {"X-Amzn-Mtls-Clientcert-Subject": SUBJECT}
            assert (await scene.nobody.get(message.path, headers=fields)).status_code == 200
            assert (await scene.nobody.get(message.path, headers=VERIFIED)).status_code == 401

    @pytest.mark.parametrize(
        "variables",
        [
            {"MEDIA_MTLS": "nginx", "MEDIA_TRUSTED_PROXIES": "192.0.2.1", "MEDIA_MTLS_SUBJECTS": SUBJECT},
            {"MEDIA_MTLS": "off", "MEDIA_TRUSTED_PROXIES": "127.0.0.1", "MEDIA_MTLS_SUBJECTS": SUBJECT},
        ],
        ids=["not told by a trusted proxy", "not asked for"],
    )
    async def test_is_not_believed_otherwise(self, open_scene: OpenScene, variables: dict[str, str]) -> None:
        async with open_scene(**variables) as scene:
            message = await scene.message()
            fields = VERIFIED | {"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1"}
            assert (await scene.nobody.get(message.path, headers=fields)).status_code == 401


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
        modified, date = (parse_http_date(response.headers[name]) for name in ("last-modified", "date"))
        assert modified is not None
        assert date is not None
        assert modified <= date  # RFC 9110 section 8.8.2.1

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
