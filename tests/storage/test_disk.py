"""A copy on the disk is whole or not there, whoever leaves, dies or deletes; and without a disk reading goes on."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event as Signal
from time import time

import pytest
import structlog

from storage.bodies import BodyCache
from storage.copies import ABANDONED, HEADER, TOUCHED_EVERY, trim
from storage.disk import LARGEST, SLACK, DiskCachedStore, Event
from storage.errors import ObjectNotFound, StoreUnavailable
from storage.layers import Deadlines, StorageLayer
from storage.memory import MemoryStore
from storage.store import CHUNK_SIZE, ByteRange, Presigner
from tests.running import PATIENCE, until
from tests.storage.flying import jpeg, open_files
from tests.storage.reading import a_record, an_object, body_of

BODY = jpeg(5 * CHUNK_SIZE + 1)
MAX_BYTES = 10 * 1024 * 1024


class Observed:
    def __init__(self) -> None:
        self.events = Counter[Event]()
        self.size = 0

    def disk_cache(self, event: Event, count: int = 1) -> None:
        self.events[event] += count

    def disk_cache_holds(self, size: int) -> None:
        self.size = size


class Far:
    """A store far away that has objects, and the disk before it."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.inner, self.observed, self.folder, self.max_bytes = MemoryStore(), Observed(), folder, max_bytes
        self.store = self.process()

    def process(self) -> DiskCachedStore:
        """Return what another process of the node has."""
        return DiskCachedStore(self.inner, self.folder, max_bytes=self.max_bytes, observer=self.observed)

    async def has(self, key: str, body: bytes) -> None:
        file = self.folder.with_name("file")
        file.write_bytes(body)
        await self.inner.put(key, file, content_type="image/jpeg")

    async def read(self, key: str = "k", byte_range: ByteRange | None = None) -> bytes:
        async with self.store.open(key, byte_range) as reader:
            return b"".join([chunk async for chunk in reader.chunks])

    @property
    def asked(self) -> int:
        """How often the far store was."""
        return self.inner.calls["open"]

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.exists() else []


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    async with far_in(tmp_path / "copies") as opened:
        yield opened


@asynccontextmanager
async def far_in(folder: Path, *, max_bytes: int = MAX_BYTES) -> AsyncIterator[Far]:
    far = Far(folder, max_bytes=max_bytes)
    await far.has("k", BODY)
    async with far.store:
        yield far
    assert open_files(folder) == []


# Filled and read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [None, ByteRange(0, len(BODY))], ids=["whole", "a range that is the whole"])
async def test_a_whole_read_leaves_a_copy_for_all_processes(far: Far, first: ByteRange | None) -> None:
    assert await far.read(byte_range=first) == BODY

    assert await far.read() == BODY
    assert await far.read(byte_range=ByteRange(70_000, 70_009)) == BODY[70_000:70_009]
    far.store = far.process()
    assert await far.read() == BODY
    assert far.asked == 1
    assert far.observed.events == {"miss": 1, "kept": 1, "hit": 3, "evicted": 0}


async def test_a_part_of_what_was_not_copied_is_read_as_a_part(far: Far) -> None:
    assert await far.read(byte_range=ByteRange(5, 9)) == BODY[5:9]

    assert (far.files, far.inner.calls["read"]) == ([], 1)


async def test_the_last_byte_is_enough(far: Far) -> None:
    # Who knows the size stops there, and does not ask whether there is more.
    async with far.store.open("k") as reader:
        got = 0
        while got < len(BODY):
            got += len(await anext(reader.chunks))

    assert len(far.files) == 1


async def test_the_first_of_many_leaves_the_copy(far: Far) -> None:
    assert await asyncio.gather(*(far.read() for _ in range(5))) == [BODY] * 5

    assert (len(far.files), far.observed.events["kept"], far.observed.events["left"]) == (1, 1, 0)


async def test_a_reader_who_leaves_leaves_nothing_behind(far: Far) -> None:
    async with far.store.open("k") as reader:
        await anext(reader.chunks)
        assert len(far.files) == 1

    assert far.files == []
    assert far.observed.events["left"] == 1
    assert await far.read() == BODY
    assert len(far.files) == 1


async def test_a_reader_who_is_cancelled_leaves_nothing_behind(far: Far) -> None:
    for turns in range(40):
        reading = asyncio.create_task(far.read())
        for _ in range(turns):
            await asyncio.sleep(0)  # one turn of the event loop, however far it gets
        reading.cancel()
        await asyncio.wait([reading])

        assert [path for path in far.files if path.suffix] == []
    assert await far.read() == BODY


async def test_a_store_that_breaks_off_leaves_no_copy(far: Far) -> None:
    far.inner.break_stream_after(CHUNK_SIZE + 1)

    with pytest.raises(StoreUnavailable):
        await far.read()

    assert far.files == []


async def test_nobody_else_may_read_the_copies_and_no_key_leads_out(far: Far) -> None:
    await far.has("../../etc/passwd", BODY)

    await far.read("../../etc/passwd")

    assert [(path.stat().st_mode & 0o777, len(path.name)) for path in far.files] == [(0o600, 64)]
    assert far.folder.stat().st_mode & 0o777 == 0o700


async def test_what_would_take_too_much_of_the_disk_is_not_copied(tmp_path: Path) -> None:
    async with far_in(tmp_path / "copies", max_bytes=LARGEST * len(BODY)) as far:
        assert await far.read() == BODY

        assert far.files == []


