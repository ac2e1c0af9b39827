"""Keeps objects as files below one directory: copied to a temporary file, synced, and only then given their name."""

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final
from uuid import uuid4

from storage.errors import ObjectNotFound, StoreForbidden, StoreUnavailable
from storage.faults import ABSENT, translated
from storage.filereading import FileRead
from storage.store import ByteRange, ObjectMeta, ObjectReader
from storage.threads import settled

KEY_LIMIT: Final = 1024  # bytes; what S3 allows
LIST_BATCH: Final = 1000  # directory entries that one trip to a thread looks at
PUBLISH_ATTEMPTS: Final = 10  # racing deletes may take the emptied parent away this often

_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class LocalStore:
    """Objects as files below ``root``, which belongs to this store alone.

    Keys come from outside and may not leave ``root``: absolute ones, ones with an empty, ``.`` or ``..`` component, and
    ones that lead through a symlink to the outside raise `StoreForbidden`. So do keys that begin with a dot: such names
    directly below ``root``, ``.tmp`` first of all, are not objects. A key cannot be stored where another object
    is its directory or the other way round, nor one with a component above the file system's limit (255 bytes mostly).
    """

    backend = "local"

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._temp = self._root / ".tmp"

    def url(self, key: str) -> str:
        """Return ``file://`` and the percent-encoded absolute path (RFC 8089)."""
        return self._path(key).as_uri()

    async def put(self, key: str, file: Path, *, content_type: str) -> bool:  # noqa: ARG002 - a file has no type
        """Copy ``file`` and give the copy its name at once, never another's; it is on disk when this returns."""
        path, stop = self._path(key), threading.Event()
        with translated():
            return await settled(asyncio.to_thread(self._put, path, file, stop), on_cancel=stop.set)

    def open(self, key: str, byte_range: ByteRange | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        """Open the file on entering, so that a later delete does not break a reader that has begun."""
        return FileRead(self._path(key), self._root, byte_range)

    async def head(self, key: str) -> ObjectMeta:
        """Return the size and the time of the file."""
        path = self._path(key)
        with translated(ABSENT):
            return await asyncio.to_thread(self._head, key, path)

    async def delete(self, key: str) -> None:
        """Remove the file, and then the directories that this leaves empty."""
        path = self._path(key)
        with suppress(ObjectNotFound), translated(ABSENT):
            await asyncio.to_thread(self._delete, path)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectMeta, None]:
        """Walk the directories; at most ``LIST_BATCH`` entries are held at a time."""
        with closing(_walk(self._root, "", prefix)) as entries:
            while True:
                with translated():
                    batch = await settled(asyncio.to_thread(tuple, islice(entries, LIST_BATCH)))
                if not batch:
                    return
                for meta in filter(None, batch):
                    yield meta

    async def check(self) -> None:
        """Prove that the root may be read and written."""
        with translated():
            await asyncio.to_thread(self._check)

    async def sweep(self, older_than: timedelta) -> int:
        """Delete the temporary files that killed processes left behind; return how many there were."""
        with translated():
            return await asyncio.to_thread(self._sweep, datetime.now(UTC) - older_than)

    def _path(self, key: str) -> Path:
        if not _is_storable(key):
            raise StoreForbidden("The key is not one that this object store can hold.")
        return self._root / key

    def _contained(self, path: Path) -> Path:
        if not path.resolve().is_relative_to(self._root):
            raise StoreForbidden("The key leads out of the object store.")
        return path

    def _put(self, path: Path, file: Path, stop: threading.Event) -> bool:
        self._contained(path)
        self._temp.mkdir(parents=True, exist_ok=True)
        temp = self._temp / uuid4().hex
        try:
            shutil.copyfile(file, temp)
            _sync(temp)
            return not stop.is_set() and self._publish(temp, path)
        finally:
            temp.unlink(missing_ok=True)

    def _publish(self, temp: Path, path: Path) -> bool:
        for _ in range(PUBLISH_ATTEMPTS):
            # A racing delete took the parent between these calls, or within mkdir, between its finding it and is_dir.
            with suppress(FileNotFoundError, FileExistsError):
                path.parent.mkdir(parents=True, exist_ok=True)
                if _link(temp, path):
                    self._sync_parents(path)
                    return True
            if path.is_file():
                return False
        raise StoreUnavailable("A directory has the object's name, or its own directory keeps disappearing.")

    def _sync_parents(self, path: Path) -> None:
        # A new directory is itself an entry of its parent: all of them, or a power cut loses the object.
        for directory in path.parents:
            with suppress(FileNotFoundError):  # a racing delete took the object and its directory again
                _sync(directory)
            if directory == self._root:
                return

    def _head(self, key: str, path: Path) -> ObjectMeta:
        if self._contained(path).is_dir():
            raise ObjectNotFound
        return _meta(key, path.stat())

    def _delete(self, path: Path) -> None:
        if self._contained(path).is_dir():  # no object; unlink would say EISDIR or EPERM, depending on the platform
            return
        path.unlink()
        for directory in path.parents:
            if directory == self._root or not _removed(directory):
                return

    def _check(self) -> None:
        self._temp.mkdir(parents=True, exist_ok=True)
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise StoreUnavailable("The directory of the object store may not be read and written.")

    def _sweep(self, before: datetime) -> int:
        abandoned = [meta for meta in _walk(self._temp, "", "") if meta and meta.last_modified < before]
        for meta in abandoned:
            (self._temp / meta.key).unlink(missing_ok=True)
        return len(abandoned)


def _is_storable(key: str) -> bool:
    try:
        size = len(key.encode())
    except UnicodeEncodeError:  # a lone surrogate, as JSON may carry
        return False
    plain = not key.startswith(".") and "\0" not in key
    return plain and size <= KEY_LIMIT and {"", ".", ".."}.isdisjoint(key.split("/"))


def _walk(directory: Path, parent: str, prefix: str) -> Generator[ObjectMeta | None, None, None]:
    """Yield each object below, and None for any other entry, so that a batch is bounded by what it looks at."""
    with ExitStack() as stack:
        try:
            entries = stack.enter_context(os.scandir(directory))
        except FileNotFoundError:  # never created, or removed by a racing delete
            return
        for entry in entries:
            key = parent + entry.name
            if key.startswith("."):
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield _entry_meta(key, entry) if key.startswith(prefix) else None
            elif f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                yield from _walk(directory / entry.name, f"{key}/", prefix)


def _entry_meta(key: str, entry: os.DirEntry[str]) -> ObjectMeta | None:
    try:
        return _meta(key, entry.stat(follow_symlinks=False)) if entry.is_file(follow_symlinks=False) else None
    except FileNotFoundError:  # deleted since the directory was read
        return None


def _meta(key: str, status: os.stat_result) -> ObjectMeta:
    return ObjectMeta(key=key, size=status.st_size, last_modified=datetime.fromtimestamp(status.st_mtime, UTC))


def _link(temp: Path, path: Path) -> bool:
    """Give the file its name; False where the name is taken."""
    try:
        path.hardlink_to(temp)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        return _rename(temp, path)
    return True


def _rename(temp: Path, path: Path) -> bool:
    """Do what `_link` does without hard links: of two at the same time the later one writes the same bytes again."""
    if path.exists():
        return False
    temp.rename(path)
    return True


def _removed(directory: Path) -> bool:
    """Remove a directory if it is empty."""
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
            raise
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
