"""Message ids are the host's own: whatever one says, it names one message on every route, and leads nowhere else."""

import json
from urllib.parse import quote, urlsplit

import pytest

from tests.gateway.problems import problem_type
from tests.gateway.raw import RawAnswer, exchange, send
from tests.gateway.scene import Scene, jpeg
from tests.running import API_KEY

IDS = [
    "4711",
    "6e9f7f1c-2f0e-4a53-9c35-7b1c5b9c9d3e",
    "wamid.HBgLMTU1NTAwMDIyMjIVAgASGBQzQQ==",
    "a/b",
    "/",
    "a//b/",
    "info",
    "x/info",
    "../../etc/passwd",
    "..",
    ".",
    "...",
    ".hidden",
    "50%",
    "%2F",
    "%252F",
    "%00",
    "a?b=c",
    "a#b",
    "a&exp=1",
    "a+b",
    "a b",
    " ",
    "a\\b",
    "'\"<script>",
    "https://example.com/",
    "ünïcödé",
    "日本語",
    "e\u0301",
    "\u00e9",
    "👩‍👩‍👧",
    "x" * 255,
    "é" * 255,
    "/" * 255,
]
NO_IDS = {
    # what it is: what stands in the path
    "256 characters": b"x" * 256,
    "256 characters of several bytes": quote("é" * 256).encode(),
    "NUL": b"a%00b",
    "a line break": b"a%0Ab",
    "a delete character": b"a%7F",
    "no UTF-8": b"%FF%FE",
    "an overlong slash": b"%C0%AF",
    "half a surrogate pair": b"%ED%A0%80",
    "UTF-8 cut off": b"a%E2%82",
}


def segment(message_id: str) -> str:
    """Return the id as one segment of a path; dots too, for clients take them for steps."""
    return quote(message_id, safe="").replace(".", "%2E")


async def ask(scene: Scene, method: bytes, target: str, body: object = None) -> RawAnswer:
    """Ask as the host application, without a client's own ideas about paths."""
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f" {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {API_KEY}\r\nContent-Length: {len(content)}"
    )
    return await send(scene.gateway.url, method + head.encode() + b"\r\n\r\n" + content)


async def test_every_id_names_its_own_message_on_every_route(scene: Scene) -> None:
    bodies = {message_id: jpeg(seed=number) for number, message_id in enumerate(IDS)}
    for message_id, body in bodies.items():
        registration = {"provider_media_id": scene.simulator.add(body, "image/jpeg").id, "ingest": False}
        answer = await ask(scene, b"PUT", f"/media/messages/{segment(message_id)}", registration)
        assert (answer.status, json.loads(answer.body)["message_id"]) == (201, message_id)
    for message_id, body in bodies.items():
        path = f"/media/messages/{segment(message_id)}"
        assert (await ask(scene, b"GET", path)).body == body
        assert (await ask(scene, b"HEAD", path)).status == 200
        assert json.loads((await ask(scene, b"GET", f"{path}/info")).body)["message_id"] == message_id
        url = urlsplit(json.loads((await ask(scene, b"POST", f"{path}/url")).body)["url"])
        signed = await exchange(scene.gateway.url, f"{url.path}?{url.query}".encode())
        assert (signed.status, signed.body) == (200, body)
    for message_id in IDS:
        path = f"/media/messages/{segment(message_id)}"
        assert (await ask(scene, b"POST", f"{path}/retry")).status == 202
        assert (await ask(scene, b"DELETE", path)).status == 204
        assert (await ask(scene, b"GET", path)).status == 410


async def test_a_stored_medium_is_served_by_any_id(scene: Scene) -> None:
    for number, message_id in enumerate(["..", ".", "../../x", "/x", "a\\b", "%2F", "日本語", "x" * 255, "/é" * 127]):
        message = await scene.message(jpeg(seed=number), message_id=message_id)
        await scene.store(message)
        answer = await scene.client.get(message.path)
        assert (answer.content, answer.headers["x-media-source"]) == (message.body, "storage")
    outside = [path for path in scene.gateway.path.parent.iterdir() if path != scene.gateway.path]
    assert outside == []


@pytest.mark.parametrize("raw", [pytest.param(raw, id=title) for title, raw in NO_IDS.items()])
async def test_what_can_be_no_id_is_not_found_on_any_route(scene: Scene, raw: bytes) -> None:
    path = "/media/messages/" + raw.decode()
    routes = [(b"GET", ""), (b"HEAD", ""), (b"PUT", ""), (b"DELETE", ""), (b"GET", "/info"), (b"POST", "/url")]
    for method, below in [*routes, (b"POST", "/retry")]:
        answer = await ask(scene, method, path + below, {"provider_media_id": "1"})
        assert answer.status == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert method == b"HEAD" or json.loads(answer.body)["type"] == "not-found"


@pytest.mark.parametrize("target", ["/media/messages/", "/media/messages//info", "/media/messages//"])
async def test_an_empty_id_is_no_id(scene: Scene, target: str) -> None:
    response = await scene.client.get(target)
    assert (response.status_code, problem_type(response)) == (404, "not-found")


@pytest.mark.parametrize(
    "raw", [b"\x00", b"\xff", b" ", b"\x7f"], ids=["a raw NUL", "a raw byte", "a raw space", "a raw delete"]
)
async def test_a_target_that_is_no_http_is_refused(scene: Scene, raw: bytes) -> None:
    answer = await exchange(scene.gateway.url, b"/media/messages/a" + raw + b"b", X_API_Key=API_KEY)
    assert 400 <= answer.status < 500


async def test_ids_that_look_alike_are_different(scene: Scene) -> None:
    message = await scene.message(message_id="a%2Fb")
    assert (await scene.client.get(message.path)).content == message.body
    assert message.path == "/media/messages/a%252Fb"
    for other in ("/media/messages/a%2Fb", "/media/messages/a/b", "/media/messages/A%252Fb"):
        assert (await ask(scene, b"GET", other)).status == 404


async def test_percent_encoding_is_not_part_of_the_id(scene: Scene) -> None:
    """RFC 3986 section 6.2.2: the same path, written in other ways."""
    message = await scene.message(message_id="wamid.A==")
    for path in ("wamid.A==", "wamid%2EA%3D%3D", "wamid%2eA%3d%3d", "%77amid.A=="):
        assert (await ask(scene, b"GET", f"/media/messages/{path}")).body == message.body


async def test_dots_in_a_path_are_no_steps(scene: Scene) -> None:
    for target in ("/media/messages/../../healthz", "/media/messages/x/../y", "/media/messages/%2e%2e/healthz"):
        assert (await ask(scene, b"GET", target)).status == 404


async def test_an_id_cannot_hide_another_route(scene: Scene) -> None:
    """An encoded slash belongs to the id."""
    message = await scene.message(message_id="x")
    assert (await ask(scene, b"GET", f"{message.path}%2Finfo")).status == 404
    assert (await ask(scene, b"GET", "/media%2Fmessages/x")).status == 404
