"""Files as they are read: what is at hand at once, the rest in a thread, and no descriptor left behind."""

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import filereading
from storage.errors import ObjectNotFound, StoreForbidden, StoreUnavailable
from storage.filereading import READ_SIZE, FileRead
from storage.store import ByteRange
from tests.running import until

BODY = os.urandom(3 * READ_SIZE + 17)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(BODY)
    return path


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 nothing but their number


async def read(path: Path, root: Path, byte_range: ByteRange | None = None) -> bytes:
    async with FileRead(path, root, byte_range) as reader:
        return b"".join([chunk async for chunk in reader.chunks])


def no_nowait(monkeypatch: pytest.MonkeyPatch, number: int | None) -> None:
    """Let the kernel have nothing at hand, or not know how to say so."""
    if number is None:
        monkeypatch.setattr(filereading, "_NOWAIT", None)
        return

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "preadv", refuse)


WAYS = [
    pytest.param(lambda _patch: None, id="as this machine can"),
    pytest.param(lambda patch: no_nowait(patch, None), id="not Linux"),
    pytest.param(lambda patch: no_nowait(patch, errno.EAGAIN), id="nothing in the page cache"),
    pytest.param(lambda patch: no_nowait(patch, errno.EOPNOTSUPP), id="a file system without RWF_NOWAIT"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "byte_range", [None, ByteRange(0, 1), ByteRange(5, 2 * READ_SIZE), ByteRange(READ_SIZE, len(BODY) + 99)]
)
async def test_all_ways_lead_to_the_same_bytes(
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[pytest.MonkeyPatch], None],
    byte_range: ByteRange | None,
) -> None:
    way(monkeypatch)

    found = await read(file, tmp_path, byte_range)

    assert found == (BODY[byte_range.start : byte_range.stop] if byte_range else BODY)


async def test_a_file_that_shrinks_while_it_is_read_breaks_off(file: Path, tmp_path: Path) -> None:
    async with FileRead(file, tmp_path, None) as reader:
        await anext(reader.chunks)
        os.truncate(file, READ_SIZE + 1)

        with pytest.raises(StoreUnavailable):
            [chunk async for chunk in reader.chunks]


async def test_a_bad_sector_is_no_end_of_the_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FileRead(file, tmp_path, None) as reader:
        await anext(reader.chunks)
        no_nowait(monkeypatch, errno.EIO)

        with pytest.raises(StoreUnavailable):
            await anext(reader.chunks)


async def test_a_file_that_was_read_to_its_end_is_closed_before_it_is_left(file: Path, tmp_path: Path) -> None:
    await read(file, tmp_path)
    before = descriptors()

    async with FileRead(file, tmp_path, ByteRange(0, 10)) as small, FileRead(file, tmp_path, None) as large:
        assert descriptors() == before + 1
        for reader in (small, large):
            assert len(b"".join([chunk async for chunk in reader.chunks])) > 0
        assert descriptors() == before


async def test_a_reader_that_leaves_early_closes_the_file(file: Path, tmp_path: Path) -> None:
    await read(file, tmp_path)
    before = descriptors()

    async with FileRead(file, tmp_path, None) as reader:
        await anext(reader.chunks)

    assert descriptors() == before
    assert [chunk async for chunk in reader.chunks] == []


async def test_a_reader_that_is_cancelled_while_a_thread_reads_closes_the_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await read(file, tmp_path)
    before, reached, go_on, pread = descriptors(), threading.Event(), threading.Event(), os.pread

    def slow(*args: int) -> bytes:
        reached.set()
        go_on.wait(10)
        return pread(*args)

    monkeypatch.setattr(os, "pread", slow)
    reading = asyncio.create_task(read(file, tmp_path))
    await until(reached.is_set)
    reading.cancel()
    await asyncio.sleep(0)
    go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await reading
    assert descriptors() == before


async def test_a_link_to_the_outside_is_not_followed_whoever_made_it_when(file: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(file)
    (root / "real").write_bytes(b"inside")
    (root / "alias").symlink_to(root / "real")

    with pytest.raises(StoreForbidden):
        await read(root / "link", root)
    assert await read(root / "alias", root) == b"inside"


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["a pipe without a writer", "a directory"])
async def test_what_is_no_file_is_no_object(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "thing")

    with pytest.raises(ObjectNotFound):
        await asyncio.wait_for(read(tmp_path / "thing", tmp_path), 10)


async def test_a_socket_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket has to be short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("thing")

        with pytest.raises(StoreUnavailable):
            await read(tmp_path / "thing", tmp_path)


async def test_an_empty_file_has_no_chunks(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    assert await read(tmp_path / "empty", tmp_path) == b""
