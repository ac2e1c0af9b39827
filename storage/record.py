"""The values that records are read as and written from."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Self
from urllib.parse import quote

from storage.origin import MediaRef

MAX_MESSAGE_ID = 255  # characters
_KEY_SAFE = "=@+,:"  # besides letters, digits and "_.-": legal in every store and harmless in a path
_UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_MAX_KEY_PART = 180  # bytes, below every file system's limit of 255 for a name


class Status(StrEnum):
    """Where a message's medium stands, as the contract's ``info`` shows it."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Processing(StrEnum):
    """How far the processing of an object has come."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    """Given up; what has been made until then is served."""
    QUARANTINED = "quarantined"
    """Malware: kept, never served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """Bytes in durable storage, held once per workspace and SHA-256."""

    id: str
    workspace_id: str
    sha256: str
    size: int
    content_type: str
    backend: str
    key: str
    url: str
    created_at: datetime
    processing_status: str = Processing.PENDING
    tier: str = "STANDARD"
    """The storage class, by S3's names."""
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A rendition of an object, in durable storage like it."""

    object_id: str
    name: str
    content_type: str
    size: int
    sha256: str
    backend: str
    key: str
    url: str
    recipe: int
    """The version of the recipe that made it."""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """What a webhook or the host application registers of a message's attachment."""

    message_id: str
    workspace_id: str
    provider_media_id: str | None
    kind: str | None = None
    filename: str | None = None
    declared_type: str | None = None
    declared_sha256: str | None = None
    declared_size: int | None = None
    conversation_id: str | None = None
    participants: tuple[str, ...] | None = None
    phone_number_id: str | None = None
    expires_at: datetime | None = None
    error: str | None = None
    """Why there is nothing to fetch: the provider said so in the webhook itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRecord:
    """What the gateway knows of one message's attachment."""

    message_id: str
    workspace_id: str
    conversation_id: str | None
    participants: tuple[str, ...] | None
    provider_media_id: str | None
    phone_number_id: str | None
    kind: str | None
    filename: str | None
    declared_type: str | None
    declared_sha256: str | None
    declared_size: int | None
    content_type: str | None
    """What this message's bytes are served as; known once they are stored."""
    media_stored_at: datetime | None
    status: Status
    error: str | None
    attempts: int
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    stored: StoredObject | None

    @property
    def ref(self) -> MediaRef | None:
        """What to ask the provider for, if it ever had the medium."""
        if self.provider_media_id is None:
            return None
        return MediaRef(
            workspace_id=self.workspace_id,
            provider_media_id=self.provider_media_id,
            phone_number_id=self.phone_number_id,
        )

    @property
    def spool(self) -> str:
        """The name under which all processes of a node share this medium's flight: 64 hex digits."""
        return sha256(json.dumps([self.message_id, self.provider_media_id]).encode()).hexdigest()

    @property
    def key(self) -> str:
        """The storage key of the original: ``media/{messageId}/{providerMediaId}``."""
        return f"media/{key_part(self.message_id)}/{key_part(self.provider_media_id or 'original')}"

    def showing(self, variant: Variant) -> "MediaRecord":
        """Return the record of the same message with a variant in place of the original; no provider has that."""
        if self.stored is None:
            raise ValueError("a message without an object has no variants")
        shown = replace(
            self.stored,
            sha256=variant.sha256,
            size=variant.size,
            content_type=variant.content_type,
            backend=variant.backend,
            key=variant.key,
            url=variant.url,
            tier="STANDARD",
        )
        return replace(self, stored=shown, content_type=variant.content_type, provider_media_id=None)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page, opaque to clients."""

    created_at: datetime
    message_id: str

    def encode(self) -> str:
        """Return the cursor as URL-safe text."""
        text = json.dumps([self.created_at.isoformat(), self.message_id])
        return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read a cursor back; raises ValueError for anything that `encode` did not write."""
        try:
            padded = text.encode("ascii") + b"=" * (-len(text) % 4)
            created_at, message_id = json.loads(urlsafe_b64decode(padded))
            cursor = cls(datetime.fromisoformat(created_at), message_id)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError("not a cursor of this list") from error
        # The decoders are lenient, and the database is not.
        named = isinstance(message_id, str) and valid_message_id(message_id)
        if not named or cursor.created_at.tzinfo != UTC or cursor.encode() != text:
            raise ValueError("not a cursor of this list")
        return cursor


def valid_message_id(text: str) -> bool:
    """Whether ``text`` can name a message: 1 to 255 characters, none of them a control character or half of one."""
    return 0 < len(text) <= MAX_MESSAGE_ID and _UNSPEAKABLE.search(text) is None


def key_part(text: str) -> str:
    """Return ``text`` as one component of a storage key: reversible where short, unambiguous always.

    Slashes, dots alone and everything unusual are percent-encoded; what is too long for a file name keeps its
    beginning and ends in ``~`` and its SHA-256, which no short one can.
    """
    encoded = quote(text, safe=_KEY_SAFE).replace("~", "%7E")
    if not encoded.strip("."):
        encoded = encoded.replace(".", "%2E")
    if len(encoded) <= _MAX_KEY_PART:
        return encoded
    digest = sha256(text.encode()).hexdigest()
    return f"{encoded[: _MAX_KEY_PART - len(digest) - 1].rpartition('%')[0] or encoded[:80]}~{digest}"
