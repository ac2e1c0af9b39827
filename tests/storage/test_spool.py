"""A spool is files that several processes trust: whole states, honest sizes, and locks that die with their holder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from threading import Barrier

import pytest

from storage.errors import OriginFailed
from storage.spool import Spools, SpoolState

NAME, OTHER = (sha256(text).hexdigest() for text in (b"one", b"other"))
HOUR = timedelta(hours=1)
FLYING = SpoolState(phase="flying", size=5, sha256="ab" * 32, content_type="image/jpeg")
VERIFIED = FLYING.settled(size=5, sha256="ab" * 32)

HOLDER = """
import sys
from pathlib import Path
from storage.spool import Spools
spools = Spools(Path(sys.argv[1]))
print(spools.try_lock(sys.argv[2]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spools(folder: Path) -> Iterator[Spools]:
    opened = Spools(folder)
    yield opened
    opened.close()


@contextmanager
def holder(folder: Path, name: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Let another process ask for a lock, and keep it until it ends; yield the process and the answer."""
    command = [sys.executable, "-c", HOLDER, str(folder), name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 our own program
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


# Locks ------------------------------------------------------------------------------------------------------------


def test_a_lock_excludes_its_own_process_too(spools: Spools) -> None:
    assert spools.try_lock(NAME)
    assert not spools.try_lock(NAME)
    assert spools.try_lock(OTHER)

    spools.unlock(NAME)

    assert spools.try_lock(NAME)
    assert not spools.try_lock(OTHER)


def test_a_lock_excludes_other_processes_and_only_from_its_own_spool(spools: Spools, folder: Path) -> None:
    assert spools.try_lock(NAME)

    with holder(folder, NAME) as (_, answer):
        assert answer == "False"
    with holder(folder, OTHER) as (_, answer):
        assert answer == "True"
        assert not spools.try_lock(OTHER)
        spools.unlock(NAME)
        assert spools.try_lock(NAME)


def test_a_killed_process_leaves_no_lock(spools: Spools, folder: Path) -> None:
    with holder(folder, NAME) as (process, answer):
        assert answer == "True"
        process.kill()
        process.wait()
        assert spools.try_lock(NAME)


def test_of_two_threads_one_gets_the_lock(spools: Spools) -> None:
    # A sweep locks in a thread, while flights lock on the event loop.
    together = Barrier(2)

    def contend(name: str) -> bool:
        together.wait()
        return spools.try_lock(name)

    with ThreadPoolExecutor(2) as pool:
        for number in range(200):
            name = sha256(str(number).encode()).hexdigest()
            assert sorted(pool.map(contend, [name, name])) == [False, True]


# State ------------------------------------------------------------------------------------------------------------


def test_a_state_is_read_as_it_was_written_and_leaves_no_draft(spools: Spools, folder: Path) -> None:
    spools.write_state(NAME, FLYING)

    assert spools.state(NAME) == FLYING
    assert {path.name for path in folder.iterdir()} == {"locks", f"{NAME}.json"}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty: the disk was full"),
        pytest.param(b'{"phase": "fly', id="torn"),
        pytest.param(bytes(200), id="zeros: the power was cut"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[]", id="another shape"),
        pytest.param(b"{}", id="without a phase"),
        pytest.param(b'{"phase": "flying", "lease": 7}', id="of another version"),
    ],
)
def test_a_stale_file_that_is_no_state_counts_as_none(spools: Spools, folder: Path, content: bytes) -> None:
    (folder / f"{NAME}.json").write_bytes(content)

    assert spools.state(NAME) is None


@pytest.mark.parametrize("data", [None, b"", b"1234", b"123456"], ids=["missing", "empty", "short", "long"])
def test_a_verified_spool_without_its_bytes_counts_as_none(spools: Spools, data: bytes | None) -> None:
    spools.write_state(NAME, VERIFIED)
    if data is not None:
        spools.data(NAME).write_bytes(data)

    assert spools.state(NAME) is None


def test_a_failure_drops_the_bytes_and_says_why(spools: Spools) -> None:
    spools.data(NAME).write_bytes(b"12")
    spools.write_state(NAME, FLYING)

    spools.fail(NAME, "OriginBusy", 7.5)

    assert spools.state(NAME) == SpoolState(phase="failed", error="OriginBusy", retry_after=7.5)
    assert not spools.data(NAME).exists()


# Progress, as who has the bytes open sees it -----------------------------------------------------------------------


@pytest.fixture
def descriptor(spools: Spools) -> Iterator[int]:
    """A spool of five bytes, of which two are there, open in a follower."""
    spools.data(NAME).write_bytes(b"12")
    spools.write_state(NAME, FLYING)
    opened = os.open(spools.data(NAME), os.O_RDONLY)
    yield opened
    os.close(opened)


def test_progress_is_the_state_and_the_size_of_the_bytes(spools: Spools, descriptor: int) -> None:
    assert spools.progress(NAME, descriptor) == (FLYING, 2)

    with spools.data(NAME).open("ab") as file:
        file.write(b"345")
    spools.write_state(NAME, VERIFIED)

    assert spools.progress(NAME, descriptor) == (VERIFIED, 5)


def test_a_removed_spool_keeps_its_bytes_for_who_has_it_open(spools: Spools, descriptor: int) -> None:
    spools.remove(NAME)

    assert spools.progress(NAME, descriptor) == (None, 2)
    assert os.pread(descriptor, 5, 0) == b"12"


def test_a_failed_spool_says_so_to_who_has_it_open(spools: Spools, descriptor: int) -> None:
    spools.fail(NAME, "OriginGone", None)

    state, _ = spools.progress(NAME, descriptor)

    assert state is not None
    assert (state.phase, state.error) == ("failed", "OriginGone")


def test_a_spool_that_took_the_name_is_not_mistaken_for_the_one_that_is_open(spools: Spools, descriptor: int) -> None:
    # The first pilot was killed with two bytes on disk; the next one has already brought and verified all five.
    spools.remove(NAME)
    spools.data(NAME).write_bytes(b"12345")
    spools.write_state(NAME, VERIFIED)

    with pytest.raises(OriginFailed):
        spools.progress(NAME, descriptor)


# Sweeping ---------------------------------------------------------------------------------------------------------


def spooled(spools: Spools, text: str, *, size: int = 10, age: timedelta = timedelta()) -> str:
    """Leave a spool behind that was last written so long ago."""
    name = sha256(text.encode()).hexdigest()
    spools.data(name).write_bytes(bytes(size))
    spools.write_state(name, SpoolState(phase="flying"))
    for path in (spools.data(name), spools.data(name).with_suffix(".json")):
        now = path.stat().st_mtime
        os.utime(path, (now - age.total_seconds(),) * 2)
    return name


def kept(spools: Spools, *names: str) -> list[bool]:
    return [spools.data(name).exists() for name in names]


def test_a_sweep_takes_what_is_old_and_leaves_what_is_locked(spools: Spools, folder: Path) -> None:
    young, old, flying = (spooled(spools, text, age=age) for text, age in [("y", HOUR / 2), ("o", HOUR), ("f", HOUR)])
    elsewhere = spooled(spools, "e", age=HOUR)
    assert spools.try_lock(flying)

    with holder(folder, elsewhere):
        assert spools.sweep(older_than=HOUR * 0.9, max_bytes=10**6) == 1

    assert kept(spools, young, old, flying, elsewhere) == [True, False, True, True]
    assert spools.try_lock(old)


def test_a_sweep_keeps_the_youngest_within_the_budget(spools: Spools) -> None:
    names = [spooled(spools, str(age), size=1000, age=HOUR * age / 10) for age in range(4)]

    assert spools.sweep(older_than=HOUR, max_bytes=2500) == 2

    assert kept(spools, *names) == [True, True, False, False]


def test_a_sweep_takes_what_a_killed_process_left_half_written(spools: Spools, folder: Path) -> None:
    draft = folder / f"{NAME}.tmp"
    draft.write_bytes(b"{")
    os.utime(draft, (0, 0))

    assert spools.sweep(older_than=HOUR, max_bytes=10**6) == 1

    assert {path.name for path in folder.iterdir()} == {"locks"}


def test_a_sweep_spares_a_spool_that_was_flown_again_since_it_looked(spools: Spools) -> None:
    name = spooled(spools, "again", age=HOUR)
    looked_at = spools._usage(name)[0]
    spools.write_state(name, SpoolState(phase="flying"))

    assert not spools._remove_idle(name, looked_at)

    assert kept(spools, name) == [True]
    assert spools.try_lock(name)
