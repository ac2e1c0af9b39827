"""Which workers live, by their heartbeats and, on one host, by their processes."""

import os
import subprocess
import sys

import pytest

from storage.database import Database, open_engine
from storage.errors import RecordsUnavailable
from storage.liveness import Liveness
from tests.running import free_port

ALIVE = os.getpid()
SILENT_FOR = 30.0  # seconds


class Seconds:
    """A clock of seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def liveness(engine: Database, clock: Seconds) -> Liveness:
    return Liveness(engine, clock=clock)


@pytest.fixture(scope="module")
def gone() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    return child.pid


async def test_a_worker_that_beats_lives(liveness: Liveness, clock: Seconds) -> None:
    await liveness.beat("w1", "here", ALIVE)
    clock.now += SILENT_FOR
    assert await liveness.dead("here", silent_for=SILENT_FOR) == []


async def test_a_worker_that_falls_silent_is_dead(liveness: Liveness, clock: Seconds) -> None:
    await liveness.beat("w1", "here", ALIVE)
    clock.now += SILENT_FOR + 1
    await liveness.beat("w2", "here", ALIVE)
    assert await liveness.dead("here", silent_for=SILENT_FOR) == ["w1"]


async def test_beating_again_brings_it_back(liveness: Liveness, clock: Seconds) -> None:
    await liveness.beat("w1", "here", ALIVE)
    clock.now += SILENT_FOR + 1
    await liveness.beat("w1", "here", ALIVE)
    assert await liveness.dead("here", silent_for=SILENT_FOR) == []


async def test_a_process_that_is_gone_is_dead_at_once(liveness: Liveness, gone: int) -> None:
    await liveness.beat("w1", "here", gone)
    assert await liveness.dead("here", silent_for=SILENT_FOR) == ["w1"]


async def test_processes_of_another_host_are_judged_by_their_silence(
    liveness: Liveness, clock: Seconds, gone: int
) -> None:
    await liveness.beat("w1", "there", gone)
    assert await liveness.dead("here", silent_for=SILENT_FOR) == []
    clock.now += SILENT_FOR + 1
    assert await liveness.dead("here", silent_for=SILENT_FOR) == ["w1"]


async def test_a_process_of_another_user_lives(liveness: Liveness) -> None:
    await liveness.beat("w1", "here", 1)  # which we may not signal, or may where we are root
    assert await liveness.dead("here", silent_for=SILENT_FOR) == []


async def test_a_worker_that_has_ended_is_forgotten(liveness: Liveness, clock: Seconds) -> None:
    await liveness.beat("w1", "here", ALIVE)
    await liveness.end("w1")
    await liveness.end("w1")
    clock.now += SILENT_FOR + 1
    assert await liveness.dead("here", silent_for=SILENT_FOR) == []


async def test_without_a_database_nobody_is_declared_dead() -> None:
    engine = open_engine(f"postgresql://127.0.0.1:{free_port()}/media")
    with pytest.raises(RecordsUnavailable):
        await Liveness(engine).dead("here", silent_for=SILENT_FOR)
    await engine.dispose()
