"""Files of the local store: what reaches the disk, what must never leave the root, and what a fault leaves behind."""

import asyncio
import errno
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from storage.errors import ObjectNotFound, StoreForbidden, StoreFull, StoreUnavailable
from storage.local import LIST_BATCH, LocalStore
from storage.store import ByteRange

MakeFile = Callable[[bytes], Path]

PLAIN = "application/octet-stream"
MIB = 1024 * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(root)


@pytest.fixture
def file_size_limit() -> Iterator[int]:
    """Let the kernel refuse to make any file larger than 1 MiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    yield MIB
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def read(store: LocalStore, key: str) -> bytes:
    async with store.open(key) as reader:
        return b"".join([chunk async for chunk in reader.chunks])


def make_directories(*directories: Path) -> None:
    for directory in directories:
        directory.mkdir(parents=True)


def everything_below(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def directories_below(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_dir()}


REFUSED = [
    pytest.param("", id="empty"),
    pytest.param("/etc/passwd", id="absolute"),
    pytest.param("../outside", id="parent"),
    pytest.param("media/../../outside", id="parent within"),
    pytest.param("media/./a", id="dot"),
    pytest.param("media//a", id="empty component"),
    pytest.param("media/", id="directory"),
    pytest.param(".tmp/a", id="temporary files"),
    pytest.param(".hidden", id="hidden"),
    pytest.param("media/a\0b", id="NUL"),
    pytest.param("media/\ud800", id="lone surrogate"),
    pytest.param("/".join(["k" * 100] * 11), id="over 1,024 bytes"),
]


@pytest.mark.parametrize("key", REFUSED)
async def test_a_key_that_could_leave_the_root_is_refused(
    store: LocalStore, root: Path, make_file: MakeFile, key: str
) -> None:
    file = make_file(b"content")
    with pytest.raises(StoreForbidden):
        await store.put(key, file, content_type=PLAIN)
    with pytest.raises(StoreForbidden):
        await read(store, key)
    with pytest.raises(StoreForbidden):
        await store.head(key)
    with pytest.raises(StoreForbidden):
        await store.delete(key)
    assert everything_below(root.parent) == [file.name]


async def test_a_symlink_leads_nowhere(store: LocalStore, root: Path, tmp_path: Path, make_file: MakeFile) -> None:
    outside = tmp_path / "outside"
    make_directories(root, outside)
    (outside / "secret").write_bytes(b"secret")
    (root / "media").symlink_to(outside)

    with pytest.raises(StoreForbidden):
        await store.put("media/new/file", make_file(b"content"), content_type=PLAIN)
    with pytest.raises(StoreForbidden):
        await read(store, "media/secret")
    with pytest.raises(StoreForbidden):
        await store.delete("media/secret")
    assert [meta.key async for meta in store.list()] == []
    assert everything_below(outside) == ["secret"]


async def test_a_url_is_percent_encoded(store: LocalStore, root: Path) -> None:
    assert store.url("media/a b/ä%=") == f"file://{root}/media/a%20b/%C3%A4%25%3D"


async def test_a_full_disk_is_told_and_leaves_nothing(
    store: LocalStore, root: Path, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_to_a_full_disk(source: Path, target: Path) -> None:
        target.write_bytes(b"the beginning")
        Path("/dev/full").write_bytes(source.read_bytes())  # the kernel answers ENOSPC

    monkeypatch.setattr(shutil, "copyfile", copy_to_a_full_disk)

    with pytest.raises(StoreFull) as caught:
        await store.put("media/a", make_file(b"content"), content_type=PLAIN)

    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert everything_below(root) == []


async def test_a_limit_of_the_file_system_leaves_nothing(
    store: LocalStore, root: Path, make_file: MakeFile, request: pytest.FixtureRequest
) -> None:
    file = make_file(bytes(2 * MIB))
    request.getfixturevalue("file_size_limit")

    with pytest.raises(StoreFull):
        await store.put("media/a", file, content_type=PLAIN)

    assert everything_below(root) == []


async def test_a_missing_source_does_not_mean_a_missing_object(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await store.put("media/a", tmp_path / "gone", content_type=PLAIN)


async def test_a_put_that_is_cancelled_while_it_copies_is_never_published(
    store: LocalStore, root: Path, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying, go_on, copy = threading.Event(), threading.Event(), shutil.copyfile

    def slow_copy(source: Path, target: Path) -> None:
        copying.set()
        assert go_on.wait(10)
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", slow_copy)
    put = asyncio.create_task(store.put("media/a", make_file(b"content"), content_type=PLAIN))
    assert await asyncio.to_thread(copying.wait, 10)

    put.cancel()
    await asyncio.sleep(0)
    assert not put.done(), "it waits for its thread"
    go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await put
    assert everything_below(root) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP], ids=errno.errorcode.get)
async def test_a_file_system_without_hard_links_will_do(
    store: LocalStore, root: Path, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_link(*_args: object, **_kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_link)

    assert await store.put("media/a", make_file(b"first"), content_type=PLAIN) is True
    assert await store.put("media/a", make_file(b"second"), content_type=PLAIN) is False
    assert await read(store, "media/a") == b"first"
    assert everything_below(root) == ["media/a"]


async def test_of_racing_puts_exactly_one_creates_the_object(store: LocalStore, make_file: MakeFile) -> None:
    files = [make_file(bytes([number])) for number in range(8)]

    created = await asyncio.gather(*(store.put("media/a", file, content_type=PLAIN) for file in files))

    assert sorted(created) == [False] * 7 + [True]
    assert await read(store, "media/a") == bytes([created.index(True)])


async def test_a_delete_removes_the_directories_that_it_empties(
    store: LocalStore, root: Path, make_file: MakeFile
) -> None:
    for key in ["media/1/a/x", "media/1/b"]:
        await store.put(key, make_file(b""), content_type=PLAIN)

    await store.delete("media/1/a/x")
    assert directories_below(root) == {".tmp", "media", "media/1"}

    await store.delete("media/1/b")
    assert directories_below(root) == {".tmp"}


async def test_a_delete_that_takes_the_directory_away_does_not_fail_a_racing_put(
    store: LocalStore, root: Path, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, removals = os.link, iter([True, True, False])

    def link_after_a_delete(source: str, target: str, **kwargs: bool) -> None:
        if next(removals, False):
            Path(target).parent.rmdir()
        link(source, target, **kwargs)

    monkeypatch.setattr(os, "link", link_after_a_delete)

    assert await store.put("media/1/a", make_file(b"content"), content_type=PLAIN) is True
    assert await read(store, "media/1/a") == b"content"


async def test_a_delete_that_takes_the_directory_away_while_it_is_made_does_not_fail_a_racing_put(
    store: LocalStore, root: Path, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, removals = os.mkdir, iter([True, True, False])
    await store.put("media/0", make_file(b""), content_type=PLAIN)  # so that the only one to make is the parent

    def make_between_two_deletes(path: Path, mode: int = 0o777) -> None:
        if path == root / "media/1" and next(removals, False):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        make(path, mode)

    monkeypatch.setattr(os, "mkdir", make_between_two_deletes)

    assert await store.put("media/1/a", make_file(b"content"), content_type=PLAIN) is True
    assert await read(store, "media/1/a") == b"content"


async def test_puts_and_deletes_in_one_directory_do_not_disturb_each_other(
    store: LocalStore, make_file: MakeFile
) -> None:
    file = make_file(b"content")

    async def come_and_go(key: str) -> None:
        for _ in range(20):
            assert await store.put(key, file, content_type=PLAIN) is True
            await store.delete(key)

    await asyncio.gather(*(come_and_go(f"media/1/{number}") for number in range(4)))


async def test_a_directory_is_no_object(store: LocalStore, make_file: MakeFile) -> None:
    await store.put("media/1/a", make_file(b"content"), content_type=PLAIN)

    with pytest.raises(ObjectNotFound):
        await read(store, "media/1")
    with pytest.raises(ObjectNotFound):
        await store.head("media/1")
    with pytest.raises(ObjectNotFound):
        await read(store, "media/1/a/below")
    with pytest.raises(StoreUnavailable):
        await store.put("media/1", make_file(b"other"), content_type=PLAIN)
    await store.delete("media/1")
    assert await read(store, "media/1/a") == b"content"


async def test_a_reader_that_has_begun_survives_a_delete(store: LocalStore, make_file: MakeFile) -> None:
    await store.put("media/a", make_file(b"content"), content_type=PLAIN)

    async with store.open("media/a") as reader:
        await store.delete("media/a")
        assert b"".join([chunk async for chunk in reader.chunks]) == b"content"


async def test_a_file_that_shrinks_is_never_taken_for_whole(store: LocalStore, root: Path, make_file: MakeFile) -> None:
    await store.put("media/a", make_file(bytes(MIB)), content_type=PLAIN)

    async with store.open("media/a", ByteRange(0, MIB)) as reader:
        await anext(reader.chunks)
        os.truncate(root / "media/a", MIB // 2)
        with pytest.raises(StoreUnavailable):
            [chunk async for chunk in reader.chunks]


async def test_a_listing_is_read_in_batches_and_shows_objects_only(store: LocalStore, root: Path) -> None:
    (root / "media").mkdir(parents=True)
    (root / ".tmp").mkdir()
    (root / ".tmp" / "unfinished").touch()
    (root / ".database").touch()
    (root / "media" / "link").symlink_to(root / ".database")
    expected = {f"media/{number}" for number in range(LIST_BATCH + 1)}
    for key in expected:
        (root / key).touch()

    assert {meta.key async for meta in store.list()} == expected


async def test_a_listing_may_be_left_early(store: LocalStore, make_file: MakeFile) -> None:
    for key in ["media/a", "media/b"]:
        await store.put(key, make_file(b""), content_type=PLAIN)

    found = store.list()
    await anext(found)
    await found.aclose()


async def test_a_listing_copes_with_what_is_deleted_meanwhile(
    store: LocalStore, root: Path, make_file: MakeFile
) -> None:
    keys = [f"media/{number}/a" for number in range(LIST_BATCH + 100)]
    for key in keys:
        (root / key).parent.mkdir(parents=True)
        (root / key).touch()

    found = store.list()
    await anext(found)
    for key in keys:
        await store.delete(key)

    assert len([meta async for meta in found]) <= len(keys)


async def test_check_fails_where_the_root_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnavailable):
        await LocalStore(tmp_path / "file").check()


async def test_sweep_deletes_what_killed_processes_left_and_nothing_else(
    store: LocalStore, root: Path, make_file: MakeFile
) -> None:
    assert await store.sweep(timedelta(hours=1)) == 0, "nothing was ever put"
    await store.put("media/old", make_file(b"content"), content_type=PLAIN)
    for name, age in [(".tmp/old", 3700), (".tmp/new", 3500), ("media/old", 3700)]:
        (root / name).touch()
        os.utime(root / name, times=(time.time() - age,) * 2)

    assert await store.sweep(timedelta(hours=1)) == 1

    assert everything_below(root) == [".tmp/new", "media/old"]
