"""The tallies of media agree with the media themselves, whatever has happened to these, folded or not."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from random import Random

import pytest
from sqlalchemy import delete, func, select

from storage.database import Database, writing
from storage.errors import RecordsUnavailable
from storage.record import Processing, Status
from storage.records import FINAL, Records
from storage.renditions import Renditions
from storage.schema import messages, tallies
from tests.messages import Clock, message, stored

IDS = [f"m{number}" for number in range(6)]
OBJECTS = [stored(content, id=content * 32) for content in "ab"]


class Life:
    """Does whatever may be done to a few messages, by chance."""

    def __init__(self, engine: Database, seed: int) -> None:
        self.engine = engine
        self.records = Records(engine, clock=Clock())
        self.renditions = Renditions(engine, clock=Clock())
        self.chance = Random(seed)

    async def act(self) -> None:
        chance, records = self.chance, self.records
        id_, each = chance.choice(IDS), chance.choice(OBJECTS)
        acts: list[Callable[[], Awaitable[object]]] = [
            lambda: records.add([message(id_), message(chance.choice(IDS), error="provider-undeliverable")]),
            lambda: records.register(message(id_, provider_media_id=chance.choice("xyz"))),
            lambda: records.adopt(id_, each, content_type="image/jpeg"),
            lambda: records.mark(id_, chance.choice(list(Status)), error=chance.choice([None, "x", *FINAL])),
            lambda: records.delete(id_),
            records.fold_tallies,
            lambda: self._process(each.id),
            lambda: self._erase(id_),
        ]
        await chance.choice(acts)()

    async def _process(self, object_id: str) -> None:
        outcome = self.chance.choice([Processing.COMPLETED, Processing.QUARANTINED])
        await self.renditions.finish(object_id, outcome, recipe=1, keeping=[], error=None)

    async def _erase(self, message_id: str) -> None:
        async with writing(self.engine) as connection:
            await connection.execute(delete(messages).where(messages.c.message_id == message_id))


async def counted(engine: Database) -> tuple[dict[str, int], int]:
    """Count the media themselves: by status, and those that are lost."""
    live = messages.c.deleted_at.is_(None)
    lost = live & (messages.c.status == Status.FAILED) & messages.c.object_id.is_(None) & messages.c.error.in_(FINAL)
    async with engine.connect() as connection:
        found = await connection.execute(select(messages.c.status).where(live))
        count = await connection.execute(select(func.count()).select_from(messages).where(lost))
        return dict(Counter(found.scalars())), count.scalar_one()


@pytest.mark.parametrize("seed", range(4))
async def test_tallies_agree_with_the_media(engine: Database, seed: int) -> None:
    life = Life(engine, seed)
    for _ in range(60):
        with suppress(RecordsUnavailable):  # an object that is being deleted
            await life.act()
        assert (await life.records.count_by_status(), await life.records.count_lost()) == await counted(engine)


async def rows(engine: Database) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(select(func.count()).select_from(tallies))).scalar_one())


async def test_folding_leaves_a_row_for_each_state(engine: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.tallies.MAX_FOLDED", 7)
    records = Records(engine)
    for number in range(20):
        await records.add([message(f"m{number}")])
    await records.mark("m0", Status.FAILED, error="x")
    await records.delete("m1")

    await records.fold_tallies()

    assert await rows(engine) == 2
    assert await records.count_by_status() == {"pending": 18, "failed": 1}


async def test_many_may_fold_while_others_write(engine: Database) -> None:
    records = Records(engine)
    adding = [records.add([message(f"m{number}")]) for number in range(30)]
    await asyncio.gather(*adding, *(records.fold_tallies() for _ in range(5)))

    assert await records.count_by_status() == {"pending": 30}


async def test_expiring_media_are_counted_by_an_index_of_what_is_not_stored(engine: Database) -> None:
    clock = Clock()
    records = Records(engine, clock=clock)
    await records.add([message("m1"), message("m2")])
    clock.advance(timedelta(days=6, hours=1))

    assert await records.count_expiring(timedelta(hours=24)) == 2
    await records.adopt("m1", OBJECTS[0], content_type="a/b")
    assert await records.count_expiring(timedelta(hours=24)) == 1
