"""The bytes of a medium: given, in a file, or generated, so that 100 MB of media need no memory."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

BLOCK_BYTES = 65_536
"""The period of synthetic content, and the step in which content is hashed."""


class Content(Protocol):
    """Bytes of a known length that can be read from anywhere; reading blocks, so it belongs in a thread."""

    @property
    def size(self) -> int:
        """The length in bytes."""
        ...

    def read(self, start: int, length: int) -> bytes:
        """Return the bytes from `start` on: `length` of them, fewer only at the end."""
        ...


@dataclass(frozen=True, slots=True)
class BytesContent:
    """Content given as it is."""

    data: bytes

    @property
    def size(self) -> int:
        """The length in bytes."""
        return len(self.data)

    def read(self, start: int, length: int) -> bytes:
        """Return a slice of the data."""
        return self.data[start : start + length]


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file, or `size` bytes of it from `offset` on (as of a part in a multipart body)."""

    path: Path
    size: int
    offset: int = 0

    @classmethod
    def of(cls, path: Path) -> "FileContent":
        """Take the whole file as it is now."""
        return cls(path, path.stat().st_size)

    def read(self, start: int, length: int) -> bytes:
        """Read a slice of the file."""
        with self.path.open("rb") as file:
            file.seek(self.offset + start)
            return file.read(max(0, min(length, self.size - start)))


class SyntheticContent:
    """Deterministic noise in which every block differs, so that bytes from a wrong offset are noticed.

    Args:
        size: The length in bytes.
        seed: Another seed gives other bytes.
        head: What the bytes begin with, such as the signature of a file format.
    """

    def __init__(self, size: int, *, seed: int = 0, head: bytes = b"") -> None:
        self.size = size
        self._head = head
        self._noise = hashlib.shake_256(b"simulator %d" % seed).digest(BLOCK_BYTES - 8)

    def read(self, start: int, length: int) -> bytes:
        """Generate a slice."""
        stop = min(start + length, self.size)
        first = start // BLOCK_BYTES
        offset = first * BLOCK_BYTES
        noise = b"".join(self._block(index) for index in range(first, -(-stop // BLOCK_BYTES)))
        return self._head[start:stop] + noise[max(start, len(self._head)) - offset : max(0, stop - offset)]

    def _block(self, index: int) -> bytes:
        return index.to_bytes(8, "big") + self._noise


@dataclass(frozen=True, slots=True)
class CorruptContent:
    """The same length, but the bits of the first byte are turned over."""

    content: Content

    @property
    def size(self) -> int:
        """The length in bytes."""
        return self.content.size

    def read(self, start: int, length: int) -> bytes:
        """Read a slice, spoiling the first byte of all."""
        data = self.content.read(start, length)
        return bytes([data[0] ^ 0xFF]) + data[1:] if start == 0 and data else data


@dataclass(frozen=True, slots=True)
class ResizedContent:
    """The same bytes, cut off at `size` or filled up to it with zeros."""

    content: Content
    size: int

    def read(self, start: int, length: int) -> bytes:
        """Read a slice of what is there, then zeros."""
        length = max(0, min(length, self.size - start))
        return self.content.read(start, length).ljust(length, b"\0")


def read_blocks(content: Content) -> Iterator[bytes]:
    """Read the content from its beginning to its end."""
    for start in range(0, content.size, BLOCK_BYTES):
        yield content.read(start, BLOCK_BYTES)


def sha256(content: Content) -> bytes:
    """Hash the whole content, holding one block of it at a time; returns the 32 bytes."""
    digest = hashlib.sha256()
    for block in read_blocks(content):
        digest.update(block)
    return digest.digest()
