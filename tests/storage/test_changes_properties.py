"""Whatever happens in whatever order, nothing is believed longer than two seconds after it has changed."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import inf
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from storage.cache import RECORD_TTL, RecordCache
from storage.changes import Feed
from storage.errors import RecordsUnavailable
from storage.record import MediaRecord
from tests.messages import record, stored
from tests.storage.flying import turns

T = TypeVar("T")
MESSAGE, OBJECT = "m1", "a" * 32
OUTCOMES = ("answers", "answers", "hangs", "fails")


class Database:
    """Messages with the time of each version, and a feed; reads at once, and answers when it is let."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.row: MediaRecord | None = None
        self.ended: list[tuple[MediaRecord | None, float]] = []
        self.log: list[str] = []
        self.seen: int | None = None
        self.outcome = "answers"
        self.hanging: list[asyncio.Event] = []

    def clock(self) -> float:
        return self.now

    def write(self, new: MediaRecord) -> None:
        self.ended.append((self.row, self.now))
        self.row = new

    async def load(self, _message_id: str) -> MediaRecord | None:
        return await self._answer(self.row)

    async def news(self) -> set[str] | None:
        seen, end = self.seen, len(self.log)
        await self._answer(None)
        self.seen = end
        return set(self.log[seen:end]) if seen is not None else None

    async def _answer(self, answer: T) -> T:
        if self.outcome == "fails":
            raise RecordsUnavailable
        if self.outcome == "hangs":
            self.hanging.append(asyncio.Event())
            await self.hanging[-1].wait()
        return answer

    def release(self) -> None:
        while self.hanging:
            self.hanging.pop().set()

    def was_true(self, answer: MediaRecord | None, since: float) -> bool:
        """Whether an answer was true at any time since then."""
        return any(version == answer and end >= since for version, end in [*self.ended, (self.row, inf)])


class Scene:
    """A cache over a database that others write to."""

    def __init__(self) -> None:
        self.database = Database()
        self.feed = Feed(self.database, clock=self.database.clock)
        self.cache = RecordCache(self.database.load, feed=self.feed, clock=self.database.clock)
        self.version = 0
        self.looking: asyncio.Task[None] | None = None
        self.asking: list[asyncio.Task[None]] = []

    async def end(self) -> None:
        self.the_database_answers()
        await asyncio.gather(*self.asking)
        if self.looking is not None:
            await self.looking

    def another_process_changes_the_message(self, *, has_object: bool) -> None:
        self.version += 1
        if self.database.row is not None:  # of a new one, nobody is told
            self.database.log.append(MESSAGE)
        its_object = stored(id=OBJECT) if has_object else None
        self.database.write(record(MESSAGE, filename=str(self.version), stored=its_object))

    def another_process_changes_the_object(self) -> None:
        known = self.database.row
        if known is not None and known.stored is not None:
            self.version += 1
            self.database.log.append(OBJECT)
            self.database.write(replace(known, stored=replace(known.stored, tier=str(self.version))))

    def we_change_the_message(self, *, has_object: bool) -> None:
        self.another_process_changes_the_message(has_object=has_object)
        self.cache.forget(MESSAGE)
        assert self.cache.peek(MESSAGE) is None

    def time_passes(self, seconds: float) -> None:
        self.database.now += seconds

    def the_database_answers(self) -> None:
        self.database.release()

    def we_look_into_the_feed(self, outcome: str) -> None:
        if self.looking is None or self.looking.done():
            self.database.outcome = outcome
            self.looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        with suppress(RecordsUnavailable):
            await self.feed.look()

    def we_ask(self, outcome: str) -> None:
        self.database.outcome = outcome
        self.asking.append(asyncio.create_task(self._ask()))

    async def _ask(self) -> None:
        since = self.database.now - RECORD_TTL
        with suppress(RecordsUnavailable):
            assert self.database.was_true(await self.cache.get(MESSAGE), since)

    def check(self) -> None:
        answer = self.cache.peek(MESSAGE)
        if answer is not None:
            assert self.database.was_true(answer, self.database.now - RECORD_TTL)
            assert self.cache.peek(MESSAGE) is answer


STEPS = st.sampled_from(
    [
        *(partial(Scene.another_process_changes_the_message, has_object=each) for each in (True, True, False)),
        Scene.another_process_changes_the_object,
        Scene.another_process_changes_the_object,
        partial(Scene.we_change_the_message, has_object=True),
        *(partial(Scene.time_passes, seconds=each) for each in (0.5, 1.1, 1.9, 2.1)),
        Scene.the_database_answers,
        *(partial(Scene.we_look_into_the_feed, outcome=each) for each in OUTCOMES),
        *(partial(Scene.we_ask, outcome=each) for each in OUTCOMES),
    ]
)


@settings(max_examples=200)
@given(st.lists(STEPS, min_size=30, max_size=80))
def test_nothing_is_believed_too_long(steps: list[Callable[[Scene], None]]) -> None:
    async def play() -> None:
        scene = Scene()
        for step in steps:
            step(scene)
            await turns()
            scene.check()
        await scene.end()

    asyncio.run(play())
