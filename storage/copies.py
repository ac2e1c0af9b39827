"""The files in which a node keeps copies of objects: filled under another name, complete or not there.

Blocking: call everything here in a thread.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Final
from uuid import uuid4

TOUCHED_EVERY: Final = 60.0  # seconds; how exact the order of use is
ABANDONED: Final = 3600.0  # seconds without a write: who filled that file was killed
HEADER: Final = 8  # bytes before the object's: its size
_PART: Final = ".part"


@dataclass(frozen=True, slots=True)
class Copy:
    """A complete copy that is open."""

    descriptor: int
    size: int
    """Of the object, in bytes."""

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes of the object; fewer where the file was cut since it was opened."""
        return os.pread(self.descriptor, stop - start, HEADER + start)


class Draft:
    """A copy that is being filled."""

    def __init__(self, path: Path, size: int) -> None:
        """Take where the copy is to lie, and the bytes of the object."""
        self.is_void = False
        """Set where the copy shall not be kept, whatever becomes of it."""
        self.is_kept = False
        self._path = path
        self._draft = path.with_name(f"{uuid4().hex}{_PART}")
        self._descriptor: int | None = None
        self._size = self._missing = size

    def write(self, chunk: bytes) -> None:
        """Add bytes; with the last of them the copy gets its name, in place of an older one.

        Raises:
            OSError: As when the disk is full.
        """
        if self._descriptor is None:
            self._descriptor = self._begin()
        _write(self._descriptor, chunk)
        self._missing -= len(chunk)
        if not self._missing:
            self._draft.replace(self._path)
            self.is_kept = True
            if self.is_void:
                self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file, and drop it unless it has been kept."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._draft.unlink(missing_ok=True)

    def _begin(self) -> int:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._draft, flags, 0o600)
        _write(descriptor, self._size.to_bytes(HEADER))
        return descriptor


def open_copy(path: Path) -> Copy | None:
    """Open a copy, and note that it is used; None where there is none, or not all of it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        size = int.from_bytes(os.pread(descriptor, HEADER, 0))
        if status.st_size == HEADER + size:
            if status.st_mtime < time() - TOUCHED_EVERY:
                os.utime(descriptor)
            return Copy(descriptor, size)
    except OSError:  # it can be read from where it came from
        os.close(descriptor)
        return None
    os.close(descriptor)
    path.unlink(missing_ok=True)
    return None


def trim(folder: Path, max_bytes: int) -> tuple[int, int]:
    """Delete what was not used for longest until the rest fits, and what killed processes have left behind.

    Returns:
        The bytes that are left, and how many copies had to go.
    """
    left = evicted = 0
    for changed, size, path in sorted(_files(folder), reverse=True):
        abandoned = path.suffix == _PART and changed < time() - ABANDONED
        if not abandoned and left + size <= max_bytes:
            left += size
        elif abandoned or path.suffix != _PART:  # a draft is somebody's work
            path.unlink(missing_ok=True)
            evicted += not abandoned
    return left, evicted


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process has dropped it
                status = entry.stat(follow_symlinks=False)
                yield status.st_mtime, status.st_size, Path(entry.path)


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
