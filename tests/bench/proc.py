"""What processes take: processor time, memory, descriptors and threads, as the kernel counts them: see proc(5)."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")  # a second


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds of a processor, in user and system mode."""

    own: float
    """Of the process, by all threads that it has or had."""
    children: float
    """Of its descendants, those that have ended included."""

    @property
    def total(self) -> float:
        """Of both."""
        return self.own + self.children

    def __sub__(self, before: "Cpu") -> "Cpu":
        """Return what was taken since."""
        return Cpu(self.own - before.own, self.children - before.children)


def cpu(pid: int) -> Cpu:
    """Return what a process has taken so far."""
    own, reaped = _times(Path(f"/proc/{pid}/stat"))
    alive = [sum(_times(Path(f"/proc/{each}/stat"))) for each in _living(descendants(pid))]
    return Cpu(own, reaped + sum(alive))


def main_thread_cpu(pid: int) -> float:
    """Return what a process's first thread has taken so far, in seconds: in ours that is the event loop."""
    return _times(Path(f"/proc/{pid}/task/{pid}/stat"))[0]


def descendants(pid: int) -> list[int]:
    """Return the processes below a process."""
    with suppress(FileNotFoundError, ProcessLookupError):
        # A child is listed with the thread that has started it.
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
        return [each for child in children for each in (child, *descendants(child))]
    return []


def memory(pid: int) -> int:
    """Return the bytes that a process takes, of pages that it shares its share (PSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def resident(pid: int) -> int:
    """Return the resident bytes of a process (RSS)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def descriptors(pid: int) -> Counter[str]:
    """Return how many descriptors a process has of each kind: ``socket``, ``pipe``, ``anon_inode``, ``file``."""
    return Counter(_kind(link) for link in _links(pid))


def times_open(pid: int, file: Path) -> int:
    """Return how many descriptors of a file a process has."""
    return sum(link == str(file) for link in _links(pid))


def connections(pid: int, port: int) -> int:
    """Return how many TCP connections a process has to a port."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    there = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(f":{port:04X}")}
    return sum(link in there for link in _links(pid))


def command(pid: int) -> list[str]:
    """Return the command line of a process; nothing where it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return []


def threads(pid: int) -> int:
    """Return how many threads a process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def _times(path: Path) -> tuple[float, float]:
    """Return the seconds of a process or thread itself, and those of its children that have been waited for."""
    user, system, waited_user, waited_system = map(int, path.read_text().rpartition(")")[2].split()[11:15])
    return (user + system) / _TICK, (waited_user + waited_system) / _TICK


def _living(pids: list[int]) -> Iterator[int]:
    return (pid for pid in pids if Path(f"/proc/{pid}/stat").exists())


def _links(pid: int) -> Iterator[str]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed since
            yield str(entry.readlink())


def _kind(link: str) -> str:
    kind, separator, _ = link.partition(":")
    return kind if separator and not link.startswith("/") else "file"
