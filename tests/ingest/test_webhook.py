"""What a webhook says, as values; section numbers are those of the fact sheet."""

import json
from datetime import timedelta
from typing import Any

import pytest

from ingest.simulator import NO_PHONE_NUMBER, Faults, HashForm, Simulator, TypeForm, encode, error
from ingest.simulator.webhooks import Json
from ingest.webhook import MalformedWebhook, media_in, parse, signature_is_valid
from storage.record import NewMessage
from tests.messages import NOON

SECRET = "demo_app_secret"
EMPTY = rb'{"object":"whatsapp_business_account","entry":[]}'
EMPTY_SIGNATURE = "sha256=650a7ec4c57b1d45d68231c8825bb556bcfb240069c6cbf98a34a177ce9e909a"
ESCAPED = rb'{"object":"whatsapp_business_account","entry":[{"id":"0","changes":[]}],"note":"a\u0040b \/ \u00e4"}'
ESCAPED_SIGNATURE = "sha256=7b963f2830b10a1ba0a6cc96343a6677b74bbcc74be8ff1df8d29f9ac1d65e16"
SERIALISED_AGAIN = json.dumps(json.loads(ESCAPED), ensure_ascii=False, separators=(",", ":")).encode()
SERIALISED_AGAIN_SIGNATURE = "sha256=e8ba68a00c671e5f6ea4222eecbb5e71f1a73bd78cc82f54ca20bec6dbaa286b"

HELLO = b"hello media\n"
HELLO_HEX = "7b23ba8a9008b1e2fc492f70df3019d992c70c2e8cbfaa97ad00e6b4c860fb79"
LIFE = timedelta(days=7)


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(clock=lambda: NOON)


def read(payload: object) -> list[NewMessage]:
    return media_in(parse(encode(payload)), route=lambda _: "w1", now=NOON)  # type: ignore[arg-type] # anything may come


def with_value(value: Json) -> Json:
    return {"object": "whatsapp_business_account", "entry": [{"id": "0", "changes": [{"value": value}]}]}


# Signatures: section 1.2


@pytest.mark.parametrize(
    ("body", "header", "valid"),
    [
        (EMPTY, EMPTY_SIGNATURE, True),
        (ESCAPED, ESCAPED_SIGNATURE, True),
        (SERIALISED_AGAIN, SERIALISED_AGAIN_SIGNATURE, True),
        (SERIALISED_AGAIN, ESCAPED_SIGNATURE, False),
        (ESCAPED, SERIALISED_AGAIN_SIGNATURE, False),
        (EMPTY + b"\n", EMPTY_SIGNATURE, False),
        (EMPTY, EMPTY_SIGNATURE.replace("650a", "650A"), True),
        (EMPTY, EMPTY_SIGNATURE.removeprefix("sha256="), False),
        (EMPTY, EMPTY_SIGNATURE[:-1], False),
        (EMPTY, EMPTY_SIGNATURE + "0", False),
        (EMPTY, EMPTY_SIGNATURE + "\n", False),
        (EMPTY, EMPTY_SIGNATURE.replace("sha256=", "sha1="), False),
        (EMPTY, "sha256=" + "é" * 64, False),
        (EMPTY, "", False),
        (EMPTY, None, False),
    ],
)
def test_a_signature_is_that_of_the_raw_bytes(body: bytes, header: str | None, valid: bool) -> None:  # noqa: FBT001 a row
    assert signature_is_valid(body, header, [SECRET]) is valid


def test_one_of_several_app_secrets_is_enough() -> None:
    assert signature_is_valid(EMPTY, EMPTY_SIGNATURE, ["other", SECRET])
    assert not signature_is_valid(EMPTY, EMPTY_SIGNATURE, ["other"])
    assert not signature_is_valid(EMPTY, EMPTY_SIGNATURE, [])


# Bodies


@pytest.mark.parametrize(
    "body",
    [b"", b"hello", b"[]", b'"text"', b"1", b"null", b'{"entry":', b"\xff", b"[" * 100_000, b'{"a":' * 100_000],
    ids=["empty", "text", "list", "string", "number", "null", "cut", "no UTF-8", "deep", "deep and cut"],
)
def test_what_is_no_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedWebhook):
        parse(body)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"entry": None},
        {"entry": {}},
        {"entry": [None, 1, "x", {}, {"changes": None}, {"changes": [None, {"value": None}, {"value": []}]}]},
        with_value({"messages": {"id": "x"}}),
        with_value({"metadata": [], "messages": [None, 1, [], {}, {"type": "image"}]}),
        with_value({"history": [None, {"threads": [None, {"messages": [None]}]}]}),
    ],
)
def test_an_envelope_without_messages_announces_nothing(payload: object) -> None:
    assert read(payload) == []


# Media: sections 1.4 and 1.5


