"""Steps as a taken-over decoder would have them; children of the tests import it as ``hostile``.

Every medium has three steps: two good ones, and between them the one that its type names, ``test/<attack>``.
"""

import ctypes
import errno
import itertools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ingest.processing.steps import Ceilings, Made, Result, Source, Step, Unprocessable

NOTHING = Result()
MEBI = 1024 * 1024
ELSEWHERE = Path("/var/tmp")  # noqa: S108 what is tried must fail


def steps(source: Source, ceilings: Ceilings) -> list[Step]:
    """Return two good steps with an attack between them."""
    attack = source.content_type.removeprefix("test/")
    if attack in BEFORE_STEPS:
        BEFORE_STEPS[attack](source.path)
    return [
        Step("facts", (), lambda _: Result(facts={"pid": os.getpid(), "text": source.path.read_text()})),
        Step("squares", ("small", "large"), lambda folder: ATTACKS.get(attack, none)(source.path, folder)),
        Step("compressed", ("compressed",), lambda folder: written(folder, "compressed", "compressed.jpg", b"good")),
    ]


def written(folder: Path, name: str, path: str, content: bytes) -> Result:
    """Make one rendition."""
    file = folder / path
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return Result(made=(Made(name, file, "image/jpeg"),))


def none(original: Path, folder: Path) -> Result:
    return written(folder, "small", "small.jpg", b"small")


def allocate(original: Path, folder: Path) -> Result:
    hoard = [bytearray(MEBI) for _ in itertools.count()]
    return Result(facts={"mebibytes": len(hoard)})


def spin(original: Path, folder: Path) -> Result:
    deque(itertools.repeat(0), maxlen=0)  # for ever, in C, without a look at signals
    return NOTHING


def sleep(original: Path, folder: Path) -> Result:
    threading.Event().wait()
    return NOTHING


def segfault(original: Path, folder: Path) -> Result:
    ctypes.string_at(0)
    return NOTHING


def abort(original: Path, folder: Path) -> Result:
    os.abort()


def leave(original: Path, folder: Path) -> Result:
    os._exit(0)


def be_killed(original: Path, folder: Path) -> Result:
    os.kill(os.getpid(), signal.SIGKILL)
    return NOTHING


def write_much(original: Path, folder: Path) -> Result:
    with (folder / "large.jpg").open("wb") as file:
        for _ in range(10 * 1024):
            file.write(bytes(MEBI))
    return NOTHING


def open_much(original: Path, folder: Path) -> Result:
    files = [original.open("rb") for _ in range(10_000)]
    return Result(facts={"files": len(files)})


def stay_silent(original: Path, folder: Path) -> Result:
    for descriptor in private_pipes():
        os.close(descriptor)
    return sleep(original, folder)


def print_much(original: Path, folder: Path) -> Result:
    for standard in (1, 2):
        for _ in range(16):
            os.write(standard, b"garbage\n" * 128 * 1024)
    return none(original, folder)


def say(*lines: bytes) -> Callable[[Path, Path], Result]:
    """Write to the pipe to the parent, past who should."""

    def attack(original: Path, folder: Path) -> Result:
        for descriptor in private_pipes():
            with suppress(OSError):  # the one that is only read
                os.write(descriptor, b"".join(line + b"\n" for line in lines))
        return none(original, folder)

    return attack


def claim_elsewhere(original: Path, folder: Path) -> Result:
    return Result(made=(Made("small", Path("/etc/passwd"), "image/jpeg"),))


def claim_the_original(original: Path, folder: Path) -> Result:
    return Result(made=(Made("small", original, "image/jpeg"),))


def claim_a_link(original: Path, folder: Path) -> Result:
    (folder / "small.jpg").symlink_to("/etc/passwd")
    return Result(made=(Made("small", folder / "small.jpg", "image/jpeg"),))


def fill_the_disk(original: Path, folder: Path) -> Result:
    raise OSError(errno.ENOSPC, "as a full disk does")


def raise_anything(original: Path, folder: Path) -> Result:
    raise LookupError("with the secret that it has seen")


def refuse(original: Path, folder: Path) -> Result:
    raise Unprocessable("too-many-frames", "10000")


def know(**facts: object) -> Callable[[Path, Path], Result]:
    return lambda original, folder: Result(facts=facts)


