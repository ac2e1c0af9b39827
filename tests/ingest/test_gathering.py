"""Writers who come while a transaction is under way share the next one."""

import asyncio
from collections.abc import Sequence

import pytest

from ingest.gathering import MAX_MESSAGES, MAX_WAITING, Gathering
from storage.errors import RecordsError, RecordsUnavailable
from storage.record import NewMessage
from tests.running import until


def message(name: str) -> NewMessage:
    return NewMessage(message_id=name, workspace_id="default", provider_media_id=name)


class Table:
    """A table that knows its messages, counts its transactions, and fails on demand."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.transactions: list[list[str]] = []
        self.failures: list[Exception] = []
        self.poison: str | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, new: Sequence[NewMessage]) -> list[str]:
        ids = [each.message_id for each in new]
        self.transactions.append(ids)
        await self.open.wait()
        if self.failures:
            raise self.failures.pop()
        if self.poison in ids:
            raise RecordsError
        inserted = [each for each in dict.fromkeys(ids) if each not in self.known]
        self.known.update(inserted)
        return inserted


async def test_a_lone_writer_waits_for_nobody() -> None:
    table = Table()
    assert await Gathering(table.write).add([message("a"), message("b")]) == 2
    assert table.transactions == [["a", "b"]]


async def test_a_crowd_shares_one_transaction_after_the_one_under_way() -> None:
    table = Table()
    table.open.clear()
    gathering = Gathering(table.write)
    writers = [asyncio.create_task(gathering.add([message(str(number))])) for number in range(20)]
    await until(lambda: table.transactions)
    late = asyncio.create_task(gathering.add([message("late")]))
    await asyncio.sleep(0)
    table.open.set()
    assert await asyncio.gather(*writers, late) == [1] * 21
    assert len(table.transactions) == 2


async def test_of_twins_in_one_transaction_one_is_new() -> None:
    table = Table()
    gathering = Gathering(table.write)
    assert sorted(await asyncio.gather(*(gathering.add([message("twin")]) for _ in range(3)))) == [0, 0, 1]


async def test_everybody_in_a_transaction_hears_that_the_database_is_gone_and_the_next_try_works() -> None:
    table = Table()
    table.failures = [RecordsUnavailable()]
    gathering = Gathering(table.write)
    answers = await asyncio.gather(*(gathering.add([message(name)]) for name in "abc"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [RecordsUnavailable] * 3
    assert await gathering.add([message("a")]) == 1


async def test_one_bad_message_costs_only_its_own_writer() -> None:
    table = Table()
    table.poison = "bad"
    gathering = Gathering(table.write)
    names = ("good", "bad", "fine")
    answers = await asyncio.gather(*(gathering.add([message(name)]) for name in names), return_exceptions=True)
    assert [answers[0], type(answers[1]), answers[2]] == [1, RecordsError, 1]


async def test_a_writer_that_leaves_takes_nobody_along_and_is_written_all_the_same() -> None:
    table = Table()
    table.open.clear()
    gathering = Gathering(table.write)
    leaver, stayer = (asyncio.create_task(gathering.add([message(name)])) for name in ("leaver", "stayer"))
    await until(lambda: table.transactions)
    leaver.cancel()
    table.open.set()
    assert await stayer == 1
    assert table.known == {"leaver", "stayer"}


async def test_a_transaction_is_bounded() -> None:
    table = Table()
    gathering = Gathering(table.write)
    many = [message(str(number)) for number in range(MAX_MESSAGES)]
    await asyncio.gather(gathering.add(many), gathering.add([message("one more")]))
    assert [len(ids) for ids in table.transactions] == [MAX_MESSAGES, 1]


async def test_a_writer_beyond_the_bound_is_sent_away_at_once() -> None:
    table = Table()
    table.open.clear()
    gathering = Gathering(table.write)
    crowd = [asyncio.create_task(gathering.add([message(str(number))])) for number in range(MAX_WAITING + 1)]
    await until(crowd[-1].done)
    with pytest.raises(RecordsUnavailable):
        crowd.pop().result()
    table.open.set()
    assert await asyncio.gather(*crowd) == [1] * MAX_WAITING
