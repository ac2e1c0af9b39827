"""Which workers live: a heartbeat each, in the database that they share."""

import os
from collections.abc import Callable
from time import time

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import rows
from storage.database import reading, writing
from storage.schema import workers


class Liveness:
    """The heartbeats of all workers."""

    def __init__(self, engine: AsyncEngine, *, clock: Callable[[], float] = time) -> None:
        self._engine = engine
        self._clock = clock

    async def beat(self, executor_id: str, host: str, pid: int) -> None:
        """Say that a worker lives."""
        row = {"executor_id": executor_id, "host": host, "pid": pid, "heartbeat": self._clock()}
        async with writing(self._engine) as connection:
            statement = rows.insert(connection)(workers).values(row)
            change = {"heartbeat": row["heartbeat"]}
            await connection.execute(statement.on_conflict_do_update(index_elements=["executor_id"], set_=change))

    async def end(self, executor_id: str) -> None:
        """Say that a worker has ended and left no job behind."""
        async with writing(self._engine) as connection:
            await connection.execute(delete(workers).where(workers.c.executor_id == executor_id))

    async def dead(self, host: str, *, silent_for: float) -> list[str]:
        """Return the workers that have been silent for so many seconds, or whose process on ``host`` is gone."""
        async with reading(self._engine) as connection:
            found = (await connection.execute(select(workers))).all()
        latest = self._clock() - silent_for
        return [row.executor_id for row in found if row.heartbeat < latest or (row.host == host and _gone(row.pid))]


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