def trespass(original: Path, folder: Path) -> Result:
    """Try what a child has no business with, and tell what came of each."""
    tried = {}
    for name, attempt in TRESPASSES.items():
        try:
            attempt(original)
        except OSError as error:
            tried[name] = error.strerror
        else:
            tried[name] = "done"
    return Result(facts=tried)


def look_around(original: Path, folder: Path) -> Result:
    """Tell what this process is and has."""
    return Result(
        facts={
            "environment": dict(os.environ),
            "descriptors": [descriptor for descriptor in range(64) if is_open(descriptor)],
            "niceness": os.getpriority(os.PRIO_PROCESS, 0),
            "session": os.getsid(0) == os.getpid(),
            "folder": str(Path.cwd()),
            "arguments": sys.argv[1:],
            "threads": started_a_thread(),
        }
    )


def started_a_thread() -> bool:
    told = threading.Event()
    threading.Thread(target=told.set).start()
    return told.wait(10)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def private_pipes() -> list[int]:
    return [descriptor for descriptor in range(3, 64) if is_open(descriptor)]


def started(setup: list[str]) -> None:
    subprocess.run(setup, check=False)  # noqa: S603 the attack


def forked() -> None:
    if os.fork() == 0:
        os._exit(0)


ATTACKS: dict[str, Callable[[Path, Path], Result]] = {
    "allocate": allocate,
    "spin": spin,
    "sleep": sleep,
    "segfault": segfault,
    "abort": abort,
    "leave": leave,
    "be-killed": be_killed,
    "write-much": write_much,
    "open-much": open_much,
    "stay-silent": stay_silent,
    "print-much": print_much,
    "say-garbage": say(b"garbage"),
    "say-much": say(b"x" * MEBI),
    "say-done": say(b'{"event": "done"}'),
    "say-again": say(b'{"event": "began", "step": "facts"}'),
    "say-another": say(b'{"event": "failed", "step": "webp", "seconds": 1.0, "code": "x", "error": "X"}'),
    "say-twice": say(
        json.dumps({"event": "made", "step": "squares", "seconds": 0.0, "made": [], "facts": {}}).encode()
    ),
    "claim-elsewhere": claim_elsewhere,
    "claim-the-original": claim_the_original,
    "claim-a-link": claim_a_link,
    "fill-the-disk": fill_the_disk,
    "raise": raise_anything,
    "refuse": refuse,
    "know-nan": know(duration=float("nan")),
    "know-nul": know(camera="a\0b"),
    "know-much": know(text="x" * MEBI),
    "know-code": know(code=b"x"),
    "trespass": trespass,
    "look-around": look_around,
}


def _raise_before(_: Path) -> None:
    raise Unprocessable("too-many-pixels", "of the header")


def _die_before(_: Path) -> None:
    os.abort()


def _sleep_before(_: Path) -> None:
    time.sleep(3600)


BEFORE_STEPS: dict[str, Callable[[Path], None]] = {
    "raise-before": _raise_before,
    "die-before": _die_before,
    "sleep-before": _sleep_before,
}

TRESPASSES: dict[str, Callable[[Path], object]] = {
    "network": lambda _: socket.socket(),
    "unix_socket": lambda _: socket.socket(socket.AF_UNIX),
    "socket_pair": lambda _: socket.socketpair(),
    "program": lambda _: started(["/bin/true"]),
    "exec": lambda _: os.execv("/bin/true", ["true"]),  # noqa: S606 the attack
    "process": lambda _: forked(),
    "kill_parent": lambda _: os.kill(os.getppid(), 0),
    "kill_all": lambda _: os.kill(-1, 0),
    "read_elsewhere": lambda _: Path("/etc/passwd").read_text(),
    "list_elsewhere": lambda _: list(ELSEWHERE.iterdir()),
    "read_parent": lambda _: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "write_elsewhere": lambda _: (ELSEWHERE / "hostile").write_text("x"),
    "write_original": lambda original: original.write_bytes(b"x"),
    "remove_original": lambda original: original.unlink(),
    "chmod_original": lambda original: original.chmod(0),
    "link_out": (ELSEWHERE / "hostile").hardlink_to,
    "more_memory": lambda _: raised_limit(),
}


def raised_limit() -> None:
    try:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError as error:
        raise PermissionError(1, "Operation not permitted") from error
