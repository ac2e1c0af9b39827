"""What every answer about a medium carries, by the contract."""

import re
from base64 import b64encode
from hashlib import sha256
from typing import Any

import httpx
import pytest

from gateway.conditional import parse_http_date
from ingest.simulator import Faults, SizeForm
from tests.gateway.layers import Layer
from tests.gateway.scene import IMMUTABLE, SIZE, OpenScene, Scene, jpeg
from tests.running import eventually

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!DOCTYPE html><html><script>alert(1)</script></html>"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100
FIXED = {
    "content-type": "image/jpeg",
    "content-length": str(SIZE),
    "content-disposition": "inline",
    "accept-ranges": "bytes",
    "cache-control": IMMUTABLE,
    "x-media-variant": "original",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "cross-origin",
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_success_carries_what_the_contract_names(layer: Layer, method: str) -> None:
    answer = await layer.ask(method)
    headers, message = answer.response.headers, answer.message
    expected = FIXED | {
        "etag": f'"{sha256(message.body).hexdigest()}"',
        "repr-digest": f"sha-256=:{b64encode(sha256(message.body).digest()).decode()}:",
        "x-media-source": layer.source,
    }
    if method == "HEAD" and layer.name in {"provider", "growing"}:
        del expected["content-length"]  # nobody has said how long it is
        del expected["accept-ranges"]
    assert answer.response.status_code == 200
    assert {name: headers.get(name) for name in expected} == expected
    assert parse_http_date(headers["last-modified"]) is not None
    assert re.fullmatch(rf"{layer.source};dur=[0-9]+(\.[0-9]+)?", headers["server-timing"])
    assert "sandbox" in headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in headers["content-security-policy"].split("; ")
    assert not {"set-cookie", "transfer-encoding", "vary", "content-encoding", "cache-tag"} & set(headers)
    assert len(headers["x-request-id"]) > 0


async def test_a_message_has_one_tag_size_type_and_date_from_first_to_last(scene: Scene) -> None:
    message = await scene.message(jpeg(), "image/png", size=SIZE)  # declared wrongly: the bytes decide
    answers: dict[str, httpx.Response] = {}
    for _ in range(2):
        response = await scene.client.get(message.path)
        answers[f"{response.headers['x-media-source']} {len(answers)}"] = response
    heads = [await scene.client.head(message.path)]
    await scene.store(message)
    heads.append(await scene.client.head(message.path))

    async def stored() -> httpx.Response | None:  # other processes see it after a moment
        response = await scene.client.get(message.path)
        return response if response.headers["x-media-source"] != "provider" else None

    for _ in range(2):
        response = await eventually(stored)
        answers[response.headers["x-media-source"]] = response
    heads.append(await scene.client.head(message.path))
    names = ("etag", "content-length", "content-type", "last-modified", "content-disposition", "repr-digest")
    assert [head.headers["x-media-source"] for head in heads] == ["provider", "cache", "cache"]
    assert {tuple(answer.headers[name] for name in names) for answer in (*answers.values(), *heads)} == {
        tuple(answers["provider 0"].headers[name] for name in names)
    }
    assert answers["provider 0"].headers["content-type"] == "image/jpeg"
    assert {answer.content for answer in answers.values()} == {message.body}


async def test_a_head_never_touches_the_provider(scene: Scene) -> None:
    message = await scene.message(size=SIZE)
    scene.forget_requests()
    head = await scene.client.head(message.path, headers={"Range": "bytes=0-9"})
    assert head.status_code == 200
    assert head.headers["content-length"] == str(SIZE)
    assert head.headers["x-media-source"] == "provider"
    assert list(scene.simulator.requests) == []


async def test_a_head_says_what_the_get_will_say(layer: Layer) -> None:
    """RFC 9110 section 9.3.2, as far as it is known without asking the provider."""
    head, get = (await layer.ask("HEAD")).response.headers, (await layer.ask("GET")).response.headers
    varying = {"date", "server-timing", "x-request-id", "etag", "repr-digest", "last-modified"}
    if layer.name in {"provider", "growing"}:
        varying |= {"content-length", "accept-ranges"}
    assert {name: head[name] for name in head if name not in varying} == {
        name: get[name] for name in get if name not in varying
    }


async def test_a_medium_of_unknown_size_is_sent_as_it_comes(scene: Scene) -> None:
    message = await scene.message(faults=Faults(chunked=True, file_size=SizeForm.MISSING))
    response = await scene.client.get(message.path, headers={"Range": "bytes=0-9"})
    assert response.status_code == 200
    assert response.content == message.body
    assert not {"content-length", "accept-ranges", "content-range"} & set(response.headers)


async def test_the_provider_may_say_the_size_though_it_sends_chunks(scene: Scene) -> None:
    message = await scene.message(faults=Faults(chunked=True))
    response = await scene.client.get(message.path)
    assert response.headers["content-length"] == str(SIZE)
    assert "transfer-encoding" not in response.headers


@pytest.mark.parametrize(
    ("body", "declared", "served", "disposition"),
    [
        pytest.param(HTML, "text/html", "text/html", "attachment", id="HTML"),
        pytest.param(HTML, "image/jpeg", "text/html", "attachment", id="HTML under an image's name"),
        pytest.param(SVG, "image/svg+xml", "image/svg+xml", "attachment", id="SVG"),
        pytest.param(SVG, "image/png", "image/svg+xml", "attachment", id="SVG under an image's name"),
        pytest.param(b"<?xml version='1.0'?><a/>", "application/xml", "application/xml", "attachment", id="XML"),
        pytest.param(b"alert(1)", "text/javascript", "text/javascript", "attachment", id="a script"),
        pytest.param(b"%PDF-1.7 ...", "application/pdf", "application/pdf", "attachment", id="PDF"),
        pytest.param(b"PK\x03\x04....", "application/zip", "application/zip", "attachment", id="an archive"),
        pytest.param(b"\0\1\2\3", "image/jpeg", "application/octet-stream", "attachment", id="no image at all"),
        pytest.param(PNG, "image/jpeg", "image/png", "inline", id="another image"),
        pytest.param(PNG, "application/octet-stream", "image/png", "inline", id="declared as nothing"),
        pytest.param(b"Dear Ana", "text/plain; charset=utf-8", "text/plain; charset=utf-8", "inline", id="a text"),
        pytest.param(
            b"OggS" + b"\0" * 24 + b"OpusHead", "audio/ogg; codecs=opus", "audio/ogg; codecs=opus", "inline", id="voice"
        ),
    ],
)
async def test_what_a_browser_could_run_is_an_attachment(
    scene: Scene, body: bytes, declared: str, served: str, disposition: str
) -> None:
    message = await scene.message(body, declared)
    answers = [await scene.client.get(message.path)]
    await scene.store(message)
    answers.append(await scene.client.get(message.path))
    for answer in answers:
        assert answer.headers["content-type"] == served
        assert answer.headers["content-disposition"] == disposition
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("registration", "query", "expected"),
    [
        pytest.param({}, "", "inline", id="6266-4.2 shown in place"),
        pytest.param({}, "?download=1", "attachment", id="contract download"),
        pytest.param({}, "?download=0", "inline", id="contract no download"),
        pytest.param({"filename": "cat.jpg"}, "", 'inline; filename="cat.jpg"', id="6266-4.3 a plain name"),
        pytest.param({"filename": "cat.jpg"}, "?download=1", 'attachment; filename="cat.jpg"', id="6266-4.3 saved"),
        pytest.param(
            {"filename": "猫.jpg"},
            "?download=1",
            "attachment; filename=\"_.jpg\"; filename*=UTF-8''%E7%8C%AB.jpg",
            id="6266-5 filename*",
        ),
        pytest.param({"filename": "../../etc/passwd"}, "", 'inline; filename="passwd"', id="6266-4.3 no path"),
        pytest.param({"filename": 'a";b.jpg'}, "", 'inline; filename="a;b.jpg"', id="6266-4.3 no quotes"),
    ],
)
async def test_the_name_of_a_file(scene: Scene, registration: dict[str, Any], query: str, expected: str) -> None:
    message = await scene.message(**registration)
    for method in ("HEAD", "GET"):
        response = await scene.client.request(method, message.path + query)
        assert response.headers["content-disposition"] == expected