@pytest.mark.parametrize(
    ("mime_type", "options", "kind"),
    [
        ("image/jpeg", {}, "image"),
        ("video/mp4", {}, "video"),
        ("audio/ogg; codecs=opus", {"voice": True}, "audio"),
        ("application/pdf", {"filename": "Rechnung für Ana.pdf"}, "document"),
        ("image/webp", {"animated": True}, "sticker"),
    ],
)
def test_every_kind_of_medium_is_recorded(
    simulator: Simulator, mime_type: str, options: dict[str, Any], kind: str
) -> None:
    medium = simulator.add(HELLO, mime_type, phone_number_id="200000000000002", **options)
    payload = simulator.webhooks.media_payload(medium, caption="a@b / ä")
    assert read(payload) == [
        NewMessage(
            message_id=payload["entry"][0]["changes"][0]["value"]["messages"][0]["id"],
            workspace_id="w1",
            provider_media_id=medium.id,
            kind=kind,
            filename=options.get("filename"),
            declared_type=mime_type,
            declared_sha256=HELLO_HEX,
            conversation_id="15550002222",
            phone_number_id="200000000000002",
            expires_at=NOON + LIFE,
        )
    ]


@pytest.mark.parametrize(
    ("faults", "declared_sha256", "declared_type"),
    [
        (Faults(webhook_sha256=HashForm.BASE64), HELLO_HEX, "image/jpeg"),
        (Faults(webhook_sha256=HashForm.HEX), HELLO_HEX, "image/jpeg"),
        (Faults(webhook_sha256=HashForm.MISSING), None, "image/jpeg"),
        (Faults(webhook_mime_type=TypeForm.MISSING), HELLO_HEX, None),
    ],
)
def test_hash_and_type_may_have_any_form_or_be_missing(
    simulator: Simulator, faults: Faults, declared_sha256: str | None, declared_type: str | None
) -> None:
    medium = simulator.add(HELLO, "image/jpeg", faults=faults)
    (new,) = read(simulator.webhooks.media_payload(medium))
    assert (new.declared_sha256, new.declared_type) == (declared_sha256, declared_type)


@pytest.mark.parametrize(
    ("changes", "conversation_id"),
    [
        ({}, "15550002222"),
        ({"group_id": "g1"}, "g1"),
        ({"from": None}, "US.10000000000000000001"),
        ({"from": 15550002222}, "US.10000000000000000001"),
        ({"from": None, "from_user_id": None}, None),
        ({"from": "1" * 300}, "1" * 255),
    ],
)
def test_a_conversation_is_named_for_who_is_known(
    simulator: Simulator, changes: Json, conversation_id: str | None
) -> None:
    message = simulator.webhooks.media(simulator.add(HELLO, "image/jpeg")) | changes
    (new,) = read(simulator.webhooks.payload(message))
    assert new.conversation_id == conversation_id


def test_a_phone_number_is_not_needed(simulator: Simulator) -> None:
    payload = simulator.webhooks.media_payload(simulator.add(HELLO, "image/jpeg"), contact=NO_PHONE_NUMBER)
    assert "15550002222" not in json.dumps(payload)
    (new,) = read(payload)
    assert new.conversation_id == "US.10000000000000000001"


@pytest.mark.parametrize(
    ("timestamp", "expires_at"),
    [
        (str(int(NOON.timestamp())), NOON + LIFE),
        (int(NOON.timestamp()), NOON + LIFE),
        (str(int((NOON - timedelta(days=6)).timestamp())), NOON + timedelta(days=1)),  # delivered at last
        (str(int((NOON + timedelta(days=365)).timestamp())), NOON + LIFE),
        ("99999999999999999999", NOON + LIFE),
        ("1e9", NOON + LIFE),
        ("soon", NOON + LIFE),
        ("9" * 5000, NOON + LIFE),
        ("", NOON + LIFE),
        (None, NOON + LIFE),
        ([], NOON + LIFE),
    ],
)
def test_a_medium_lives_for_seven_days_from_its_time_unless_that_makes_no_sense(
    simulator: Simulator, timestamp: object, expires_at: object
) -> None:
    message = simulator.webhooks.media(simulator.add(HELLO, "image/jpeg")) | {"timestamp": timestamp}
    (new,) = read(simulator.webhooks.payload(message))
    assert new.expires_at == expires_at


# Other messages: sections 1.6 to 1.8


def test_what_has_no_medium_is_not_recorded(simulator: Simulator) -> None:
    webhooks = simulator.webhooks
    revoke, reaction = webhooks.revoke("wamid.1"), webhooks.text() | {"type": "reaction", "reaction": {"emoji": "👍"}}
    messages = [webhooks.text(), webhooks.unsupported(), webhooks.unsupported("poll_creation", code=131060)]
    statuses = [webhooks.status("wamid.1", "sent"), webhooks.status("wamid.1", "failed")]
    assert read(webhooks.payload(*messages, revoke, reaction, statuses=statuses, errors=[error(130429)])) == []
    assert read(webhooks.payload(statuses=statuses)) == []
    assert read(webhooks.payload(errors=[error(131052)])) == []


