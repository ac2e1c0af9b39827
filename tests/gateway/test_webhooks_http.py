"""Webhooks over HTTP: the handshake, the signature over the raw bytes, and 200 only for what is durable."""

import asyncio
import hashlib
import hmac
import sqlite3

import httpx
import pytest

from ingest.simulator import Faults, Medium, Signature, Transport, WebhookSender, batch, encode
from ingest.webhook import MAX_BODY
from tests.gateway.problems import problem_type
from tests.gateway.scene import OpenScene, Scene, jpeg
from tests.running import APP_SECRET, VERIFY_TOKEN

PATH = "/webhooks/whatsapp"
HANDSHAKE = {"hub.mode": "subscribe", "hub.verify_token": VERIFY_TOKEN, "hub.challenge": "1158201444"}


def sender(scene: Scene, path: str = PATH) -> WebhookSender:
    """Return the provider's sender for a callback of this gateway."""
    return WebhookSender(scene.gateway.url + path, APP_SECRET, scene.nobody)


def image(scene: Scene) -> Medium:
    """Put a new image into the provider's catalogue."""
    return scene.simulator.add(jpeg(seed=len(scene.simulator.media)), "image/jpeg")


def signed(body: bytes) -> str:
    """Compute the signature by the words of Meta's documentation."""
    return "sha256=" + hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()


async def post(scene: Scene, body: bytes, signature: str | None = None) -> httpx.Response:
    """Post a body with a signature, its own by default."""
    return await scene.nobody.post(PATH, content=body, headers={"X-Hub-Signature-256": signature or signed(body)})


@pytest.mark.parametrize("path", [PATH, f"{PATH}/default"])
async def test_the_handshake_answers_the_challenge_and_nothing_else(scene: Scene, path: str) -> None:
    response = await scene.nobody.get(path, params=HANDSHAKE)
    assert (response.status_code, response.text) == (200, "1158201444")
    assert response.headers["content-type"].startswith("text/plain")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert await sender(scene, path).handshake(VERIFY_TOKEN)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"hub.verify_token": "wrong"}, id="another token"),
        pytest.param({"hub.verify_token": ""}, id="an empty token"),
        pytest.param({"hub.verify_token": "ü"}, id="no ASCII"),
        pytest.param({"hub.mode": "unsubscribe"}, id="another mode"),
        pytest.param({"hub.mode": ""}, id="no mode"),
    ],
)
async def test_a_handshake_of_somebody_else_is_refused(scene: Scene, change: dict[str, str]) -> None:
    response = await scene.nobody.get(PATH, params=HANDSHAKE | change)
    assert (response.status_code, problem_type(response)) == (403, "forbidden")
    assert "1158201444" not in response.text


async def test_without_secrets_nothing_is_let_in(open_scene: OpenScene) -> None:
    async with open_scene(WHATSAPP_VERIFY_TOKEN="", WHATSAPP_APP_SECRET="") as scene:
        assert (await scene.nobody.get(PATH, params=HANDSHAKE | {"hub.verify_token": ""})).status_code == 403
        forged = "sha256=" + hmac.new(b"", b"{}", hashlib.sha256).hexdigest()
        assert (await post(scene, b"{}", forged)).status_code == 403


async def test_an_event_becomes_a_message_that_is_served(scene: Scene) -> None:
    medium = image(scene)
    payload = scene.simulator.webhooks.media_payload(medium)
    answer = await sender(scene).send(payload)
    assert (answer.status_code, answer.json()) == (200, {"new_media": 1})
    message_id = payload["entry"][0]["changes"][0]["value"]["messages"][0]["id"]
    served = await scene.client.get(f"/media/messages/{message_id.replace('=', '%3D').replace('/', '%2F')}")
    assert served.content == medium.content.read(0, medium.size)


async def test_nothing_is_downloaded_inside_the_request(scene: Scene) -> None:
    scene.simulator.faults = Faults(transport=Transport.SILENT, resolve_silent=True)
    assert (await sender(scene).send(scene.simulator.webhooks.media_payload(image(scene)))).status_code == 200
    assert list(scene.simulator.requests) == []


async def test_200_means_that_record_and_job_are_durable(scene: Scene) -> None:
    await sender(scene).send(scene.simulator.webhooks.media_payload(image(scene)))
    with sqlite3.connect(f"file:{scene.gateway.path / 'gateway.db'}?mode=ro", uri=True) as database:
        assert database.execute("SELECT count(*) FROM messages WHERE status = 'pending'").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM workflow_status WHERE status = 'ENQUEUED'").fetchone() == (1,)


