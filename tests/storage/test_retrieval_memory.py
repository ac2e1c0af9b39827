"""What is read into memory, and when: no more of an object than is worth it, and once for all who ask."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from storage.errors import ObjectNotFound, OriginGone, StorageError, StoreForbidden, StoreUnavailable
from storage.layers import ABSENT_TTL, HASHED_AT_ONCE, LOADED_AT_SIGHT
from storage.representation import Source
from storage.store import ByteRange
from tests.running import until
from tests.storage.flying import jpeg, sha256, skip
from tests.storage.reading import Reading, a_record, an_object, open_reading

MAX_ITEM = 2 * LOADED_AT_SIGHT
SMALL, MIDDLE, LARGE = jpeg(LOADED_AT_SIGHT), jpeg(LOADED_AT_SIGHT + 1), jpeg(MAX_ITEM + 1)
ALL, PART, NOTHING = None, (ByteRange(10, 20),), ()
STORAGE, CACHE = Source.STORAGE, Source.CACHE


def reading_of(folder: Path, body: bytes) -> AbstractAsyncContextManager[Reading]:
    return open_reading(folder, body, stored=an_object(body), max_item=MAX_ITEM)


@pytest.mark.parametrize(
    ("body", "asked", "answers"),
    [
        pytest.param(SMALL, [ALL, PART, ALL], [STORAGE, CACHE, CACHE], id="small, whole: at the first sight"),
        pytest.param(SMALL, [(ByteRange(0, len(SMALL)),), PART], [STORAGE, CACHE], id="a range that is the whole"),
        pytest.param(SMALL, [PART, PART, PART], [STORAGE, STORAGE, CACHE], id="small, in parts: when asked again"),
        pytest.param(MIDDLE, [ALL, ALL, PART], [STORAGE, STORAGE, CACHE], id="middling: when asked again"),
        pytest.param(LARGE, [ALL, ALL, PART, PART], [STORAGE] * 4, id="large: never"),
        pytest.param(SMALL, [NOTHING, NOTHING, PART], [STORAGE] * 3, id="what sends no bytes asks for none"),
    ],
)
async def test_an_object_is_read_into_memory(
    tmp_path: Path, body: bytes, asked: list[tuple[ByteRange, ...] | None], answers: list[Source]
) -> None:
    async with reading_of(tmp_path, body) as reading:
        for ranges, source in zip(asked, answers, strict=True):
            representation, got = await reading.get(ranges=ranges)

            assert got == (body if ranges is None else b"".join(body[part.start : part.stop] for part in ranges))
            assert representation.source is source
        assert reading.cache.size == (len(body) if CACHE in answers else 0)


async def test_no_more_is_read_from_the_store_than_is_sent(tmp_path: Path) -> None:
    async with reading_of(tmp_path, SMALL) as reading:
        await reading.get(ranges=NOTHING)
        assert reading.store.calls["open"] == 0

        await reading.get(ranges=PART)

        assert (reading.store.calls["open"], reading.store.calls["read"], reading.cache.size) == (1, 1, 0)


async def test_a_crowd_reads_a_middling_object_once_for_the_first_and_once_for_all_others(tmp_path: Path) -> None:
    async with reading_of(tmp_path, MIDDLE) as reading:
        gate = reading.store.hang("open")
        crowd = [asyncio.create_task(reading.get()) for _ in range(20)]
        await until(lambda: len(reading.observed.hits) == 20)
        gate.set()

        assert {got for _, got in await asyncio.gather(*crowd)} == {MIDDLE}
        assert reading.store.calls["open"] == 2


async def test_a_part_is_cut_from_what_is_being_loaded_anyway(tmp_path: Path) -> None:
    async with reading_of(tmp_path, SMALL) as reading:
        gate = reading.store.hang("open")
        asked = [asyncio.create_task(reading.get(ranges=ranges)) for ranges in (ALL, PART)]
        await until(lambda: len(reading.observed.hits) == 2)
        gate.set()

        assert [got for _, got in await asyncio.gather(*asked)] == [SMALL, SMALL[10:20]]
        assert reading.store.calls["open"] == 1


@pytest.mark.parametrize("size", [HASHED_AT_ONCE, HASHED_AT_ONCE + 1], ids=["hashed at once", "hashed in a thread"])
async def test_what_is_damaged_is_never_kept(tmp_path: Path, size: int) -> None:
    body = jpeg(size)
    stored = an_object(body, sha256=sha256(b"what was stored"))
    async with open_reading(tmp_path, body, stored=stored, max_item=MAX_ITEM) as reading:
        reading.origin.failures.append(OriginGone())

        with pytest.raises(StoreUnavailable):
            await reading.get()

        assert len(reading.cache) == 0


# What is not there ----------------------------------------------------------------------------------------------------


async def test_a_crowd_that_asks_for_an_absent_object_asks_the_store_once_in_a_while(tmp_path: Path) -> None:
    async with reading_of(tmp_path, LARGE) as reading:
        reading.store.fail_next("open", ObjectNotFound())
        for _ in range(3):
            representation, got = await reading.get()
            assert (representation.source, got) == (Source.PROVIDER, LARGE)
        assert reading.store.calls["open"] == 1

        skip(ABSENT_TTL)

        assert (await reading.get())[0].source is STORAGE


@pytest.mark.parametrize("error", [StoreUnavailable, StoreForbidden])  # 403 may mean absent: see StoreForbidden
async def test_what_is_no_certain_absence_is_not_remembered(tmp_path: Path, error: type[StorageError]) -> None:
    async with reading_of(tmp_path, LARGE) as reading:
        reading.store.fail_next("open", error())
        await reading.get()

        assert (await reading.get())[0].source is STORAGE


@pytest.mark.parametrize("change", [{"id": "another"}, {"url": "memory:///media/m/again", "key": "media/m/again"}])
async def test_what_is_stored_anew_is_looked_for_at_once(tmp_path: Path, change: dict[str, object]) -> None:
    async with reading_of(tmp_path, LARGE) as reading:
        reading.store.fail_next("open", ObjectNotFound())
        await reading.get()
        await reading.store.put("media/m/again", tmp_path / "body", content_type="image/jpeg")

        representation, got = await reading.get(a_record(replace(an_object(LARGE), **change)))  # type: ignore[arg-type] # named in the table

        assert (representation.source, got) == (STORAGE, LARGE)
