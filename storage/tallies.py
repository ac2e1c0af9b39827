"""How many media stand where: triggers write what comes and goes, as rows that are added up."""

from collections import Counter
from typing import NamedTuple

from sqlalchemy import BigInteger, cast, delete, func, select

from storage.database import Database, writing
from storage.reader import Question
from storage.schema import tallies

MAX_FOLDED = 5000  # rows in one transaction

_STATE = (tallies.c.status, tallies.c.error, tallies.c.is_stored)
_SUMS = Question(select(*_STATE, cast(func.sum(tallies.c.media), BigInteger)).group_by(*_STATE))


class State(NamedTuple):
    """Where a medium stands."""

    status: str
    error: str | None
    is_stored: bool


async def count(database: Database) -> dict[State, int]:
    """Return how many live media stand where, as of the last transaction."""
    return {State(*state): media for *state, media in await database.fetch(_SUMS) if media}


async def fold(database: Database) -> None:
    """Put one row for each state in the place of many."""
    oldest = select(tallies.c.id).order_by(tallies.c.id).limit(MAX_FOLDED)
    folding = delete(tallies).where(tallies.c.id.in_(oldest)).returning(*_STATE, tallies.c.media)
    while True:
        sums: Counter[State] = Counter()
        async with writing(database) as connection:
            # What is deleted is what is added up: whoever commits meanwhile, or folds too, has rows of their own.
            folded = (await connection.execute(folding)).all()
            for *state, media in folded:
                sums[State(*state)] += media
            rest = [state._asdict() | {"media": media} for state, media in sums.items() if media]
            if rest:
                await connection.execute(tallies.insert(), rest)
        if len(folded) < MAX_FOLDED:
            return
