"""Where children work, and what of theirs is taken for a rendition."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.processing.scratch import NotMade, Scratch, Workplace

LIMIT = 1000  # bytes


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """Return a file that is not the child's."""
    path = tmp_path / "original"
    path.write_bytes(b"original")
    return path


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """Return an empty workplace."""
    return Scratch(tmp_path / "scratch").workplace()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return an empty folder of the parent."""
    path = tmp_path / "target"
    path.mkdir()
    return path


@pytest.mark.parametrize("name", ["small.jpg", "hls/360p.mp4"])
def test_a_file_in_the_jobs_folder_is_copied(workplace: Workplace, original: Path, target: Path, name: str) -> None:
    _, folder = workplace.begin(1, original)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x" * LIMIT)
    adopted = workplace.adopt(1, str(folder / name), target, limit=LIMIT)
    (folder / name).write_bytes(b"changed afterwards")
    assert adopted.path == target / name
    assert adopted.path.read_bytes() == b"x" * LIMIT
    assert (adopted.size, adopted.sha256) == (LIMIT, hashlib.sha256(b"x" * LIMIT).hexdigest())


def symbolic_link(folder: Path, original: Path) -> None:
    (folder / "made").symlink_to(original)


def link_to_a_folder(folder: Path, original: Path) -> None:
    (folder / "hls").symlink_to(original.parent)


def hard_link(folder: Path, original: Path) -> None:
    (folder / "made").hardlink_to(original)


def named_pipe(folder: Path, original: Path) -> None:
    os.mkfifo(folder / "made")


def too_large(folder: Path, original: Path) -> None:
    (folder / "made").touch()
    os.truncate(folder / "made", LIMIT + 1)


def subfolder(folder: Path, original: Path) -> None:
    (folder / "made").mkdir()


def nothing(folder: Path, original: Path) -> None:
    """Make nothing at all."""


def deep(folder: Path, original: Path) -> None:
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/c").touch()


CLAIMS = [
    pytest.param(nothing, "{folder}/made", id="a file that is not there"),
    pytest.param(symbolic_link, "{folder}/made", id="a symbolic link"),
    pytest.param(link_to_a_folder, "{folder}/hls/original", id="a file behind a symbolic link"),
    pytest.param(hard_link, "{folder}/made", id="another name of another file"),
    pytest.param(named_pipe, "{folder}/made", id="a named pipe, which must not be waited for"),
    pytest.param(subfolder, "{folder}/made", id="a folder"),
    pytest.param(too_large, "{folder}/made", id="more than the limit"),
    pytest.param(deep, "{folder}/a/b/c", id="a file too deep down"),
    pytest.param(nothing, "{folder}", id="the job's folder itself"),
    pytest.param(nothing, "{folder}/../../in/1", id="a path that climbs"),
    pytest.param(nothing, "{original}", id="a path elsewhere"),
    pytest.param(nothing, "made", id="a relative path"),
    pytest.param(nothing, "{folder}/.hidden", id="a hidden file"),
    pytest.param(nothing, "{folder}/a\nb", id="a name that is none of ours"),
    pytest.param(nothing, "", id="no path"),
]


@pytest.mark.parametrize(("make", "claim"), CLAIMS)
def test_no_rendition_is(
    workplace: Workplace, original: Path, target: Path, make: Callable[[Path, Path], None], claim: str
) -> None:
    _, folder = workplace.begin(1, original)
    make(folder, original)
    with pytest.raises(NotMade):
        workplace.adopt(1, claim.format(folder=folder, original=original), target, limit=LIMIT)
    assert list(target.iterdir()) == []


def test_a_jobs_original_and_files_go_with_it(workplace: Workplace, original: Path) -> None:
    brought, folder = workplace.begin(1, original)
    (folder / "made").touch()
    workplace.end(1)
    assert not brought.exists()
    assert not folder.exists()
    assert original.read_bytes() == b"original"


def test_an_original_on_another_file_system_is_copied(workplace: Workplace) -> None:
    """``/proc`` is one, and nobody can link to it."""
    brought, _ = workplace.begin(1, Path("/proc/version"))
    assert brought.read_bytes() == Path("/proc/version").read_bytes()


def test_pools_that_share_a_folder_leave_each_other_alone(tmp_path: Path) -> None:
    """A pool sweeps what dead ones have left, never what a living one uses."""
    left = tmp_path / "pool-dead" / "child-dead"
    left.mkdir(parents=True)
    first, second = Scratch(tmp_path), Scratch(tmp_path)
    of_first, of_second = first.workplace(), second.workplace()
    assert not left.exists()
    assert of_first.outbox.is_dir()
    first.close()
    assert not of_first.folder.exists()
    assert of_second.outbox.is_dir()
    second.close()
    assert list(tmp_path.iterdir()) == []
