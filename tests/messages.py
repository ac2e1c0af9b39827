"""Messages, records and objects for tests: whole ones, of which a test names only what it is about."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from storage.record import MediaRecord, NewMessage, Status, StoredObject

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by


def message(message_id: str = "m1", **changes: Any) -> NewMessage:
    """Return what a webhook registers of an image."""
    values: dict[str, Any] = {
        "message_id": message_id,
        "workspace_id": "w1",
        "provider_media_id": f"media-of-{message_id}",
        "kind": "image",
        "declared_type": "image/jpeg",
        "expires_at": NOON + timedelta(days=7),
    }
    return NewMessage(**values | changes)


def stored(content: str = "a", **changes: Any) -> StoredObject:
    """Return the object of a content, as it is about to be adopted."""
    key = changes.get("key", f"media/first/{content}")
    values: dict[str, Any] = {
        "id": uuid4().hex,
        "workspace_id": "w1",
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
        "size": 1000,
        "content_type": "image/jpeg",
        "backend": "local",
        "key": key,
        "url": f"file:///{key}",
        "created_at": NOON,
    }
    return StoredObject(**values | changes)


def record(message_id: str = "m1", **changes: Any) -> MediaRecord:
    """Return the record of a message that is not stored yet."""
    values: dict[str, Any] = dict.fromkeys(MediaRecord.__slots__)
    values |= {"message_id": message_id, "workspace_id": "w1", "status": Status.PENDING, "attempts": 0}
    values |= {"provider_media_id": "4711", "created_at": NOON, "updated_at": NOON}
    return MediaRecord(**values | changes)
