"""Takes the provider's webhooks in: signature over the raw bytes, media out of any envelope, record and job durable."""

import asyncio
import hmac
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from ingest.gathering import Gathering
from ingest.queue import INGEST, Queue
from ingest.whatsapp.answers import normalise_sha256
from storage.record import NewMessage, valid_message_id
from storage.records import Records

MAX_BODY = 4 * 1024 * 1024  # bytes; Meta sends up to 3 MB
MEDIA_LIFE = timedelta(days=7)  # of a media ID from a webhook, since 2025-10-09
KINDS = ("image", "video", "audio", "document", "sticker")
UNDELIVERABLE = (131052, 131035)  # the provider itself could not get, or no longer keeps, the medium
THREADED = 64 * 1024  # bytes; larger bodies are verified and parsed off the event loop
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")  # no database takes NUL, nor half a character
_SIGNATURE = re.compile(r"sha256=([0-9a-fA-F]{64})")

log = structlog.get_logger()


Route = Callable[[str | None], str | None]
"""Whose an event is, by the ID of the phone number that it came in on, where it names one; None: nobody's."""


class MalformedWebhook(ValueError):
    """The body is not the JSON of a webhook."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a webhook."""

    new: int
    """Media that were not known before."""
    dropped: int
    """Events that are nobody's who can have signed them."""


def _text(value: Any) -> Any:
    """Take what should be text as None where it is something else: one odd field must not cost the medium."""
    return value if isinstance(value, str) and not _UNSTORABLE.search(value) else None


LenientText = Annotated[str | None, BeforeValidator(_text)]
MediaId = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]


class MediaObject(BaseModel):
    """The object under a message's type, as in Meta's reference; unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    id: MediaId
    mime_type: LenientText = None
    sha256: LenientText = None
    filename: LenientText = None


def signature_is_valid(body: bytes, header: str | None, secrets: Sequence[str]) -> bool:
    """Whether ``X-Hub-Signature-256`` is the HMAC of the raw body under one of the app secrets."""
    match = _SIGNATURE.fullmatch(header or "")
    if match is None:
        return False
    given = bytes.fromhex(match[1])
    return any(hmac.compare_digest(hmac.digest(secret.encode(), body, sha256), given) for secret in secrets)


def parse(body: bytes) -> Mapping[str, Any]:
    """Parse a body; raises MalformedWebhook for what is not a JSON object, or is nested too deeply."""
    try:
        payload = _from_json(body)
    except (ValueError, RecursionError) as error:
        raise MalformedWebhook("The body is not valid JSON.") from error
    if not isinstance(payload, dict):
        raise MalformedWebhook("The body is not a JSON object.")
    return payload


def _from_json(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError:
        # Slower, but takes half a character, as in a caption that was cut: it must not cost the other messages.
        return json.loads(body)


def media_in(payload: Mapping[str, Any], *, route: Route, now: datetime) -> list[NewMessage]:
    """Return every medium that a payload announces, whatever envelope it is in; skip what is not understood."""
    found: list[NewMessage] = []
    for field, value in _changes(payload):
        number = _phone_number_id(value)
        workspace_id = route(number)
        if workspace_id is None:
            continue
        # The messages of a history are old, their media IDs are not.
        changed = {"timestamp": None} if field == "history" else {}
        for message in _messages(value):
            try:
                new = _new_message({**message, **changed}, workspace_id, number, now)
            except (ValidationError, ValueError) as error:
                log.warning("message in a webhook skipped", reason=type(error).__name__)
                continue
            if new is not None:
                found.append(new)
    return found


def dropped_from(payload: Mapping[str, Any], *, route: Route) -> int:
    """Count the changes in a payload that the route gives to nobody, whether they announce media or not."""
    return sum(route(_phone_number_id(value)) is None for _, value in _changes(payload))


def _phone_number_id(value: Mapping[str, Any]) -> str | None:
    number: str | None = _text(_mapping(value.get("metadata")).get("phone_number_id"))
    return number


def _changes(payload: Mapping[str, Any]) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    for entry in _mappings(payload.get("entry")):
        for change in _mappings(entry.get("changes")):
            yield change.get("field"), _mapping(change.get("value"))


def _messages(value: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield messages of the fields ``messages``, ``smb_message_echoes`` and both shapes of ``history``."""
    yield from _mappings(value.get("messages"))
    yield from _mappings(value.get("message_echoes"))
    for chunk in _mappings(value.get("history")):
        for thread in _mappings(chunk.get("threads")):
            yield from _mappings(thread.get("messages"))


