"""Whatever fails, the next layer answers; and what is answered is the same from every layer, or an honest error."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from storage.errors import (
    MediaError,
    ObjectFrozen,
    ObjectNotFound,
    OriginBusy,
    OriginFailed,
    OriginGone,
    OriginLied,
    OriginTimeout,
    RecordsUnavailable,
    StorageError,
    StoreForbidden,
    StoreFull,
    StoreUnavailable,
)
from storage.layers import EXPIRED, Deadlines
from storage.record import Status
from storage.representation import Representation, Source
from storage.store import CHUNK_SIZE, ByteRange
from tests.running import until
from tests.storage.flying import jpeg, sha256, skip
from tests.storage.reading import CACHED_ITEM, NOON, Reading, a_record, an_object, open_reading

SMALL, LARGE = jpeg(CACHED_ITEM), jpeg(CACHED_ITEM * 3)
SIZES = pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
IMPATIENT = Deadlines(storage_first_byte=0.02, storage_whole=0.02)
Fault = Callable[[Reading], None]


@pytest.fixture
async def reading(tmp_path: Path) -> AsyncIterator[Reading]:
    """A large stored medium."""
    async with open_reading(tmp_path, LARGE, stored=an_object(LARGE)) as opened:
        yield opened


@pytest.fixture
async def fresh(tmp_path: Path) -> AsyncIterator[Reading]:
    """A small medium that nobody has fetched yet."""
    async with open_reading(tmp_path, SMALL, stored=None) as opened:
        yield opened


def raises(error: StorageError) -> Fault:
    return lambda reading: reading.store.fail_next("open", error)


def hangs_opening(reading: Reading) -> None:
    reading.store.hang("open")


def hangs_reading(reading: Reading) -> None:
    reading.store.hang("read")


def breaks_off_at_once(reading: Reading) -> None:
    reading.store.break_stream_after(0)


def is_another_size(reading: Reading) -> None:
    reading.record = replace(reading.record, stored=an_object(reading.origin.body, size=len(reading.origin.body) + 1))


FAULTS: dict[str, tuple[Fault, type[StorageError]]] = {
    "absent": (raises(ObjectNotFound()), ObjectNotFound),
    "down": (raises(StoreUnavailable()), StoreUnavailable),
    "forbidden": (raises(StoreForbidden()), StoreForbidden),
    "frozen": (raises(ObjectFrozen()), ObjectFrozen),
    "slow to open": (hangs_opening, StoreUnavailable),
    "slow to send": (hangs_reading, StoreUnavailable),
    "breaking off": (breaks_off_at_once, StoreUnavailable),
    "another size": (is_another_size, StoreUnavailable),
}


@SIZES
@pytest.mark.parametrize("fault", FAULTS)
async def test_what_the_store_does_not_deliver_the_provider_does(tmp_path: Path, body: bytes, fault: str) -> None:
    async with open_reading(tmp_path, body, stored=an_object(body), deadlines=IMPATIENT) as reading:
        FAULTS[fault][0](reading)

        representation, got = await reading.get()

        assert got == body
        assert representation.source is Source.PROVIDER
        assert reading.observed.fallbacks == ["ok"]


@pytest.mark.parametrize("failure", [OriginGone, OriginBusy, OriginFailed])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_store_that_is_down_is_not_an_expired_medium(
    tmp_path: Path, fault: str, failure: type[MediaError]
) -> None:
    async with open_reading(tmp_path, LARGE, stored=an_object(LARGE), deadlines=IMPATIENT) as reading:
        break_store, error = FAULTS[fault]
        break_store(reading)
        reading.origin.failures.append(failure())

        with pytest.raises(MediaError) as failed:
            await reading.get()

        # Only a store that certainly does not have it leaves the answer to the provider.
        assert type(failed.value) is (failure if error is ObjectNotFound else error)
        assert failed.value.__cause__ is not failed.value
        assert reading.observed.fallbacks == [failure.__name__]


async def test_a_damaged_object_is_neither_served_nor_remembered(tmp_path: Path) -> None:
    stored = an_object(SMALL, sha256=sha256(b"what was stored"))
    async with open_reading(tmp_path, SMALL, stored=stored) as reading:
        for _ in range(2):
            reading.origin.failures.append(OriginGone())
            with structlog.testing.capture_logs() as logs, pytest.raises(StoreUnavailable):
                await reading.get()

            assert "stored object is damaged" in [entry["event"] for entry in logs]
        assert reading.cache.size == 0
        assert reading.store.calls["open"] == 2


async def test_a_store_that_breaks_off_later_breaks_the_answer_off(reading: Reading) -> None:
    reading.store.break_stream_after(CHUNK_SIZE + 1)
    got = bytearray()

    async def client() -> None:
        async with reading.retrieval.open(reading.record, lambda _: None) as opened:
            async for chunk in opened.read(None):
                got.extend(chunk)

    with pytest.raises(StoreUnavailable):
        await client()

    assert got == LARGE[: CHUNK_SIZE + 1]


async def test_a_store_that_begins_and_never_ends_is_given_up_for_a_small_object(tmp_path: Path) -> None:
    async with open_reading(tmp_path, SMALL, stored=an_object(SMALL)) as reading:
        first = reading.store.hang("read")
        waiting = asyncio.create_task(reading.get())
        await until(lambda: reading.store.calls["read"] == 1)
        first.set()
        reading.store._gates["read"] = asyncio.Event()
        await until(lambda: reading.store.calls["read"] == 2)
        skip(11)

        representation, got = await waiting

        assert (representation.source, got) == (Source.PROVIDER, SMALL)


# The same from everywhere ---------------------------------------------------------------------------------------------


async def test_a_medium_is_the_same_from_every_layer(fresh: Reading) -> None:
    stored = an_object(SMALL)
    from_provider = await fresh.get()
    from_storage = await fresh.get(a_record(replace(stored, workspace_id="elsewhere")))
    from_cache = await fresh.get(a_record(stored))

    expected = Representation(
        content_type="image/jpeg",
        size=len(SMALL),
        sha256=sha256(SMALL),
        last_modified=NOON,
        source=Source.CACHE,
        verified=True,
    )
    assert from_provider == (replace(expected, source=Source.PROVIDER, verified=False), SMALL)
    assert from_storage == (replace(expected, source=Source.STORAGE), SMALL)
    assert from_cache == (expected, SMALL)
    assert await fresh.retrieval.describe(a_record(stored)) == expected


@SIZES
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "at the provider"])
@pytest.mark.parametrize(
    "ranges",
    [
        (ByteRange(0, 1),),
        (ByteRange(CACHED_ITEM - 1, CACHED_ITEM),),
        (ByteRange(10, 70_000),),
        (ByteRange(0, 10), ByteRange(100, 80_000), ByteRange(90_000, CACHED_ITEM)),
        (ByteRange(90_000, 90_001), ByteRange(5, 7)),
        (),
    ],
    ids=str,
)
async def test_ranges_are_slices_at_every_layer(
    tmp_path: Path, body: bytes, *, stored: bool, ranges: tuple[ByteRange, ...]
) -> None:
    async with open_reading(tmp_path, body, stored=an_object(body) if stored else None) as reading:
        for _ in range(2):  # the second time perhaps from memory
            _, got = await reading.get(ranges=ranges)

            assert got == b"".join(body[part.start : part.stop] for part in ranges)
        if stored and body is LARGE:
            assert reading.store.calls["open"] == 2 * len(ranges)


async def test_a_description_does_not_touch_the_store(reading: Reading) -> None:
    stored = await reading.retrieval.describe(reading.record)

    assert (stored.source, stored.verified) == (Source.STORAGE, True)
    assert (reading.store.calls["open"], reading.origin.opened) == (0, 0)


async def test_a_description_does_not_touch_the_provider(fresh: Reading) -> None:
    unknown = await fresh.retrieval.describe(replace(a_record(), declared_size=7))

    assert (unknown.size, unknown.content_type, unknown.verified) == (7, "image/jpeg", False)
    assert (fresh.store.calls["open"], fresh.origin.opened) == (0, 0)


async def test_what_has_arrived_is_described_by_its_bytes(fresh: Reading) -> None:
    await fresh.get()
    arrived = await fresh.retrieval.describe(replace(a_record(), declared_type="image/png"))

    assert (arrived.size, arrived.sha256, arrived.content_type) == (len(SMALL), sha256(SMALL), "image/jpeg")
    assert (arrived.source, arrived.verified) == (Source.PROVIDER, True)


async def test_what_was_stored_since_is_described_as_stored(reading: Reading) -> None:
    outdated = a_record()
    assert (await reading.retrieval.describe(outdated)).source is Source.STORAGE


async def test_a_crowd_reads_a_small_object_once(tmp_path: Path) -> None:
    async with open_reading(tmp_path, SMALL, stored=an_object(SMALL)) as reading:
        gate = reading.store.hang("open")
        crowd = [asyncio.create_task(reading.get()) for _ in range(20)]
        await until(lambda: len(reading.observed.hits) == 20)
        gate.set()

        assert {got for _, got in await asyncio.gather(*crowd)} == {SMALL}
        assert reading.store.calls["open"] == 1
        assert (await reading.get())[0].source is Source.CACHE
        assert reading.observed.hits == [False] * 20 + [True]


# The provider ---------------------------------------------------------------------------------------------------------


async def test_what_the_provider_delivered_is_ingested_once_and_remembered(fresh: Reading) -> None:
    await asyncio.gather(*(fresh.get() for _ in range(10)))
    await until(lambda: fresh.landed)

    assert (fresh.landed, fresh.origin.opened) == (["m"], 1)
    assert (await fresh.get(a_record(an_object(SMALL))))[0].source is Source.CACHE
    assert fresh.store.calls["open"] == 0


async def test_what_is_not_the_messages_medium_any_more_when_it_lands_is_not_ingested_and_leaves_no_spool(
    fresh: Reading,
) -> None:
    before, fresh.record = fresh.record, replace(fresh.record, provider_media_id="another")
    assert (await fresh.get(before))[1] == SMALL
    await until(lambda: not fresh.node.flights._tasks)

    assert fresh.landed == []
    assert fresh.node.spools.state(before.spool) is None


async def test_an_ingest_that_cannot_be_scheduled_is_no_business_of_the_client(fresh: Reading) -> None:
    async def down(_: object) -> None:
        raise RecordsUnavailable

    fresh.retrieval._landed = down
    with structlog.testing.capture_logs() as logs:
        assert (await fresh.get())[1] == SMALL
        await until(lambda: logs)

    assert [entry["event"] for entry in logs] == ["ingest could not be scheduled"]


async def test_what_fails_verification_is_not_remembered_and_not_ingested(fresh: Reading) -> None:
    fresh.origin.sha256 = sha256(b"something else")

    with pytest.raises(OriginLied):
        await fresh.get()

    assert (fresh.landed, fresh.cache.size) == ([], 0)


async def test_an_empty_medium_is_verified_before_its_answer_begins(fresh: Reading) -> None:
    # It has no last byte that could be held back.
    fresh.origin.body, fresh.origin.size = b"", 0

    with pytest.raises(OriginLied):
        async with fresh.retrieval.open(fresh.record, lambda _: None):
            pytest.fail("it began")
    fresh.origin.sha256 = sha256(b"")

    assert (await fresh.get())[1] == b""


@pytest.mark.parametrize("change", [{"status": Status.FAILED, "error": EXPIRED}, {"provider_media_id": None}], ids=str)
async def test_a_provider_that_cannot_have_it_is_not_asked(fresh: Reading, change: dict[str, object]) -> None:
    with pytest.raises(OriginGone):
        await fresh.get(replace(fresh.record, **change))  # type: ignore[arg-type] # named in the table

    assert fresh.origin.opened == 0


async def test_a_provider_that_is_slow_is_given_up_but_its_flight_goes_on(fresh: Reading) -> None:
    fresh.origin.hold()
    waiting = asyncio.create_task(fresh.get())
    await fresh.origin.waiting.reaches(0)
    skip(26)

    with pytest.raises(OriginTimeout):
        await waiting
    fresh.origin.release()

    assert (await fresh.get())[1] == SMALL
    assert fresh.origin.opened == 1


@SIZES
async def test_with_the_provider_first_the_store_answers_where_it_fails(tmp_path: Path, body: bytes) -> None:
    async with open_reading(tmp_path, body, stored=an_object(body), storage_first=False) as reading:
        assert (await reading.get())[0].source is Source.PROVIDER
        await reading.node.flights.discard(reading.record.spool)

        # A full disk is the provider layer's failure too: nothing can be downloaded.
        for failure in (OriginGone(), OriginBusy(), StoreFull()):
            reading.origin.failures.append(failure)
            representation, got = await reading.get()

            assert got == body
            assert representation.source in (Source.STORAGE, Source.CACHE)


async def test_with_both_down_and_the_provider_first_the_store_has_the_last_word(tmp_path: Path) -> None:
    async with open_reading(tmp_path, LARGE, stored=an_object(LARGE), storage_first=False) as reading:
        reading.origin.failures.append(OriginGone())
        reading.store.fail_next("open", StoreUnavailable())

        with pytest.raises(StoreUnavailable):
            await reading.get()