def test_a_medium_that_the_provider_cannot_deliver_is_recorded_as_such(simulator: Simulator) -> None:
    message = simulator.webhooks.too_large()
    (new,) = read(simulator.webhooks.payload(message))
    assert (new.message_id, new.provider_media_id) == (message["id"], None)
    assert new.error == "provider-undeliverable"


@pytest.mark.parametrize("errors", [None, {}, [None], [{}], [{"code": []}], [{"code": "131052"}], [{"code": {}}]])
def test_errors_that_make_no_sense_do_no_harm(simulator: Simulator, errors: object) -> None:
    message = simulator.webhooks.too_large() | {"errors": errors}
    assert read(simulator.webhooks.payload(message)) == []


def test_a_history_brings_a_placeholder_and_then_the_medium(simulator: Simulator) -> None:
    medium = simulator.add(HELLO, "image/jpeg")
    placeholder, second = simulator.webhooks.history(medium)
    message = second["entry"][0]["changes"][0]["value"]["messages"][0]
    assert message["image"]["sha256"] == HELLO_HEX
    assert read(placeholder) == []
    (new,) = read(second)
    assert (new.message_id, new.provider_media_id, new.declared_sha256) == (message["id"], medium.id, HELLO_HEX)


def test_the_media_ids_of_a_history_are_new_however_old_its_messages_are(simulator: Simulator) -> None:
    _, second = simulator.webhooks.history(simulator.add(HELLO, "image/jpeg"))
    message = second["entry"][0]["changes"][0]["value"]["messages"][0]
    message["timestamp"] = str(int((NOON - timedelta(days=14)).timestamp()))
    (new,) = read(second)
    assert new.expires_at == NOON + LIFE


def test_media_that_the_business_sent_from_its_app_are_recorded(simulator: Simulator) -> None:
    medium = simulator.add(HELLO, "image/jpeg")
    (new,) = read(simulator.webhooks.echo(medium))
    assert (new.provider_media_id, new.declared_sha256) == (medium.id, HELLO_HEX)


def test_an_edit_is_recorded_under_its_own_id(simulator: Simulator) -> None:
    medium = simulator.add(HELLO, "image/jpeg")
    edit = simulator.webhooks.edit("wamid.original", medium, caption="better words")
    (new,) = read(simulator.webhooks.payload(edit))
    assert (new.message_id, new.provider_media_id) == (edit["id"], medium.id)
    assert new.message_id != "wamid.original"


# Odd messages among good ones

ODD: dict[str, Json] = {
    "no id": {"id": None},
    "an id that is a number": {"id": 4711},
    "an id with NUL": {"id": "wamid.\x00"},
    "an id that is too long": {"id": "x" * 256},
    "half a character for an id": {"id": "\ud83d"},
    "no medium": {"image": None},
    "a list for a medium": {"image": [1]},
    "no media id": {"image": {"mime_type": "image/jpeg"}},
    "a media id that is a list": {"image": {"id": ["1"]}},
    "a media id with NUL": {"image": {"id": "1\x00"}},
    "a media id with half a character": {"image": {"id": "1\ud83d"}},
    "an empty media id": {"image": {"id": ""}},
    "a media id that is too long": {"image": {"id": "1" * 256}},
    "a type that is a list": {"type": ["image"]},
    "an error's code that is a list": {"type": "unsupported", "errors": [{"code": [131052]}]},
}


@pytest.mark.parametrize("changes", ODD.values(), ids=ODD.keys())
def test_an_odd_message_costs_nothing_but_itself(simulator: Simulator, changes: Json) -> None:
    good = [simulator.webhooks.media(simulator.add(HELLO, "image/jpeg")) for _ in range(2)]
    odd = simulator.webhooks.media(simulator.add(HELLO, "image/jpeg")) | changes
    found = read(simulator.webhooks.payload(good[0], odd, good[1]))
    assert [new.message_id for new in found] == [message["id"] for message in good]


@pytest.mark.parametrize("odd", [5, [], {}, "a\x00b", "cut \ud83d"], ids=["number", "list", "mapping", "NUL", "half"])
@pytest.mark.parametrize("name", ["mime_type", "sha256", "filename", "caption"])
def test_an_odd_field_costs_nothing_but_itself(simulator: Simulator, name: str, odd: object) -> None:
    message = simulator.webhooks.media(simulator.add(HELLO, "application/pdf", filename="receipt.pdf"))
    message["document"][name] = odd
    (new,) = read(simulator.webhooks.payload(message))
    declared = {"mime_type": new.declared_type, "sha256": new.declared_sha256, "filename": new.filename}
    assert declared.pop(name, None) is None
    assert None not in declared.values()
