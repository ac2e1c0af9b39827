"""What a child does to itself before it reads its first job, so that a decoder's bug stays the decoder's.

Linux has all of it; elsewhere, and in a container that forbids some of it, a child does what it can and says what not.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ingest.processing import landlock, seccomp
from ingest.processing.kernel import drop_capabilities, prctl
from ingest.processing.limits import Limits

_NICENESS = 10
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/nix/store"),
    *("/usr/share/fonts", "/usr/local/share/fonts", "/usr/share/zoneinfo", "/etc/localtime"),
    *("/proc/cpuinfo", "/sys/devices/system/cpu", "/dev/urandom"),
)
"""What libraries read of a system, where it exists; nothing of it is secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """Which measures hold a child, and which this platform lacks, by name."""

    active: tuple[str, ...]
    missing: tuple[str, ...]


def confine(limits: Limits, *, parent: int, readable: Path, writable: Path) -> Confinement:
    """Leave this process, for good, what decoding needs.

    That is the libraries, one folder to read, one to write, memory, files and descriptors up to their limits, and no
    other process, no network, no privilege. CPU time is limited for each step (`grant_cpu`).

    Args:
        limits: Of memory, of the size of written files, and of open ones.
        parent: The process id of who started us; if it is dead already, so are we.
        readable: Where the originals are.
        writable: Where the renditions go.

    Raises:
        SystemExit: The parent is gone.
    """
    return _take(
        {
            "parent-death": lambda: _die_with(parent),
            "first-to-go": lambda: _write("/proc/self/oom_score_adj", "1000"),
            "nice": lambda: os.nice(_NICENESS),
            "memory": lambda: _limit(resource.RLIMIT_AS, limits.memory),
            "output": lambda: _limit(resource.RLIMIT_FSIZE, limits.output),
            "files": lambda: _limit(resource.RLIMIT_NOFILE, limits.files),
            "core": lambda: _limit(resource.RLIMIT_CORE, 0),
            "capabilities": drop_capabilities,
            "no-new-privileges": lambda: prctl(_PR_SET_NO_NEW_PRIVS, 1),
            "landlock": lambda: landlock.restrict(
                readable=[*_libraries(), readable], writable=[writable, Path(os.devnull)]
            ),
            "seccomp": seccomp.install,
            "undumpable": lambda: prctl(_PR_SET_DUMPABLE, 0),  # last: it takes our own /proc away
        }
    )


def grant_cpu(seconds: float) -> None:
    """Let this process use ``seconds`` more of CPU time; what uses more is ended by the kernel, wherever it loops.

    SIGXCPU's default action is to terminate: code that never returns to the interpreter cannot miss it.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _take(measures: dict[str, Callable[[], object]]) -> Confinement:
    active, missing = [], []
    for name, measure in measures.items():
        try:
            measure()
        except (OSError, ValueError):  # the latter from setrlimit
            missing.append(name)
        else:
            active.append(name)
    return Confinement(active=tuple(active), missing=tuple(missing))


def _die_with(parent: int) -> None:
    # The kernel takes the thread that started us for the parent: there it is the event loop's.
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked to be told
        raise SystemExit("the parent is gone")


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def _write(path: str, text: str) -> None:
    Path(path).write_text(text, encoding="ascii")


def _libraries() -> list[Path]:
    package = Path(__file__).parents[1]
    named = [Path(path) for path in (sys.prefix, sys.base_prefix, *sys.path, *_SYSTEM) if path]
    return [path for path in (package, *named) if path.exists()]