async def test_without_a_database_there_is_no_200(scene: Scene) -> None:
    with sqlite3.connect(scene.gateway.path / "gateway.db") as database:
        database.execute("DROP TABLE messages")
    response = await sender(scene).send(scene.simulator.webhooks.media_payload(image(scene)))
    assert (response.status_code, problem_type(response)) == (503, "records-unavailable")
    assert int(response.headers["retry-after"]) > 0


async def test_duplicates_at_the_same_moment_are_one_message(scene: Scene) -> None:
    payload = scene.simulator.webhooks.media_payload(image(scene))
    answers = await sender(scene).send_concurrently(payload, times=8)
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["new_media"] for answer in answers) == 1
    assert len((await scene.client.get("/media/messages")).json()["messages"]) == 1


async def test_a_batch_of_a_thousand_updates_and_three_megabytes_is_taken_in(scene: Scene) -> None:
    webhooks = scene.simulator.webhooks
    media = await asyncio.to_thread(lambda: [image(scene) for _ in range(1000)])
    body = encode(batch(webhooks.media_payload(medium) for medium in media), size=3_000_000)
    answer = await sender(scene).send(body)
    assert (answer.status_code, answer.json()) == (200, {"new_media": 1000})


@pytest.mark.parametrize(
    ("signature", "status", "kind"),
    [
        pytest.param(Signature.MISSING, 401, "unauthorized", id="unsigned"),
        pytest.param(Signature.WRONG, 403, "forbidden", id="signed by somebody else"),
        pytest.param(Signature.MALFORMED, 403, "forbidden", id="malformed"),
    ],
)
async def test_an_event_of_somebody_else_is_refused(scene: Scene, signature: Signature, status: int, kind: str) -> None:
    payload = scene.simulator.webhooks.media_payload(image(scene))
    response = await sender(scene).send(payload, signature=signature)
    assert (response.status_code, problem_type(response)) == (status, kind)
    assert (await scene.client.get("/media/messages")).json()["messages"] == []


async def test_the_signature_is_over_the_raw_bytes(scene: Scene) -> None:
    payload = scene.simulator.webhooks.media_payload(image(scene), caption="¡Olé! a/b @ana")
    escaped, plain = encode(payload), encode(payload, escaped=False)
    assert escaped != plain
    assert (await post(scene, escaped, signed(plain))).status_code == 403
    assert (await post(scene, escaped + b" ", signed(escaped))).status_code == 403
    assert (await post(scene, escaped, signed(escaped).upper().replace("SHA256", "sha256"))).status_code == 200
    assert (await post(scene, plain)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b'{"entry":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="too deep"),
    ],
)
async def test_what_is_no_event_is_refused(scene: Scene, body: bytes) -> None:
    response = await post(scene, body)
    assert (response.status_code, problem_type(response)) == (400, "bad-request")


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"entry": 1}',
        b'{"entry": [1, {"changes": [null, {"value": []}]}]}',
        b'{"entry": [{"changes": [{"field": "messages", "value": {"messages": [{"type": "image"}]}}]}]}',
        b'{"entry": [{"changes": [{"field": "account_update", "value": {"event": "x"}}]}]}',
    ],
)
async def test_an_event_without_media_is_accepted(scene: Scene, body: bytes) -> None:
    answer = await post(scene, body)
    assert (answer.status_code, answer.json()) == (200, {"new_media": 0})


@pytest.mark.parametrize("says_so", [True, False])
async def test_a_body_beyond_the_provider_s_limit_is_refused(scene: Scene, *, says_so: bool) -> None:
    body = b" " * (MAX_BODY + 1)

    async def in_chunks() -> object:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    content = body if says_so else in_chunks()
    response = await scene.nobody.post(PATH, content=content, headers={"X-Hub-Signature-256": signed(body)})  # type: ignore[arg-type] # an iterator of bytes
    assert (response.status_code, problem_type(response)) == (413, "content-too-large")


async def test_a_workspace_that_is_unknown_is_not_found(scene: Scene) -> None:
    body = b"{}"
    response = await scene.nobody.post(f"{PATH}/other", content=body, headers={"X-Hub-Signature-256": signed(body)})
    assert (response.status_code, problem_type(response)) == (404, "not-found")
    assert (await scene.nobody.get(f"{PATH}/other", params=HANDSHAKE)).status_code == 404


async def test_other_methods_are_not_allowed(scene: Scene) -> None:
    response = await scene.nobody.put(PATH)
    assert (response.status_code, problem_type(response)) == (405, "method-not-allowed")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_no_ingest_is_scheduled_where_it_is_switched_off(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_INGEST="off") as scene:
        await sender(scene).send(scene.simulator.webhooks.media_payload(image(scene)))
        assert 'media_gateway_queue_depth{queue="media-high"} 0.0' in (await scene.nobody.get("/metrics")).text
        assert len((await scene.client.get("/media/messages")).json()["messages"]) == 1
