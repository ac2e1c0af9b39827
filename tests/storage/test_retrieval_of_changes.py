"""Records are a moment old when they are read by: what was stored, moved or deleted meanwhile is found out in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from storage.errors import MediaError, OriginFailed, OriginGone, StoreUnavailable
from storage.memory import MemoryStore
from storage.representation import Source
from storage.store import ByteRange, ObjectReader
from tests.storage.flying import jpeg
from tests.storage.reading import CACHED_ITEM, NOON, Reading, a_record, an_object, body_of, open_reading

LARGE = jpeg(CACHED_ITEM * 3)


@pytest.fixture
async def reading(tmp_path: Path) -> AsyncIterator[Reading]:
    """A large medium; a test says what the database knows of it."""
    async with open_reading(tmp_path, LARGE, stored=an_object(LARGE)) as opened:
        yield opened


async def test_what_was_stored_meanwhile_is_read_from_the_store(reading: Reading) -> None:
    representation, got = await reading.get(a_record())

    assert (representation.source, got) == (Source.STORAGE, LARGE)
    assert reading.origin.opened == 0


async def test_what_was_stored_meanwhile_in_a_store_that_is_down_comes_from_the_provider(reading: Reading) -> None:
    reading.store.fail_next("open", StoreUnavailable())

    representation, got = await reading.get(a_record())

    assert (representation.source, got) == (Source.PROVIDER, LARGE)


async def test_what_was_stored_anew_meanwhile_is_tried_before_the_provider(reading: Reading) -> None:
    stale = a_record(an_object(LARGE, id="old", key="gone", url="memory:///gone"))

    representation, got = await reading.get(stale)

    assert (representation.source, got) == (Source.STORAGE, LARGE)
    assert reading.origin.opened == 0


async def test_a_crowd_with_stale_records_reads_the_store(reading: Reading) -> None:
    answers = await asyncio.gather(*(reading.get(a_record()) for _ in range(10)))

    assert {representation.source for representation, _ in answers} == {Source.STORAGE}
    assert reading.origin.opened == 0


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
async def test_what_was_deleted_meanwhile_is_neither_fetched_nor_served(reading: Reading, *, stored: bool) -> None:
    reading.record = replace(reading.record if stored else a_record(), deleted_at=NOON)

    with pytest.raises(OriginGone):
        await reading.get(a_record())

    assert (reading.origin.opened, reading.store.calls["open"]) == (0, 0)


@pytest.mark.parametrize(
    "elsewhere",
    [{"backend": "s3", "url": "s3://bucket/media/m/p"}, {"url": "memory://another-bucket/media/m/p"}],
    ids=["another backend", "another bucket"],
)
@pytest.mark.parametrize("meanwhile", [True, False], ids=["stored meanwhile", "stored before"])
async def test_what_is_stored_where_we_cannot_read_comes_from_the_provider(
    reading: Reading, elsewhere: dict[str, object], *, meanwhile: bool
) -> None:
    reading.record = a_record(an_object(LARGE, **elsewhere))
    assert reading.retrieval.readable(reading.record) is None

    representation, got = await reading.get(a_record() if meanwhile else reading.record)

    assert (representation.source, got) == (Source.PROVIDER, LARGE)
    assert reading.store.calls["open"] == 0


# Who holds what -------------------------------------------------------------------------------------------------------


class CountingStore(MemoryStore):
    """Knows how many of its objects are open."""

    def __init__(self) -> None:
        super().__init__()
        self.now_open = 0

    @asynccontextmanager
    async def open(self, key: str, byte_range: ByteRange | None = None) -> AsyncIterator[ObjectReader]:
        async with super().open(key, byte_range) as reader:
            self.now_open += 1
            try:
                yield reader
            finally:
                self.now_open -= 1


@pytest.fixture
async def counted(tmp_path: Path) -> AsyncIterator[tuple[Reading, CountingStore]]:
    store = CountingStore()
    async with open_reading(tmp_path, LARGE, stored=an_object(LARGE), store=store) as opened:
        yield opened, store
    assert store.now_open == 0


async def test_a_store_that_failed_is_let_go_before_the_provider_is_asked(
    counted: tuple[Reading, CountingStore],
) -> None:
    # It opened, and then sent nothing: its connection must not be kept for as long as the client reads.
    reading, store = counted
    store.break_stream_after(0)

    async with reading.retrieval.open(reading.record, lambda _: None) as opened:
        assert opened.representation.source is Source.PROVIDER
        assert store.now_open == 0
        assert await body_of(opened) == LARGE


async def test_a_flight_that_failed_is_let_go_before_the_store_is_asked(tmp_path: Path) -> None:
    async with open_reading(tmp_path, LARGE, stored=an_object(LARGE), storage_first=False) as reading:
        reading.origin.failures.append(OriginFailed())
        async with reading.retrieval.open(reading.record, lambda _: None) as opened:
            assert opened.representation.source is Source.STORAGE
            assert reading.node.flights._flights == {}


async def test_a_later_range_is_closed_with_the_answer_even_if_nobody_read_to_its_end(
    counted: tuple[Reading, CountingStore],
) -> None:
    reading, store = counted
    ranges = (ByteRange(0, 10), ByteRange(20, 200_000), ByteRange(250_000, 250_001))
    async with reading.retrieval.open(reading.record, lambda _: ranges) as opened:
        assert await body_of(opened, ranges[:1]) == LARGE[:10]
        abandoned = opened.read(ranges[1])
        await anext(abandoned)
        assert store.now_open == 2
        assert await body_of(opened, ranges[2:]) == LARGE[250_000:250_001]
        assert store.now_open == 2

    assert store.now_open == 0


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "at the provider"])
async def test_a_client_that_leaves_lets_everything_go(counted: tuple[Reading, CountingStore], *, stored: bool) -> None:
    reading, store = counted
    reading.record = reading.record if stored else a_record()
    reading.origin.hold(100_000)
    begun = asyncio.Event()

    async def client() -> None:
        async with reading.retrieval.open(reading.record, lambda _: None) as opened:
            async for _ in opened.read(None):
                begun.set()
                await asyncio.Event().wait()

    leaving = asyncio.create_task(client())
    await begun.wait()
    leaving.cancel()
    await asyncio.wait([leaving])

    assert store.now_open == 0
    assert all(flight.readers == 0 for flight in reading.node.flights._flights.values())


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "at the provider"])
async def test_an_answer_that_is_refused_lets_everything_go(
    counted: tuple[Reading, CountingStore], *, stored: bool
) -> None:
    class Unsatisfiable(MediaError):
        """What the gateway raises when it has seen the representation."""

    def want(_: object) -> None:
        raise Unsatisfiable

    reading, store = counted
    reading.record = reading.record if stored else a_record()

    with pytest.raises(Unsatisfiable):
        async with reading.retrieval.open(reading.record, want) as opened:
            want(opened)

    assert store.now_open == 0
    assert all(flight.readers == 0 for flight in reading.node.flights._flights.values())
    assert (reading.origin.opened, reading.observed.fallbacks) == (0 if stored else 1, [])
