"""The folders in which children work: each has its own, sees nothing else, and takes nothing along.

``<root>/pool-…/child-…/in/<n>`` is the original of its n-th job, ``out/<n>`` what the child writes. Parent and child
are one user to the system, so what a child claims to have made is looked at like anything that a stranger sends.
"""

import fcntl
import hashlib
import os
import re
import shutil
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp

from storage.store import CHUNK_SIZE

_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_MAX_DEPTH = 2  # hls/360p.mp4


class NotMade(Exception):
    """A child claims to have made what is not a file of its own that could be a rendition."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """The folder of one child. Blocking: call its methods in a thread."""

    folder: Path

    @property
    def inbox(self) -> Path:
        """Where the child may read."""
        return self.folder / "in"

    @property
    def outbox(self) -> Path:
        """Where the child may write."""
        return self.folder / "out"

    def begin(self, number: int, original: Path) -> tuple[Path, Path]:
        """Bring an original in; return where it is, and the empty folder for what is made of it.

        Raises:
            OSError: There is no original, or no room for a copy of it.
        """
        here, made = self.inbox / str(number), self.outbox / str(number)
        made.mkdir()
        try:
            here.hardlink_to(original)
        except OSError:  # another file system, or one without links
            shutil.copyfile(original, here)
        return here, made

    def end(self, number: int) -> None:
        """Clear away what a job has left."""
        (self.inbox / str(number)).unlink(missing_ok=True)
        shutil.rmtree(self.outbox / str(number), ignore_errors=True)

    def adopt(self, number: int, claimed: str, target: Path, *, limit: int) -> "Adopted":
        """Copy a file that the child claims to have made in its n-th job to a folder where it cannot change it.

        Args:
            number: Of the job.
            claimed: The file's path, as the child says.
            target: The folder of the copy, which lies in it as the original lies in the job's folder.
            limit: Bytes; a longer one is refused.

        Raises:
            NotMade: There is no such file in the job's folder, or it is none that could be taken.
            OSError: There is no room for the copy.
        """
        made = self.outbox / str(number)
        relative = _relative(claimed, made)
        descriptor = _open_below(made, relative)
        try:
            facts = os.fstat(descriptor)
            # Another name would be another file's: a child may not publish what it has merely found.
            if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1 or facts.st_size > limit:
                raise NotMade(claimed)
            return _copy(descriptor, facts.st_size, target / relative)
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """Delete it with all that is in it, when the child is dead."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Adopted:
    """A copy of what a child has made: its own size and hash, whatever becomes of the other."""

    path: Path
    size: int
    sha256: str


class Scratch:
    """The folder of one pool, which holds its lock; those of dead pools are deleted. Blocking: call it in a thread.

    The kernel drops the lock of a process that dies, however it does.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock: int | None = None
        self._folder: Path | None = None
        self._guard = threading.Lock()

    def workplace(self) -> Workplace:
        """Return a new workplace for one child; raises OSError where there can be none."""
        with self._guard:
            if self._folder is None:
                self._sweep()
                self._folder = self._claim()
        workplace = Workplace(Path(mkdtemp(prefix="child-", dir=self._folder)))
        workplace.inbox.mkdir()
        workplace.outbox.mkdir()
        return workplace

    def close(self) -> None:
        """Delete everything, and give the lock back."""
        if self._folder is not None and self._lock is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)
            self._folder = self._lock = None

    def _claim(self) -> Path:
        unlocked = Path(mkdtemp(prefix="new-", dir=self._root))  # under a name that nobody sweeps yet
        self._lock = _try_lock(unlocked)
        return unlocked.rename(self._root / unlocked.name.replace("new-", "pool-", 1))

    def _sweep(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        for folder in self._root.glob("pool-*"):
            with suppress(OSError):  # in use, or swept by another one
                lock = _try_lock(folder)
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _try_lock(folder: Path) -> int:
    """Lock a folder; return the descriptor that holds the lock, or raise OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _copy(descriptor: int, size: int, path: Path) -> Adopted:
    """Copy so many bytes of a file; what its owner does to it meanwhile shows in the copy or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, copied = hashlib.sha256(), 0
    with path.open("wb") as copy:
        while chunk := os.read(descriptor, min(CHUNK_SIZE, size - copied)):
            copy.write(chunk)
            digest.update(chunk)
            copied += len(chunk)
    return Adopted(path, copied, digest.hexdigest())


def _relative(claimed: str, folder: Path) -> PurePosixPath:
    try:
        relative = PurePosixPath(claimed).relative_to(folder)
    except ValueError:
        raise NotMade(claimed) from None
    if not 0 < len(relative.parts) <= _MAX_DEPTH or not all(map(_FILE_NAME.fullmatch, relative.parts)):
        raise NotMade(claimed)
    return relative


def _open_below(folder: Path, relative: PurePosixPath) -> int:
    """Open a file for reading without following a symbolic link anywhere below the folder, or waiting for a pipe."""
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in relative.parts[:-1]:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
            os.close(parent)
            parent = below
        return os.open(relative.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
    except OSError as error:
        raise NotMade(str(relative)) from error
    finally:
        os.close(parent)
