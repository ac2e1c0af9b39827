"""The files that a flight fills, shared by all processes of a node: bytes, state and lock.

A spool is ``<name>.part`` (the bytes, growing) and ``<name>.json`` (what is known of them). Who writes it holds the
lock of its name: one byte of one file, by ``fcntl``. The kernel drops the lock of a process that dies, so nothing has
to be cleaned up before the next try.
"""

import fcntl
import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from time import time
from typing import Literal, Self

from storage.errors import OriginFailed

Phase = Literal["flying", "verified", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolState:
    """What the pilot tells its followers."""

    phase: Phase
    size: int | None = None
    """In bytes; None while the provider has not declared it and the end is not reached."""
    sha256: str | None = None
    content_type: str = "application/octet-stream"
    error: str | None = None
    """The class name of the failure, in phase ``failed``."""
    retry_after: float | None = None

    @classmethod
    def parse(cls, text: bytes) -> Self | None:
        """Read a state file; None where it is not one (of this version)."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def settled(self, *, size: int, sha256: str) -> Self:
        """Return the state of the spool once its bytes have turned out right."""
        return replace(self, phase="verified", size=size, sha256=sha256)


class Spools:
    """The spool folder of a node; one object per process, because a process's ``fcntl`` locks are all one's own.

    Blocking: call its methods in a thread, all but `try_lock` and `unlock`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Kept open for as long as the process lives: POSIX drops all locks of a process with the first close.
        self._locks = os.open(folder / "locks", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._held: set[int] = set()
        self._guard = threading.Lock()

    def close(self) -> None:
        """Drop every lock."""
        os.close(self._locks)

    def try_lock(self, name: str) -> bool:
        """Take the lock of a spool unless this or another process has it; never waits for it."""
        offset = _offset(name)
        with self._guard:
            if offset in self._held:  # fcntl locks do not exclude within a process
                return False
            try:
                fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
            except BlockingIOError:
                return False
            self._held.add(offset)
            return True

    def unlock(self, name: str) -> None:
        """Give the lock of a spool back."""
        offset = _offset(name)
        with self._guard:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, offset)
            self._held.discard(offset)

    def data(self, name: str) -> Path:
        """Return the path of a spool's bytes."""
        return self._folder / f"{name}.part"

    def state(self, name: str) -> SpoolState | None:
        """Return what is known of a spool; a verified one has all its bytes."""
        try:
            state = SpoolState.parse(self._state(name).read_bytes())
            if state is not None and state.phase == "verified" and self.data(name).stat().st_size != state.size:
                return None
        except FileNotFoundError:
            return None
        return state

    def progress(self, name: str, descriptor: int) -> tuple[SpoolState | None, int]:
        """Return what is known of the very spool that ``descriptor`` is open on, and the size of its bytes.

        The state is None where the spool has been removed: its bytes are still there for who has them open.

        Raises:
            OriginFailed: Another spool has taken its name, so its own pilot is dead.
        """
        state = self.state(name)  # first: the next pilot writes one only after it has put its own bytes in place
        opened = os.fstat(descriptor)
        try:
            if os.path.samestat(opened, self.data(name).stat()):
                return state, opened.st_size
        except FileNotFoundError:  # a failure drops the bytes before it says so
            return (state if state is not None and state.phase == "failed" else None), opened.st_size
        raise OriginFailed("The process that downloaded the medium died.")

    def write_state(self, name: str, state: SpoolState) -> None:
        """Publish a state; a follower sees the old one or the new one, whole."""
        draft = self._draft(name)
        draft.write_text(json.dumps(asdict(state)))
        draft.replace(self._state(name))

    def fail(self, name: str, error: str, retry_after: float | None) -> None:
        """Publish a failure and drop the bytes."""
        self.data(name).unlink(missing_ok=True)
        self.write_state(name, SpoolState(phase="failed", error=error, retry_after=retry_after))

    def remove(self, name: str) -> None:
        """Delete a spool; those who have it open read on."""
        for path in self._files(name):
            path.unlink(missing_ok=True)

    def sweep(self, *, older_than: timedelta, max_bytes: int) -> int:
        """Delete spools that nobody fetched for so long, and the oldest beyond ``max_bytes``; return how many."""
        oldest, removed, total = time() - older_than.total_seconds(), 0, 0
        names = {path.stem for path in self._folder.iterdir() if path.suffix in {".part", ".json", ".tmp"}}
        for changed, size, name in sorted(((*self._usage(name), name) for name in names), reverse=True):
            total += size
            if changed < oldest or total > max_bytes:
                removed += self._remove_idle(name, changed)
        return removed

    def _remove_idle(self, name: str, changed: float) -> bool:
        if not self.try_lock(name):
            return False
        try:
            if self._usage(name)[0] > changed:  # it was flown again since we looked
                return False
            self.remove(name)
            return True
        finally:
            self.unlock(name)

    def _usage(self, name: str) -> tuple[float, int]:
        """Return when a spool was last written to, in seconds since the epoch, and how many bytes it takes."""
        changed, size = 0.0, 0
        for path in self._files(name):
            with suppress(FileNotFoundError):
                stat = path.stat()
                changed, size = max(changed, stat.st_mtime), size + stat.st_size
        return changed, size

    def _files(self, name: str) -> tuple[Path, Path, Path]:
        # The state goes before the bytes: the bytes of another flight must never stand beside it.
        return self._state(name), self.data(name), self._draft(name)

    def _state(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _draft(self, name: str) -> Path:
        return self._folder / f"{name}.tmp"


def _offset(name: str) -> int:
    """Return the byte of the lock file that stands for a spool: 62 bits of its name, which is a hash."""
    return int(name[:16], 16) >> 2
