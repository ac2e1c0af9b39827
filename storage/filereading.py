"""Reads files without holding up the event loop: what the kernel has in memory at once, and all else in a thread.

A trip to a thread costs as much as copying half a megabyte. So a file is opened, checked and begun within one, and
what follows is taken from the page cache where the kernel has it already (``RWF_NOWAIT``, see preadv2(2)).
"""

import asyncio
import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from storage.errors import ObjectNotFound, StoreForbidden, StoreUnavailable
from storage.faults import ABSENT, meaning
from storage.store import CHUNK_SIZE, ByteRange, ObjectReader
from storage.threads import settled

READ_SIZE: Final = 2 * CHUNK_SIZE  # bytes; twice as much is hardly faster, half as much a third slower

_NOT_AT_ONCE: Final = frozenset({errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_NOWAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)  # of Linux
# A pipe that somebody has put below the root must not hold up who opens it.
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


class FileRead:
    """One file, or a range of it: a context that opens it, and the iterator over its bytes."""

    __slots__ = ("_begun", "_descriptor", "_path", "_position", "_range", "_root", "_size", "_stop")

    def __init__(self, path: Path, root: Path, byte_range: ByteRange | None) -> None:
        """Take the file, the directory that it may not lead out of, and the bytes that are wanted of it."""
        self._path = str(path)
        self._root = f"{root}{os.sep}"
        self._range = byte_range
        self._descriptor = -1
        self._size = self._position = self._stop = 0
        self._begun = b""

    async def __aenter__(self) -> ObjectReader:
        try:
            await settled(asyncio.get_running_loop().run_in_executor(None, self._open))
        except OSError as error:
            raise meaning(error.errno, ABSENT) from error
        except BaseException:
            self._close()
            raise
        return ObjectReader(size=self._size, chunks=self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._begun:
            chunk, self._begun = self._begun, b""
        elif self._position < self._stop and self._descriptor >= 0:
            chunk = self._at_once() or await self._patiently()
        else:
            raise StopAsyncIteration
        self._position += len(chunk)
        if self._position >= self._stop:
            self._close()
        return chunk

    def _open(self) -> None:
        """Open the file and read its beginning; what fails on the way leaves nothing open."""
        self._descriptor = os.open(self._path, _FLAGS)
        try:
            self._check()
            self._begun = os.pread(self._descriptor, self._wanted, self._position)
        except BaseException:
            self._close()
            raise
        if len(self._begun) == self._stop - self._position:
            self._close()

    def _check(self) -> None:
        found = os.fstat(self._descriptor)
        if not _real_path(self._descriptor, self._path).startswith(self._root):
            raise StoreForbidden("The key leads out of the object store.")
        if not stat.S_ISREG(found.st_mode):
            raise ObjectNotFound
        self._size = self._stop = found.st_size
        if self._range is not None:
            if self._range.start >= self._size:
                raise StoreUnavailable("The stored object is shorter than expected.")
            self._position, self._stop = self._range.start, min(self._range.stop, self._size)

    @property
    def _wanted(self) -> int:
        return min(READ_SIZE, self._stop - self._position)

    def _at_once(self) -> bytes:
        """Return what the kernel has in memory of the next chunk, or nothing."""
        if _NOWAIT is None:
            return b""
        buffer = bytearray(self._wanted)
        try:
            taken = os.preadv(self._descriptor, [buffer], self._position, _NOWAIT)
        except OSError as error:
            if error.errno in _NOT_AT_ONCE:
                return b""
            raise meaning(error.errno) from error
        return bytes(memoryview(buffer)[:taken])

    async def _patiently(self) -> bytes:
        """Return the next chunk, however long the disk takes."""
        loop = asyncio.get_running_loop()
        try:
            chunk = await settled(loop.run_in_executor(None, os.pread, self._descriptor, self._wanted, self._position))
        except OSError as error:
            raise meaning(error.errno) from error
        if not chunk:
            raise StoreUnavailable("The stored object is shorter than expected.")
        return chunk

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _real_path(descriptor: int, path: str) -> str:
    """Return where an open file lies, without any symlink: the file itself, whatever its name leads to by now."""
    with suppress(OSError):
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    return os.path.realpath(path)  # where there is no /proc
