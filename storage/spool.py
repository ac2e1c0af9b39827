"""The files that a flight fills, shared by all processes of a node: bytes, state and lock.

A spool is ``<name>.part`` (the bytes, growing) and ``<name>.json`` (what is known of them). Who writes it holds the
lock of its name: one byte of one file, by ``fcntl``. The kernel drops the lock of a process that dies, so nothing has
to be cleaned up before the next try.
"""

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from time import time
from typing import Literal, Self

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
    def parse(cls, text: str) -> Self | None:
        """Read a state file; None where it is not one (of this version)."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


class Spools:
    """The spool folder of a node. Blocking: call its methods in a thread, all but `try_lock` and `unlock`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Kept open for as long as the process lives: POSIX drops all locks of a process with the first close.
        self._locks = os.open(folder / "locks", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._held: set[str] = set()

    def close(self) -> None:
        """Drop every lock."""
        os.close(self._locks)

    def try_lock(self, name: str) -> bool:
        """Take the lock of a spool unless this or another process has it; never waits."""
        if name in self._held:  # fcntl locks do not exclude within a process
            return False
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(name))
        except BlockingIOError:
            return False
        self._held.add(name)
        return True

    def unlock(self, name: str) -> None:
        """Give the lock of a spool back."""
        self._held.discard(name)
        fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, _offset(name))

    def data(self, name: str) -> Path:
        """Return the path of a spool's bytes."""
        return self._folder / f"{name}.part"

    def state(self, name: str) -> SpoolState | None:
        """Return what is known of a spool; a verified one has all its bytes."""
        try:
            state = SpoolState.parse(self._state(name).read_text())
            if state is not None and state.phase == "verified" and self.data(name).stat().st_size != state.size:
                return None
        except FileNotFoundError:
            return None
        return state

    def write_state(self, name: str, state: SpoolState) -> None:
        """Publish a state; a follower sees the old one or the new one, whole."""
        draft = self._folder / f"{name}.tmp"
        draft.write_text(json.dumps(asdict(state)))
        draft.replace(self._state(name))

    def fail(self, name: str, error: str, retry_after: float | None) -> None:
        """Publish a failure and drop the bytes."""
        self.data(name).unlink(missing_ok=True)
        self.write_state(name, SpoolState(phase="failed", error=error, retry_after=retry_after))

    def remove(self, name: str) -> None:
        """Delete a spool; those who have it open read on."""
        for path in (self._state(name), self.data(name), self._folder / f"{name}.tmp"):
            path.unlink(missing_ok=True)

    def sweep(self, *, older_than: timedelta, max_bytes: int) -> int:
        """Delete spools that nobody fetched for so long, and the oldest beyond ``max_bytes``; return how many."""
        removed, total = 0, 0
        for changed, size, name in sorted(self._ages(), reverse=True):
            total += size
            if (changed < time() - older_than.total_seconds() or total > max_bytes) and self.try_lock(name):
                try:
                    self.remove(name)
                finally:
                    self.unlock(name)
                removed += 1
        return removed

    def _ages(self) -> list[tuple[float, int, str]]:
        found: dict[str, tuple[float, int]] = {}
        for path in self._folder.iterdir():
            if path.suffix in {".part", ".json", ".tmp"}:
                with suppress(FileNotFoundError):  # another process sweeps too
                    stat = path.stat()
                    changed, size = found.get(path.stem, (0.0, 0))
                    found[path.stem] = max(changed, stat.st_mtime), size + stat.st_size
        return [(changed, size, name) for name, (changed, size) in found.items()]

    def _state(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _offset(name: str) -> int:
    """Return the byte of the lock file that stands for a spool: 62 bits of its name, which is a hash."""
    return int(name[:16], 16) >> 2


def settled(state: SpoolState, *, size: int, sha256: str) -> SpoolState:
    """Return the state of a spool whose bytes have turned out right."""
    return replace(state, phase="verified", size=size, sha256=sha256)
