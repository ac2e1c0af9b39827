"""One load serves all who ask, and nobody sees what was before our own change."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.cache import MAX_RECORDS, Coalesced, RecordCache
from storage.errors import RecordsUnavailable
from storage.record import MediaRecord
from tests.messages import stored
from tests.storage.flying import turns
from tests.storage.reading import a_record

# One load for many askers ---------------------------------------------------------------------------------------------


class Work:
    """Work that ends when it is told to."""

    def __init__(self, outcome: object = "answer") -> None:
        self.begun = 0
        self.gate = asyncio.Event()
        self.outcome = outcome

    async def __call__(self) -> object:
        self.begun += 1
        await self.gate.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


STEPS = st.lists(st.one_of(st.just("ask"), st.integers(0, 9), st.just("wait")), max_size=30)
"""Somebody asks; the n-th asker leaves; all take their turns."""


@given(STEPS, st.booleans())
def test_whoever_leaves_the_others_get_the_answer_of_one_work(steps: list[str | int], fails: bool) -> None:  # noqa: FBT001 drawn
    async def play() -> None:
        work = Work(RecordsUnavailable() if fails else "answer")
        coalesced = Coalesced[str, object]()
        askers: list[asyncio.Task[object]] = []
        left = set[int]()
        for step in steps:
            if step == "ask":
                askers.append(asyncio.create_task(coalesced.get("key", work)))
            elif isinstance(step, int) and step < len(askers):
                askers[step].cancel()
                left.add(step)
            else:
                await turns()
        await turns()
        work.gate.set()
        ends = await asyncio.gather(*askers, return_exceptions=True)

        for number, end in enumerate(ends):
            assert isinstance(end, asyncio.CancelledError) if number in left else end is work.outcome
        assert work.begun <= 1
        await turns()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert coalesced._tasks == {}

    asyncio.run(play())


async def test_the_next_asker_after_an_answer_gets_a_new_one() -> None:
    coalesced, counts = Coalesced[str, int](), Counter[str]()

    async def work() -> int:
        counts["begun"] += 1
        return counts["begun"]

    assert [await coalesced.get("key", work), await coalesced.get("key", work)] == [1, 2]


async def test_different_things_are_loaded_at_the_same_time() -> None:
    coalesced, one, other = Coalesced[str, object](), Work("one"), Work("other")
    asked = [asyncio.create_task(coalesced.get(key, work)) for key, work in (("1", one), ("2", other))]
    await turns()

    assert one.begun == other.begun == 1
    one.gate.set()
    other.gate.set()
    assert await asyncio.gather(*asked) == ["one", "other"]


async def test_a_failure_that_nobody_waited_for_is_not_reported_as_lost() -> None:
    coalesced, work = Coalesced[str, object](), Work(RecordsUnavailable())
    asker = asyncio.create_task(coalesced.get("key", work))
    await turns()
    asker.cancel()
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    work.gate.set()

    await turns()

    assert reported == []


# Records --------------------------------------------------------------------------------------------------------------


class Database:
    """Has one record, and counts who asks; a slow one waits, having read."""

    def __init__(self, record: MediaRecord | None) -> None:
        self.record = record
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, message_id: str) -> MediaRecord | None:
        self.asked += 1
        record = self.record
        await self.gate.wait()
        return record


RECORD = a_record()
CHANGED = replace(RECORD, filename="changed.jpg")


async def test_a_record_is_believed_for_a_moment() -> None:
    now = 0.0
    database = Database(RECORD)
    cache = RecordCache(database.load, ttl=2.0, clock=lambda: now)

    assert await cache.get("m") is RECORD
    database.record = CHANGED
    now = 1.9
    assert await cache.get("m") is RECORD
    now = 2.1
    assert await cache.get("m") is CHANGED
    assert database.asked == 2


async def test_a_look_asks_nobody() -> None:
    now = 0.0
    database = Database(RECORD)
    cache = RecordCache(database.load, ttl=2.0, clock=lambda: now)

    assert cache.peek("m") is None
    assert database.asked == 0
    await cache.get("m")
    assert cache.peek("m") is RECORD
    now = 2.1
    assert cache.peek("m") is None


async def test_an_unknown_message_is_believed_to_be_unknown_for_a_second_at_most() -> None:
    now = 0.0
    database = Database(None)
    cache = RecordCache(database.load, clock=lambda: now)
    assert await cache.get("m") is None

    database.record = RECORD

    now = 0.9
    assert await cache.get("m") is None
    assert database.asked == 1
    now = 1.1
    assert await cache.get("m") is RECORD


async def test_a_message_that_we_have_just_registered_is_known() -> None:
    database = Database(None)
    cache = RecordCache(database.load)
    await cache.get("m")

    database.record = RECORD
    cache.forget("m")

    assert await cache.get("m") is RECORD


async def test_what_has_not_changed_stays_the_same_object() -> None:
    now = 0.0
    database = Database(RECORD)
    cache = RecordCache(database.load, ttl=2.0, clock=lambda: now)
    await cache.get("m")

    database.record = replace(RECORD)
    now = 2.1

    assert await cache.get("m") is RECORD
    assert database.asked == 2


async def test_nobody_joins_a_question_that_was_asked_too_long_ago() -> None:
    now = 0.0
    database = Database(RECORD)
    cache = RecordCache(database.load, ttl=2.0, clock=lambda: now)
    database.gate.clear()
    early = asyncio.create_task(cache.get("m"))
    await turns()
    now, database.record = 2.1, CHANGED
    late = asyncio.create_task(cache.get("m"))
    await turns()
    database.gate.set()

    assert await early is RECORD
    assert await late is CHANGED
    assert await cache.get("m") is CHANGED


async def test_there_are_never_more_than_so_many_records() -> None:
    async def load(message_id: str) -> MediaRecord:
        return replace(RECORD, message_id=message_id)

    cache = RecordCache(load, clock=lambda: 0.0)
    for number in range(MAX_RECORDS + 1):
        await cache.get(str(number))
        cache.peek("0")

    assert cache.peek("0") is not None
    assert cache.peek("1") is None  # the one that was looked at least recently
    assert cache.peek(str(MAX_RECORDS)) is not None


async def test_a_crowd_asks_the_database_once() -> None:
    database = Database(RECORD)
    cache = RecordCache(database.load)

    assert await asyncio.gather(*(cache.get("m") for _ in range(50))) == [RECORD] * 50
    assert database.asked == 1


async def test_our_own_change_is_seen_at_once() -> None:
    database = Database(RECORD)
    cache = RecordCache(database.load)
    await cache.get("m")

    database.record = CHANGED
    cache.forget("m")

    assert await cache.get("m") is CHANGED


@pytest.mark.parametrize("another", [False, True], ids=["asked again later", "asked again at once"])
async def test_what_was_read_before_our_own_change_is_not_remembered_after_it(*, another: bool) -> None:
    # A reader had asked the database, but not got its answer yet, when a DELETE was answered: without care the record
    # would be served for two more seconds.
    database = Database(RECORD)
    cache = RecordCache(database.load)
    database.gate.clear()
    early = asyncio.create_task(cache.get("m"))
    await turns()
    database.record = CHANGED
    cache.forget("m")
    late = [asyncio.create_task(cache.get("m"))] if another else []
    await turns()
    database.gate.set()

    assert await early is RECORD
    assert await asyncio.gather(*late) == [CHANGED] * another
    assert await cache.get("m") is CHANGED


async def test_a_database_that_is_down_is_asked_again() -> None:
    async def load(message_id: str) -> MediaRecord | None:
        if not tries:
            tries.append(message_id)
            raise RecordsUnavailable
        return RECORD

    tries: list[str] = []
    cache = RecordCache(load)
    with pytest.raises(RecordsUnavailable):
        await cache.get("m")

    assert await cache.get("m") is RECORD


STORED = replace(RECORD, stored=stored(id="0" * 32))
TOLD = {"its id": ["m"], "its object": ["0" * 32], "anything": None}


@pytest.mark.parametrize("subjects", TOLD.values(), ids=TOLD)
async def test_what_has_changed_is_dropped(subjects: list[str] | None) -> None:
    database = Database(STORED)
    cache = RecordCache(database.load)
    await cache.get("m")
    cache.drop(["another"])
    assert cache.peek("m") is STORED

    cache.drop(subjects)

    assert cache.peek("m") is None
    assert cache._keys_about == {}


@pytest.mark.parametrize("subjects", TOLD.values(), ids=TOLD)
async def test_what_changes_while_it_is_asked_for_is_not_remembered(subjects: list[str] | None) -> None:
    database = Database(STORED)
    cache = RecordCache(database.load)
    database.gate.clear()
    asking = asyncio.create_task(cache.get("m"))
    await turns()
    cache.drop(subjects)
    database.gate.set()

    assert await asking is STORED
    assert cache.peek("m") is None


async def test_a_record_that_refers_to_another_object_now_is_found_by_that() -> None:
    database = Database(STORED)
    cache = RecordCache(database.load, ttl=1e-9)
    await cache.get("m")
    database.record = replace(RECORD, stored=stored(id="1" * 32))
    await cache.get("m")

    assert cache._keys_about == {"1" * 32: {"m"}}