async def test_a_declared_type_cannot_break_a_header(scene: Scene) -> None:
    for declared in ("image/жpeg", "a" * 255, "image/jpeg;x=\u2028", "text/html,image/png"):
        message = await scene.message(mime_type="image/jpeg", message_id=declared[:9])
        await scene.register(message, provider_media_id=message.medium.id, mime_type=declared)
        assert (await scene.client.head(message.path)).headers["content-type"] == "application/octet-stream"
        assert (await scene.client.get(message.path)).headers["content-type"] == "image/jpeg"


async def test_a_variant_that_is_not_ready_is_stood_in_for_by_name_and_not_kept(layer: Layer) -> None:
    for variant in ("compressed", "webp", "thumbnail", "small", "medium", "large", "preview"):
        answer = await layer.ask(query=f"?variant={variant}")
        assert answer.response.content == answer.message.body
        assert answer.response.headers["x-media-variant"] == "original"
        assert answer.response.headers["cache-control"] == "no-store"
    original = (await layer.ask(query="?variant=original")).response
    assert (original.headers["x-media-variant"], original.headers["cache-control"]) == ("original", IMMUTABLE)


@pytest.mark.parametrize("headers", [{}, {"If-None-Match": "*"}])
async def test_auto_alone_varies_by_accept(scene: Scene, headers: dict[str, str]) -> None:
    message = await scene.message()
    assert (await scene.client.get(f"{message.path}?variant=auto", headers=headers)).headers["vary"] == "Accept"
    assert "vary" not in (await scene.client.get(message.path, headers=headers)).headers


async def test_other_parameters_are_ignored(scene: Scene) -> None:
    message = await scene.message()
    assert (await scene.client.get(f"{message.path}?retry=2&_=17&size=big")).content == message.body


@pytest.mark.parametrize(
    ("given", "taken_over"),
    [
        pytest.param("4bf92f3577b34da6", True, id="sane"),
        pytest.param("a" * 128, True, id="128 characters"),
        pytest.param("a" * 129, False, id="too long"),
        pytest.param("a b", False, id="a space"),
        pytest.param('"><script>', False, id="markup"),
        pytest.param("", False, id="empty"),
    ],
)
async def test_a_sane_request_id_is_taken_over(scene: Scene, given: str, *, taken_over: bool) -> None:
    for path in ("/healthz", "/media/messages/unknown"):
        answer = await scene.client.get(path, headers={"X-Request-ID": given})
        assert (answer.headers["x-request-id"] == given) is taken_over
        assert re.fullmatch(r"[A-Za-z0-9._:=/+-]{1,128}", answer.headers["x-request-id"])


async def test_requests_without_an_id_get_different_ones(scene: Scene) -> None:
    ids = {(await scene.client.get("/healthz")).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


async def test_without_storage_first_the_provider_is_asked_first_and_storage_stands_in(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_STORAGE_FIRST="off") as scene:
        message = await scene.store(await scene.message())
        assert (await scene.client.get(message.path)).headers["x-media-source"] == "provider"
        lost = await scene.store(await scene.message())
        scene.simulator.online = False
        response = await scene.client.get(lost.path)
        assert response.headers["x-media-source"] == "storage"
        assert response.content == lost.body
