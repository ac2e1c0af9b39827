"""The simulated webhooks against Meta's reference; numbers in brackets name the fact sheet's sections."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ingest.simulator import (
    NO_PHONE_NUMBER,
    SIGNATURE_HEADER,
    Faults,
    HashForm,
    Medium,
    Signature,
    Simulator,
    TypeForm,
    UrlForm,
    WebhookSender,
    batch,
    encode,
    sign,
)

SECRET = "demo_app_secret"
HELLO = b"hello media\n"
HELLO_HEX = "7b23ba8a9008b1e2fc492f70df3019d992c70c2e8cbfaa97ad00e6b4c860fb79"
HELLO_BASE64 = "eyO6ipAIseL8SS9w3zAZ2ZLHDC6Mv6qXrQDmtMhg+3k="


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(clock=lambda: datetime(2026, 11, 2, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (
            rb'{"object":"whatsapp_business_account","entry":[]}',
            "sha256=650a7ec4c57b1d45d68231c8825bb556bcfb240069c6cbf98a34a177ce9e909a",
        ),
        (
            rb'{"object":"whatsapp_business_account","entry":[{"id":"0","changes":[]}],"note":"a\u0040b \/ \u00e4"}',
            "sha256=7b963f2830b10a1ba0a6cc96343a6677b74bbcc74be8ff1df8d29f9ac1d65e16",
        ),
        (
            '{"object":"whatsapp_business_account","entry":[{"id":"0","changes":[]}],"note":"a@b / ä"}'.encode(),
            "sha256=e8ba68a00c671e5f6ea4222eecbb5e71f1a73bd78cc82f54ca20bec6dbaa286b",
        ),
    ],
    ids=["plain", "escaped", "serialised again"],
)
def test_signatures_match_the_vectors_of_1_2(body: bytes, header: str) -> None:
    assert sign(body, SECRET) == header


def test_bodies_are_escaped_like_the_vector_of_1_2() -> None:
    payload = {"object": "whatsapp_business_account", "entry": [{"id": "0", "changes": []}], "note": "a@b / ä"}
    assert encode(payload).endswith(rb'"note":"a\u0040b \/ \u00e4"}')
    assert json.loads(encode(payload)) == payload
    assert encode(payload, escaped=False).endswith('"note":"a@b / ä"}'.encode())


@pytest.mark.parametrize(
    ("mime_type", "options", "kind", "keys"),
    [
        ("image/jpeg", {}, "image", {"id", "mime_type", "sha256", "url", "caption"}),
        ("video/mp4", {}, "video", {"id", "mime_type", "sha256", "url", "caption"}),
        ("audio/ogg; codecs=opus", {"voice": True}, "audio", {"id", "mime_type", "sha256", "url", "voice"}),
        ("audio/mpeg", {}, "audio", {"id", "mime_type", "sha256", "url", "voice"}),
        (
            "application/pdf",
            {"filename": "receipt.pdf"},
            "document",
            {"id", "mime_type", "sha256", "url", "filename", "caption"},
        ),
        ("image/webp", {"animated": True}, "sticker", {"id", "mime_type", "sha256", "url", "animated"}),
    ],
)
def test_media_objects_have_exactly_the_keys_of_1_5(
    simulator: Simulator, mime_type: str, options: dict[str, Any], kind: str, keys: set[str]
) -> None:
    medium = simulator.add(HELLO, mime_type, **options)
    message = simulator.webhooks.media(medium, caption="words" if "caption" in keys else None)
    assert message["type"] == kind
    assert set(message) == {"from", "from_user_id", "id", "timestamp", "type", kind}
    assert set(message[kind]) == keys
    assert (message[kind]["mime_type"], message[kind]["sha256"]) == (mime_type, HELLO_BASE64)
    assert message["timestamp"] == "1793620800"


@pytest.mark.parametrize(
    ("faults", "key", "expected"),
    [
        (Faults(webhook_url=UrlForm.ABSENT), "url", None),
        (Faults(webhook_sha256=HashForm.HEX), "sha256", HELLO_HEX),
        (Faults(webhook_sha256=HashForm.MISSING), "sha256", None),
        (Faults(webhook_mime_type=TypeForm.BARE), "mime_type", "audio/ogg"),
        (Faults(webhook_mime_type=TypeForm.OCTET_STREAM), "mime_type", "application/octet-stream"),
    ],
)
def test_media_objects_take_every_form(simulator: Simulator, faults: Faults, key: str, expected: object) -> None:
    medium = simulator.add(HELLO, "audio/ogg; codecs=opus", faults=faults)
    assert simulator.webhooks.media_object(medium).get(key) == expected


def test_an_expired_url_has_its_end_behind_it(simulator: Simulator) -> None:
    medium = simulator.add(HELLO, "image/jpeg", faults=Faults(webhook_url=UrlForm.EXPIRED))
    url = httpx.URL(simulator.webhooks.media_object(medium)["url"])
    assert int(url.params["ext"]) <= simulator.now().timestamp()


def test_the_envelope_is_that_of_1_4(simulator: Simulator) -> None:
    medium = simulator.add(HELLO, "image/jpeg", phone_number_id="42")
    payload = simulator.webhooks.media_payload(medium)
    [entry] = payload["entry"]
    [change] = entry["changes"]
    assert (payload["object"], change["field"]) == ("whatsapp_business_account", "messages")
    assert set(change["value"]) == {"messaging_product", "metadata", "contacts", "messages"}
    assert change["value"]["metadata"] == {"display_phone_number": "15550001111", "phone_number_id": "42"}
    [contact] = change["value"]["contacts"]
    assert contact == {"profile": {"name": "Ana"}, "wa_id": "15550002222", "user_id": "US.10000000000000000001"}


def test_phone_numbers_may_be_missing(simulator: Simulator) -> None:
    message = simulator.webhooks.text(contact=NO_PHONE_NUMBER)
    [contact] = simulator.webhooks.payload(message, contact=NO_PHONE_NUMBER)["entry"][0]["changes"][0]["value"][
        "contacts"
    ]
    assert "from" not in message
    assert set(contact) == {"profile", "user_id"}
    assert message["from_user_id"] == contact["user_id"]


def test_what_cannot_be_shown_says_why(simulator: Simulator) -> None:
    unsupported, too_large = simulator.webhooks.unsupported("edit"), simulator.webhooks.too_large()
    assert (unsupported["type"], unsupported["unsupported"]) == ("unsupported", {"type": "edit"})
    assert unsupported["errors"] == [
        {
            "code": 131051,
            "title": "Message type unknown",
            "message": "Message type unknown",
            "error_data": {"details": "Message type is currently not supported."},
        }
    ]
    assert (too_large["type"], too_large["errors"][0]["code"]) == ("unsupported", 131052)


def test_statuses_carry_no_media(simulator: Simulator) -> None:
    status = simulator.webhooks.status("wamid.1", "read")
    assert set(status) == {"id", "status", "timestamp", "recipient_id"}
    assert simulator.webhooks.status("wamid.1", "failed")["errors"][0]["code"] == 130429
    assert "messages" not in simulator.webhooks.payload(statuses=[status])["entry"][0]["changes"][0]["value"]


def test_history_comes_as_a_pair(simulator: Simulator) -> None:
    placeholder, media = simulator.webhooks.history(simulator.add(HELLO, "image/jpeg"))
    first, second = (payload["entry"][0]["changes"][0] for payload in (placeholder, media))
    [announced] = first["value"]["history"][0]["threads"][0]["messages"]
    [message] = second["value"]["messages"]
    assert {first["field"], second["field"]} == {"history"}
    assert announced["type"] == "media_placeholder"
    assert "image" not in announced
    assert announced["id"] == message["id"]
    assert message["image"]["sha256"] == HELLO_HEX


def test_echo_edit_and_revoke_have_the_shapes_of_1_8(simulator: Simulator) -> None:
    medium = simulator.add(HELLO, "image/jpeg")
    change = simulator.webhooks.echo(medium)["entry"][0]["changes"][0]
    [echo] = change["value"]["message_echoes"]
    assert (change["field"], set(echo)) == ("smb_message_echoes", {"from", "to", "id", "timestamp", "type", "image"})
    edit = simulator.webhooks.edit("wamid.1", medium, caption="new")["edit"]
    assert edit["original_message_id"] == "wamid.1"
    assert (edit["message"]["type"], edit["message"]["image"]["sha256"]) == ("image", HELLO_HEX)
    assert simulator.webhooks.revoke("wamid.1")["revoke"] == {"original_message_id": "wamid.1"}


def test_a_post_holds_up_to_a_thousand_updates(simulator: Simulator) -> None:
    payloads = [simulator.webhooks.payload(simulator.webhooks.text(str(number))) for number in range(1001)]
    [entry] = batch(payloads[:1000])["entry"]
    assert len(entry["changes"]) == 1000
    with pytest.raises(ValueError, match="1000 updates"):
        batch(payloads)


def test_a_body_can_be_filled_up_to_its_size(simulator: Simulator) -> None:
    payload = simulator.webhooks.payload(simulator.webhooks.text("ä@/"))
    body = encode(payload, size=2_900_000)
    assert len(body) == 2_900_000
    assert {key: value for key, value in json.loads(body).items() if key != "padding"} == payload


# How webhooks are delivered: sections 1.1 to 1.3


class Subscriber:
    """An application that keeps what it was sent, and answers what it is told to."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.signatures: list[str | None] = []
        self.answers: list[int] = []
        self.before_answer: Callable[[], Awaitable[object]] | None = None
        self.app = Starlette(routes=[Route("/hook", self.verify), Route("/hook", self.receive, methods=["POST"])])

    async def verify(self, request: Request) -> Response:
        query = request.query_params
        accepted = query["hub.mode"] == "subscribe" and query["hub.verify_token"] == "right"
        return PlainTextResponse(query["hub.challenge"] if accepted else "no", 200 if accepted else 403)

    async def receive(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        self.signatures.append(request.headers.get(SIGNATURE_HEADER))
        if self.before_answer:
            await self.before_answer()
        return Response(status_code=self.answers.pop(0) if self.answers else 200)


@pytest.fixture
def subscriber() -> Subscriber:
    return Subscriber()


def sender_to(subscriber: Subscriber, slept: list[float], attempts: int = 8) -> WebhookSender:
    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    client = httpx.AsyncClient(transport=httpx.ASGITransport(subscriber.app))
    return WebhookSender("http://app.test/hook", SECRET, client, sleep=sleep, attempts=attempts)


@pytest.mark.parametrize(("verify_token", "accepted"), [("right", True), ("wrong", False)])
async def test_a_subscription_is_verified(subscriber: Subscriber, verify_token: str, *, accepted: bool) -> None:
    assert await sender_to(subscriber, []).handshake(verify_token) is accepted


@pytest.mark.parametrize("signature", Signature)
async def test_signatures_can_be_spoilt(subscriber: Subscriber, signature: Signature) -> None:
    await sender_to(subscriber, []).send(b"{}", signature=signature)
    right = sign(b"{}", SECRET)
    [given] = subscriber.signatures
    match signature:
        case Signature.VALID:
            assert given == right
        case Signature.WRONG:
            assert given is not None
            assert (given != right, len(given)) == (True, len(right))
        case Signature.MALFORMED:
            assert given == right[7:39]
        case Signature.MISSING:
            assert given is None


async def test_a_delivery_is_retried_until_200_with_growing_pauses(subscriber: Subscriber) -> None:
    subscriber.answers = [500, 204, 200]
    slept: list[float] = []
    assert await sender_to(subscriber, slept).deliver({"a": 1}) == [500, 204, 200]
    assert slept == [1, 2]
    assert len(set(subscriber.bodies)) == 1


async def test_a_delivery_is_given_up(subscriber: Subscriber) -> None:
    subscriber.answers = [500] * 9
    assert await sender_to(subscriber, [], attempts=3).deliver({"a": 1}) == [500] * 3


async def test_duplicates_arrive_one_after_the_other_or_at_once(subscriber: Subscriber) -> None:
    sender = sender_to(subscriber, [])
    await sender.send_repeatedly({"a": 1})
    subscriber.before_answer = asyncio.Barrier(3).wait  # passes only if three requests are there at the same time
    async with asyncio.timeout(10):
        await sender.send_concurrently({"a": 1}, times=3)
    assert subscriber.bodies == [b'{"a":1}'] * 5


async def test_order_is_not_kept(subscriber: Subscriber) -> None:
    await sender_to(subscriber, []).send_reordered([b"message", b"status"])
    assert subscriber.bodies == [b"status", b"message"]


def test_wamids_are_never_used_twice(simulator: Simulator) -> None:
    medium: Medium = simulator.add(HELLO, "image/jpeg")
    assert len({simulator.webhooks.media(medium)["id"] for _ in range(100)}) == 100
