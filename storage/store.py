"""The contract of every object store and of every wrapper around one."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

CHUNK_SIZE = 64 * 1024  # bytes; what a slow reader holds in memory is a few of these
MAX_PRESIGNED_LIFE: Final = 6 * 24 * 3600  # seconds; with a tenth more still below the 7 days of Signature Version 4


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``start`` (inclusive) to ``stop`` (exclusive); never empty."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        """Refuse what is not a range of at least one byte."""
        if not 0 <= self.start < self.stop:
            msg = f"not a byte range: {self.start}..{self.stop}"
            raise ValueError(msg)

    @property
    def length(self) -> int:
        """The number of bytes in the range."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMeta:
    """What a store knows of an object without reading it."""

    key: str
    size: int
    """In bytes."""
    last_modified: datetime
    """UTC, with a time zone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReader:
    """An open object: its size and the bytes that were asked for."""

    size: int
    """Of the whole object in bytes, whatever range was asked for."""
    chunks: AsyncIterator[bytes]
    """Non-empty chunks of at most a few ``CHUNK_SIZE``; raises `StoreUnavailable` where the bytes break off."""


class ObjectStore(Protocol):
    """A place that holds immutable objects by key.

    Keys are relative, ``/``-separated and at most 1,024 bytes long. Every method raises a `StorageError`, never a
    driver's own exception, and may be called again after a failure or a cancellation.
    """

    @property
    def backend(self) -> str:
        """The name in records and metrics: ``local``, ``s3``, ``r2`` or ``memory``."""
        ...

    def url(self, key: str) -> str:
        """Return the URL under which records remember the object: ``{backend}://{bucket}/{key}``."""
        ...

    async def put(self, key: str, file: Path, *, content_type: str) -> bool:
        """Store the whole of ``file``, or nothing: no reader ever sees a part of it.

        Keys are write-once: where the key exists already, the object is left as it is and False is returned (on stores
        that cannot do this atomically, the same bytes may be written again). The file is neither moved nor changed.

        Raises:
            StoreFull: There is no space left.
            StoreUnavailable: Asking again may help.
        """
        ...

    def open(self, key: str, byte_range: ByteRange | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        """Open an object, or one range of it, for reading; leaving the context releases the connection or file.

        The range must start within the object; a stop past the end is cut to it.

        Raises:
            ObjectNotFound: On entering, where the object is certainly absent.
            StoreForbidden: On entering; on S3 this may also mean absent.
            StoreUnavailable: On entering, or from the chunks.
        """
        ...

    async def head(self, key: str) -> ObjectMeta:
        """Return what is known of an object; raises like `open`."""
        ...

    async def delete(self, key: str) -> None:
        """Delete an object; deleting a missing one succeeds."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[ObjectMeta]:
        """Iterate over all objects whose key begins with ``prefix``, page by page, in no particular order."""
        ...

    async def check(self) -> None:
        """Prove that the store answers and may be read; raises a `StorageError` where not."""
        ...


@runtime_checkable
class Copying(Protocol):
    """What a store may be besides an `ObjectStore`: one that answers from copies, whose damage is theirs."""

    async def forget(self, key: str) -> None:
        """Drop the copy of an object: what it showed is not what was stored."""
        ...


@dataclass(frozen=True, slots=True)
class PresignedUrl:
    """A URL that opens one object of a store for whoever has it, without the gateway."""

    url: str = field(repr=False)
    """Absolute, in ASCII."""
    expires_at: int
    """Unix seconds."""


@runtime_checkable
class Presigner(Protocol):
    """What a store may be besides an `ObjectStore`: one whose objects a client can fetch from it directly."""

    async def presign(
        self, key: str, *, life: int, content_type: str, content_disposition: str, cache_control: str
    ) -> PresignedUrl | None:
        """Return a URL to ``GET`` an object with, without asking the store whether it exists.

        Calls with the same arguments return the same URL for a tenth of its life, so that browsers can cache by it.

        Args:
            key: Of the object.
            life: For how many seconds at least the URL opens the object, from 1 to ``MAX_PRESIGNED_LIFE``; it does so
                for at most a tenth more.
            content_type: What the store answers as ``Content-Type``, whatever the object was stored with.
            content_disposition: The same of ``Content-Disposition``.
            cache_control: The same of ``Cache-Control``.

        Returns:
            None where there can be no such URL: the store has none, its credentials end earlier, one of the fields is
            not printable ASCII, or the URL would be too long for servers and proxies.

        Raises:
            StorageError: There are no credentials, or the key is none that the store can hold.
            ValueError: The life is out of bounds.
        """
        ...
