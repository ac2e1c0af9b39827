"""The seam through which retrieval asks for bytes that are not stored yet."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRef:
    """What a provider needs to find a medium."""

    workspace_id: str
    provider_media_id: str
    phone_number_id: str | None = None
    """The business number that received it; None: the workspace's configured one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A download that has begun: what the provider declares of it, and its bytes."""

    size: int | None
    """In bytes, where the provider declares one; all its declarations agree."""
    content_type: str | None
    sha256: str | None
    """64 lower-case hex digits of the whole medium, where the provider declares it."""
    chunks: AsyncIterator[bytes]
    """Non-empty chunks as they arrive; raises an `OriginError` where they break off or take too long."""


class Origin(Protocol):
    """Where the bytes come from the first time."""

    def open(self, ref: MediaRef) -> AbstractAsyncContextManager[Download]:
        """Begin a download; leaving the context ends it and releases its connection.

        Raises:
            OriginError: On entering, or from the chunks; no other exception.
        """
        ...
