"""What the provider knows of a medium."""

import base64
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from ingest.simulator.content import Content
from ingest.simulator.gate import Gate

INBOUND_LIFETIME = timedelta(days=7)
"""A media ID from a webhook (Meta's media guide; 30 days until 2025-10-09)."""
UPLOAD_LIFETIME = timedelta(days=30)
"""A media ID from an upload."""
NO_STORAGE_LIFETIME = timedelta(hours=1)
"""A medium received by a "No storage" number."""
URL_LIFETIME = timedelta(minutes=5)
"""A download URL."""
MAX_BYTES = 100 * 1024 * 1024
"""Larger media are announced by error 131052 only."""


class Kind(StrEnum):
    """The message type that carries a medium; also the key of its media object."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"
    STICKER = "sticker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """A medium in the provider's catalogue."""

    id: str
    """A numeric string."""
    content: Content = field(repr=False)
    sha256: bytes = field(repr=False)
    """The 32 raw bytes of the hash of the content."""
    mime_type: str
    """With its parameters, as a webhook gives it."""
    kind: Kind
    phone_number_id: str
    created_at: datetime
    lifetime: timedelta = INBOUND_LIFETIME
    filename: str | None = None
    voice: bool = False
    animated: bool = False
    gate: Gate = field(default_factory=Gate, compare=False, repr=False)
    """Where its answers wait when `Faults` makes them drip, stall or stay silent."""

    @property
    def size(self) -> int:
        """The length in bytes."""
        return self.content.size

    @property
    def sha256_hex(self) -> str:
        """64 lower-case hex digits, the form of a resolve answer."""
        return self.sha256.hex()

    @property
    def sha256_base64(self) -> str:
        """44 characters, the form of a `messages` webhook."""
        return base64.b64encode(self.sha256).decode()

    @property
    def expires_at(self) -> datetime:
        """When the ID stops resolving."""
        return self.created_at + self.lifetime


def kind_of(mime_type: str, filename: str | None = None) -> Kind:
    """Tell which type of message would carry such a medium: one with a file name is a document."""
    top, _, subtype = mime_type.partition(";")[0].strip().lower().partition("/")
    if filename is not None or top not in {Kind.IMAGE, Kind.VIDEO, Kind.AUDIO}:
        return Kind.DOCUMENT
    return Kind.STICKER if subtype == "webp" else Kind(top)