async def test_signing_is_left_to_the_store(far: Far) -> None:
    assert isinstance(far.store, Presigner)
    signed = far.store.presign("k", life=60, content_type="image/jpeg", content_disposition="inline", cache_control="")
    assert await signed is None  # memory has no URL


# Deleted, cut, damaged ------------------------------------------------------------------------------------------------


async def test_what_is_deleted_goes_at_once(far: Far) -> None:
    await far.read()

    await far.store.delete("k")

    assert far.files == []
    with pytest.raises(ObjectNotFound):
        await far.read()


async def test_what_is_deleted_while_it_is_copied_is_not_kept(far: Far) -> None:
    async with far.store.open("k") as reader:
        await anext(reader.chunks)
        await far.store.delete("k")
        rest = [chunk async for chunk in reader.chunks]

    assert rest
    assert far.files == []


@pytest.mark.parametrize("size", [0, HEADER - 1, HEADER, HEADER + len(BODY) - 1, HEADER + len(BODY) + 1])
async def test_a_copy_of_another_length_is_read_anew(far: Far, size: int) -> None:
    await far.read()
    os.truncate(far.files[0], size)

    assert await far.read() == BODY
    assert await far.read() == BODY
    assert far.asked == 2


async def test_a_copy_that_is_cut_while_it_is_read_breaks_off(far: Far) -> None:
    await far.read()
    async with far.store.open("k") as reader:
        os.truncate(far.files[0], HEADER + 1)

        with pytest.raises(StoreUnavailable):
            assert [chunk async for chunk in reader.chunks] == [BODY[:1]]


async def test_damage_that_left_the_size_is_found_by_the_hash_and_read_anew(far: Far) -> None:
    stored = an_object(BODY, key="k")
    await far.read()
    content = bytearray(far.files[0].read_bytes())
    content[-1] ^= 1
    far.files[0].write_bytes(content)
    cache = BodyCache(MAX_BYTES, max_item=MAX_BYTES)
    cache.wanted(stored.workspace_id, stored.sha256)
    layer = StorageLayer(cache, far.store, deadlines=Deadlines(), cache_read=lambda _: None)

    with pytest.raises(StoreUnavailable):
        async with layer.open(a_record(stored), stored, lambda _: None):
            pytest.fail("it was shown")

    async with layer.open(a_record(stored), stored, lambda _: None) as opened:
        assert await body_of(opened) == BODY


# The disk -------------------------------------------------------------------------------------------------------------


async def test_copies_keep_to_their_bytes_and_those_not_used_for_longest_go_first(tmp_path: Path) -> None:
    size, kept = 1000 - HEADER, 30
    async with far_in(tmp_path / "copies", max_bytes=kept * 1000 * SLACK // (SLACK - 2)) as far:
        for number in range(kept):
            await far.has(str(number), jpeg(size))
            await far.read(str(number))
            name = max(far.files, key=lambda path: path.stat().st_mtime)
            os.utime(name, (0, time() - 10 * TOUCHED_EVERY + number))
        await far.read("0")
        for number in range(kept, kept + 5):
            await far.has(str(number), jpeg(size))
            await far.read(str(number))
            await until(lambda: not far.store._is_trimming)
            assert sum(path.stat().st_size for path in far.files) <= far.max_bytes
    before = far.asked

    await far.read("0")
    assert far.asked == before, "the oldest was used again"
    await far.read("1")
    assert far.asked == before + 1, "the next one had to go"
    assert far.observed.size <= far.max_bytes
    assert far.observed.events["evicted"] > 0


async def test_copies_wait_for_others_to_go_and_readers_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go = Signal()

    def slow_trim(folder: Path, max_bytes: int) -> tuple[int, int]:
        may_go.wait(PATIENCE)
        return trim(folder, max_bytes)

    async with far_in(tmp_path / "copies", max_bytes=16_000) as far:
        monkeypatch.setattr("storage.disk.trim", slow_trim)
        for number in range(30):
            await far.has(str(number), body := jpeg(1000 - HEADER, seed=number))
            assert await far.read(str(number)) == body
        assert sum(path.stat().st_size for path in far.files) <= far.max_bytes
        may_go.set()
        await until(lambda: not far.store._is_trimming)
        await far.read("29")
        assert await far.read("29") == body
    assert far.observed.events["hit"] == 1


async def test_what_a_killed_process_left_is_swept_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    for name, age in (("killed.part", ABANDONED + 1), ("alive.part", 1)):
        (folder / name).write_bytes(b"part")
        os.utime(folder / name, (0, time() - age))

    async with far_in(folder) as far:
        assert [path.name for path in far.files] == ["alive.part"]


async def test_without_a_disk_reading_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.write_bytes(b"not a folder")  # as good as a full disk: nothing can be written
    with structlog.testing.capture_logs() as logs:
        far = Far(folder)
        await far.has("k", BODY)
        async with far.store:
            assert [await far.read() for _ in range(3)] == [BODY] * 3
            await far.store.forget("k")

            assert [entry["event"] for entry in logs] == ["disk cache failed"]
            folder.unlink()
            assert [await far.read() for _ in range(2)] == [BODY] * 2

    assert far.asked == 4
    assert far.observed.events["failed"] >= 4