def _new_message(message: Mapping[str, Any], workspace_id: str, number: str | None, now: datetime) -> NewMessage | None:
    message_id = message.get("id")
    if not isinstance(message_id, str) or not valid_message_id(message_id):
        raise ValueError("no message id")
    sender = _conversation(message)
    expires_at = _moment(message.get("timestamp"), now) + MEDIA_LIFE
    # An edit carries the medium again, below the message it replaces; it is kept under the edit's own id.
    content = _mapping(_mapping(message.get("edit")).get("message")) or message
    kind = content.get("type")
    if kind not in KINDS:
        return _undeliverable(message, message_id, workspace_id, sender)
    medium = MediaObject.model_validate(content.get(kind))
    return NewMessage(
        message_id=message_id,
        workspace_id=workspace_id,
        provider_media_id=medium.id,
        kind=kind,
        filename=medium.filename,
        declared_type=medium.mime_type[:255] if medium.mime_type else None,
        declared_sha256=_hash(medium.sha256),
        conversation_id=sender,
        phone_number_id=number[:64] if number else None,
        expires_at=expires_at,
    )


def _conversation(message: Mapping[str, Any]) -> str | None:
    """Return whom the message is from; with a username, the phone number may be missing."""
    names = (_text(message.get(key)) for key in ("group_id", "from", "from_user_id"))
    return next((name[:255] for name in names if name), None)


def _undeliverable(
    message: Mapping[str, Any], message_id: str, workspace_id: str, sender: str | None
) -> NewMessage | None:
    """Remember a medium that the provider says it cannot deliver, so that asking for it gets an honest answer."""
    codes = (error.get("code") for error in _mappings(message.get("errors")))
    if message.get("type") != "unsupported" or not any(code in UNDELIVERABLE for code in codes):
        return None
    return NewMessage(
        message_id=message_id,
        workspace_id=workspace_id,
        provider_media_id=None,
        conversation_id=sender,
        error="provider-undeliverable",
    )


def _hash(declared: str | None) -> str | None:
    """Return the declared hash as hex; one that is none is dropped, for the medium is worth more than its hash."""
    try:
        return normalise_sha256(declared)
    except ValueError:
        log.warning("webhook declares something that is no SHA-256")
        return None


def _moment(timestamp: Any, now: datetime) -> datetime:
    """Read Unix seconds as text or number; the future and nonsense are now."""
    try:
        return min(datetime.fromtimestamp(int(timestamp), UTC), now)
    except (TypeError, ValueError, OverflowError, OSError):
        return now


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))


class Intake:
    """Makes the media of a webhook durable, each with its job; downloads nothing."""

    def __init__(
        self,
        *,
        records: Records,
        queue: Queue,
        ingest: bool,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take the records and the queue; ``ingest`` False writes records without jobs."""
        self._records = records
        self._queue = queue
        self._ingest = ingest
        self._clock = clock
        self._gathering = Gathering(self._write)

    async def accept(self, body: bytes, *, route: Route) -> Taken:
        """Record the media that a body announces, each for the workspace it belongs to.

        Raises:
            MalformedWebhook: The body is not the JSON of a webhook.
            RecordsUnavailable: Nothing was written; the sender shall try again.
        """
        threaded = len(body) > THREADED
        new, dropped = await asyncio.to_thread(self._read, body, route) if threaded else self._read(body, route)
        return Taken(new=await self._gathering.add(new) if new else 0, dropped=dropped)

    async def _write(self, new: Sequence[NewMessage]) -> list[str]:
        hook = await self._queue.within(INGEST) if self._ingest else None
        inserted = await self._records.add(new, and_then=hook)
        if self._ingest:
            await self._queue.after(INGEST, inserted)
        return inserted

    def _read(self, body: bytes, route: Route) -> tuple[list[NewMessage], int]:
        payload = parse(body)
        return media_in(payload, route=route, now=self._clock()), dropped_from(payload, route=route)
