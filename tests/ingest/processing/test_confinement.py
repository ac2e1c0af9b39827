"""What a child can do after it has confined itself: real children, that try."""

import errno
import os
from typing import Any

import pytest

from ingest.processing.confinement import Confinement, confine
from ingest.processing.limits import Limits
from ingest.processing.pool import Finished
from tests.ingest.processing.pools import TEXT, OpenPool

NOT_PERMITTED = os.strerror(errno.EPERM)  # how a system call fails that is taken away, and what needs a privilege
DENIED = os.strerror(errno.EACCES)  # how a file is refused

TRESPASSES = {
    "network": NOT_PERMITTED,
    "unix_socket": NOT_PERMITTED,
    "socket_pair": NOT_PERMITTED,
    "program": NOT_PERMITTED,
    "exec": NOT_PERMITTED,
    "process": NOT_PERMITTED,
    "kill_parent": NOT_PERMITTED,
    "kill_all": NOT_PERMITTED,
    "read_elsewhere": DENIED,
    "list_elsewhere": DENIED,
    "read_parent": DENIED,
    "write_elsewhere": DENIED,
    "write_original": DENIED,
    "remove_original": DENIED,
    "chmod_original": NOT_PERMITTED,
    "link_out": DENIED,
    "more_memory": NOT_PERMITTED,
}


async def facts_of(open_pool: OpenPool, attack: str) -> dict[str, Any]:
    """Return what the attacking step tells."""
    squares = (await open_pool().process(attack))[1]
    assert isinstance(squares, Finished)
    return dict(squares.facts)


async def test_a_child_fails_at_all_that_is_none_of_its_business(open_pool: OpenPool) -> None:
    """Each is an error for who tries, and nothing else: the step that tried goes on."""
    observed = open_pool()
    _, tried, _ = await observed.process("trespass")
    assert isinstance(tried, Finished)
    assert tried.facts == TRESPASSES
    assert observed.original.read_text() == TEXT


async def test_a_child_has_nothing_of_its_parents(open_pool: OpenPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIA_API_KEYS", "a secret")
    read, write = os.pipe()
    try:
        os.set_inheritable(write, True)  # noqa: FBT003 its own form
        seen = await facts_of(open_pool, "look-around")
    finally:
        os.close(read)
        os.close(write)
    assert set(seen["environment"]) - {"LD_LIBRARY_PATH", "LC_CTYPE"} == {
        "LANG",
        "MALLOC_ARENA_MAX",
        "MALLOC_TRIM_THRESHOLD_",
        "OMP_NUM_THREADS",
        "TMPDIR",
    }
    assert seen["descriptors"] == [0, 1, 2, 3, 4], "the void three times, and the two pipes to its parent"
    assert "a secret" not in str(seen)


async def test_a_child_steps_aside_and_may_use_threads(open_pool: OpenPool) -> None:
    seen = await facts_of(open_pool, "look-around")
    assert seen["niceness"] >= 10
    assert seen["session"], "an interrupt from the terminal is not for it"
    assert seen["folder"].endswith("/out")
    assert seen["threads"]


async def test_a_child_says_how_it_is_confined(open_pool: OpenPool, capsys: pytest.CaptureFixture[str]) -> None:
    """Once for all of them; here, where all of it is at hand, nothing is missing."""
    observed = open_pool(jobs=1)
    await observed.process("none")
    await observed.process("none")
    said = capsys.readouterr().out
    assert said.count("processing children are confined") == 1
    assert "missing=()" in said


def test_a_child_whose_parent_is_dead_already_ends(tmp_path: Any) -> None:
    """It is no child of process 1's, so its parent must have died before it could ask to be told."""
    pid = os.fork()
    if pid == 0:
        try:
            confine(Limits(), parent=1, readable=tmp_path, writable=tmp_path)
        except SystemExit:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_what_a_platform_lacks_is_said_and_stops_nobody(tmp_path: Any) -> None:
    """Here: a folder that is not there makes Landlock impossible."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        done = confine(Limits(), parent=os.getppid(), readable=tmp_path / "absent", writable=tmp_path)
        os.write(write, repr(done).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        done = eval(told.read(), {"Confinement": Confinement})  # noqa: S307 our own repr
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert done.missing == ("landlock",)
    assert "seccomp" in done.active
