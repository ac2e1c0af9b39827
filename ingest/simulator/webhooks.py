"""Builds what the provider posts to a callback URL, in the shapes of Meta's webhook reference (2025-10 to 2026-07)."""

import base64
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ingest.simulator.faults import HashForm, UrlForm
from ingest.simulator.forms import format_hash, format_type
from ingest.simulator.media import Kind, Medium
from ingest.simulator.provider import BusinessNumber, Provider

Json = dict[str, Any]
MAX_UPDATES = 1000
"""Updates in one POST, at most."""

_ERROR_TEXTS = {
    131051: ("Message type unknown", "Message type is currently not supported."),
    131052: ("Media download error", "Failed to download the media from the sender."),
    131060: ("This message is unavailable", "This message is unavailable."),
    131035: ("Message not delivered in time", "The message was not delivered within the retention period."),
    130429: ("Rate limit hit", "Message failed to send because there were too many messages sent in a short time."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """A WhatsApp user; with a username, the phone number may be missing."""

    name: str = "Ana"
    wa_id: str | None = "15550002222"
    user_id: str | None = "US.10000000000000000001"


ANA = Contact()
NO_PHONE_NUMBER = Contact(wa_id=None)


class Webhooks:
    """Builds messages, statuses and the payloads that carry them.

    A medium's `webhook_*` faults shape its media object.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    # Messages

    def media_object(self, medium: Medium, *, caption: str | None = None, hex_hash: bool = False) -> Json:
        """Build the object under the key of a medium's kind; `hex_hash` as in `history`, `edit` and echoes."""
        faults = self._provider.plan.of(medium.id)
        use_hex = hex_hash and faults.webhook_sha256 is HashForm.BASE64
        url = self._provider.media_url(medium, expired=faults.webhook_url is UrlForm.EXPIRED)
        stated: Json = {
            "caption": caption,
            "filename": (medium.filename or "document") if medium.kind is Kind.DOCUMENT else None,
            "mime_type": format_type(medium, faults.webhook_mime_type),
            "sha256": format_hash(medium, HashForm.HEX if use_hex else faults.webhook_sha256),
            "id": medium.id,
            "url": None if faults.webhook_url is UrlForm.ABSENT else url,
            "voice": medium.voice if medium.kind is Kind.AUDIO else None,
            "animated": medium.animated if medium.kind is Kind.STICKER else None,
        }
        return {key: value for key, value in stated.items() if value is not None}

    def media(
        self, medium: Medium, *, caption: str | None = None, contact: Contact = ANA, wamid: str | None = None
    ) -> Json:
        """Build an inbound message that carries a medium."""
        return self._message(medium.kind, self.media_object(medium, caption=caption), contact, wamid)

    def text(self, body: str = "Hello", *, contact: Contact = ANA, wamid: str | None = None) -> Json:
        """Build an inbound text message."""
        return self._message("text", {"body": body}, contact, wamid)

    def unsupported(self, kind: str = "edit", *, code: int = 131051, contact: Contact = ANA) -> Json:
        """Build a message that the API cannot show, such as an `edit` (131051) or an unavailable one (131060)."""
        message = self._message("unsupported", {"type": kind}, contact, None)
        return {**message, "errors": [error(code)]}

    def too_large(self, *, contact: Contact = ANA) -> Json:
        """Build what arrives in place of a medium above 100 MB, or of one that Meta cannot fetch: error 131052."""
        return {**self._message("unsupported", None, contact, None), "errors": [error(131052)]}

    def edit(self, original_wamid: str, medium: Medium, *, caption: str, contact: Contact = ANA) -> Json:
        """Build the edit of an earlier message, with its media object again."""
        edited = {
            "context": {"id": "M0"},
            "type": str(medium.kind),
            str(medium.kind): self.media_object(medium, caption=caption, hex_hash=True),
        }
        content = {"original_message_id": original_wamid, "message": edited}
        return self._message("edit", content, contact, None)

    def revoke(self, original_wamid: str, *, contact: Contact = ANA) -> Json:
        """Build the deletion of an earlier message by its sender."""
        return self._message("revoke", {"original_message_id": original_wamid}, contact, None)

    def status(
        self,
        wamid: str,
        state: Literal["sent", "delivered", "read", "failed", "played"] = "delivered",
        *,
        contact: Contact = ANA,
        code: int = 130429,
    ) -> Json:
        """Build a status of an outbound message; `failed` brings an error of this code."""
        status: Json = {"id": wamid, "status": state, "timestamp": self._timestamp()}
        status |= {"recipient_id": contact.wa_id} if contact.wa_id else {"recipient_user_id": contact.user_id}
        if state == "failed":
            status["errors"] = [error(code)]
        return status

    # Payloads

    def payload(
        self,
        *messages: Json,
        statuses: Sequence[Json] = (),
        errors: Sequence[Json] = (),
        contact: Contact = ANA,
        number: BusinessNumber | None = None,
    ) -> Json:
        """Build a POST with one change that holds these messages, statuses and errors."""
        value: Json = {"contacts": [_contact(contact)], "messages": list(messages)} if messages else {}
        value |= {"statuses": list(statuses)} if statuses else {}
        value |= {"errors": list(errors)} if errors else {}
        return self._post("messages", value, number)

    def media_payload(self, medium: Medium, *, caption: str | None = None, contact: Contact = ANA) -> Json:
        """Build the commonest POST: one message that carries a medium, for the number that received it."""
        message = self.media(medium, caption=caption, contact=contact)
        number = BusinessNumber(
            phone_number_id=medium.phone_number_id,
            display_phone_number=self._provider.number.display_phone_number,
            waba_id=self._provider.number.waba_id,
        )
        return self.payload(message, contact=contact, number=number)

    def history(self, medium: Medium, *, contact: Contact = ANA) -> tuple[Json, Json]:
        """Build the pair of a chat history: a placeholder without an ID, then the same message with its medium."""
        message = self._message(medium.kind, self.media_object(medium, hex_hash=True), contact, None)
        placeholder = {
            **{key: value for key, value in message.items() if key != medium.kind},
            "type": "media_placeholder",
            "history_context": {"status": "READ"},
        }
        chunk = {
            "metadata": {"phase": 0, "chunk_order": 1, "progress": 55},
            "threads": [{"id": contact.wa_id, "messages": [placeholder]}],
        }
        return self._post("history", {"history": [chunk]}), self._post("history", {"messages": [message]})

    def echo(self, medium: Medium, *, caption: str | None = None, contact: Contact = ANA) -> Json:
        """Build the POST about a medium that the business itself sent from its app."""
        kind = str(medium.kind)
        echo = {
            "from": self._provider.number.display_phone_number,
            "to": contact.wa_id,
            "id": new_wamid(),
            "timestamp": self._timestamp(),
            "type": kind,
            kind: self.media_object(medium, caption=caption, hex_hash=True),
        }
        return self._post("smb_message_echoes", {"message_echoes": [echo]})

    def _message(self, kind: str, content: Json | None, contact: Contact, wamid: str | None) -> Json:
        message: Json = {} if contact.wa_id is None else {"from": contact.wa_id}
        message |= {} if contact.user_id is None else {"from_user_id": contact.user_id}
        message |= {"id": wamid or new_wamid(), "timestamp": self._timestamp(), "type": str(kind)}
        return message if content is None else {**message, str(kind): content}

    def _post(self, field: str, value: Json, number: BusinessNumber | None = None) -> Json:
        number = number or self._provider.number
        metadata = {
            "display_phone_number": number.display_phone_number,
            "phone_number_id": number.phone_number_id,
        }
        change = {"field": field, "value": {"messaging_product": "whatsapp", "metadata": metadata, **value}}
        return {"object": "whatsapp_business_account", "entry": [{"id": number.waba_id, "changes": [change]}]}

    def _timestamp(self) -> str:
        return str(int(self._provider.now().timestamp()))


def error(code: int) -> Json:
    """Build the error object of a webhook."""
    title, details = _ERROR_TEXTS[code]
    return {"code": code, "title": title, "message": title, "error_data": {"details": details}}


def new_wamid() -> str:
    """Make a message ID that was never used before."""
    return f"wamid.{base64.b64encode(b'SIMULATOR' + secrets.token_bytes(18)).decode()}"


def batch(payloads: Iterable[Json]) -> Json:
    """Join POSTs into one, up to a thousand updates: one entry per account, all its changes in order.

    Raises:
        ValueError: There are more updates than the provider puts into one POST, or none.
    """
    changes: dict[str, list[Json]] = {}
    for entry in (entry for payload in payloads for entry in payload["entry"]):
        changes.setdefault(entry["id"], []).extend(entry["changes"])
    if not 0 < sum(map(len, changes.values())) <= MAX_UPDATES:
        raise ValueError("a POST carries 1 to 1000 updates")
    entries = [{"id": waba_id, "changes": its} for waba_id, its in changes.items()]
    return {"object": "whatsapp_business_account", "entry": entries}


def encode(payload: Json, *, escaped: bool = True, size: int | None = None) -> bytes:
    r"""Serialise a payload like the provider: without spaces, escaping what is not ASCII, `@` and `/`.

    Args:
        payload: What to send.
        escaped: False: plain UTF-8, the form that a receiver would get by serialising again.
        size: Bytes to fill the body up to by a key that receivers ignore, as for one of 2.9 MB.
    """
    text = json.dumps(payload, ensure_ascii=escaped, separators=(",", ":"))
    if escaped:
        # Both stand inside strings only: JSON has no other use for them.
        text = text.replace("/", "\\/").replace("@", "\\u0040")
    body = text.encode()
    if size is None:
        return body
    frame = b',"padding":""}'
    return body[:-1] + frame[:-2] + b"x" * (size - len(body) + 1 - len(frame)) + frame[-2:]


def _contact(contact: Contact) -> Json:
    stated = {"profile": {"name": contact.name}, "wa_id": contact.wa_id, "user_id": contact.user_id}
    return {key: value for key, value in stated.items() if value is not None}
