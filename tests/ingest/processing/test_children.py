"""Children are started when needed, reused, replaced, and never left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from ingest.processing.children import PoolUnavailable
from ingest.processing.pool import Event, Finished
from tests.ingest.processing.pools import Observed, OpenPool
from tests.running import until


async def began(observed: Observed) -> asyncio.Task[list[Event]]:
    """Begin to process a medium that never ends, and wait until it has a child at work."""
    task = asyncio.create_task(observed.process("sleep"))
    facts = len(observed.ended.steps)
    await until(lambda: len(observed.ended.steps) > facts)
    return task


async def test_none_is_started_before_there_is_a_medium(open_pool: OpenPool) -> None:
    assert open_pool(children=2).pool.alive == 0


async def test_one_does_many_jobs(open_pool: OpenPool) -> None:
    observed = open_pool(children=2)
    assert await observed.pid() == await observed.pid()
    assert observed.pool.alive == 1


async def test_one_is_replaced_after_so_many_jobs(open_pool: OpenPool) -> None:
    observed = open_pool(jobs=2)
    first, second, third = [await observed.pid() for _ in range(3)]
    assert first == second != third
    assert observed.ended.children == ["worn"]


async def test_one_without_a_job_ends(open_pool: OpenPool) -> None:
    observed = open_pool(idle=0.01)
    await observed.process("none")
    await until(lambda: observed.pool.alive == 0)
    assert observed.ended.children == ["idle"]
    assert len(await observed.process("none")) == 3


async def test_one_that_died_between_two_jobs_costs_nothing(open_pool: OpenPool) -> None:
    observed = open_pool()
    os.kill(await observed.pid(), signal.SIGKILL)
    assert [type(event) for event in await observed.process("none")] == [Finished] * 3


async def test_never_more_than_so_many_at_a_time(open_pool: OpenPool) -> None:
    observed = open_pool(children=2)

    async def process() -> list[int]:
        async with aclosing(observed.pool.process(observed.source("none"), observed.folder())) as events:
            return [observed.pool.alive async for _ in events]

    seen = await asyncio.gather(*(process() for _ in range(8)))
    assert [len(alive) for alive in seen] == [3] * 8
    assert max(map(max, seen)) == 2


async def test_who_waits_is_served_in_the_order_of_coming(open_pool: OpenPool) -> None:
    observed = open_pool()
    served: list[int] = []

    async def process(number: int) -> None:
        await observed.process("none")
        served.append(number)

    await asyncio.gather(*(process(number) for number in range(5)))
    assert served == [0, 1, 2, 3, 4]


async def test_who_waits_may_leave(open_pool: OpenPool) -> None:
    observed = open_pool()
    first = await began(observed)
    second = asyncio.create_task(observed.process("none"))
    third = asyncio.create_task(observed.process("none"))
    await asyncio.sleep(0)
    second.cancel()
    first.cancel()
    assert len(await third) == 3
    await asyncio.gather(first, second, return_exceptions=True)


async def test_a_cancelled_job_takes_its_child_along(open_pool: OpenPool) -> None:
    observed = open_pool()
    task = await began(observed)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert observed.pool.alive == 0, "gone when the caller is"
    assert observed.ended.children == ["abandoned"]


async def test_who_has_seen_enough_takes_the_child_along(open_pool: OpenPool) -> None:
    observed = open_pool()
    async with aclosing(observed.pool.process(observed.source("sleep"), observed.folder())) as events:
        await anext(events)
    assert observed.ended.children == ["abandoned"]


async def test_a_caller_cancelled_while_its_child_starts_leaves_it_to_the_next(open_pool: OpenPool) -> None:
    observed = open_pool()
    task = asyncio.create_task(observed.process("none"))
    await until(lambda: observed.pool.alive == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await observed.process("none")) == 3


async def test_a_closed_pool_has_no_children_and_says_so_to_all_who_wait(open_pool: OpenPool) -> None:
    observed = open_pool(children=2)
    tasks = [await began(observed), await began(observed)]
    tasks.append(asyncio.create_task(observed.process("none")))
    await asyncio.sleep(0)
    await observed.pool.aclose()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [PoolUnavailable] * 3
    with pytest.raises(PoolUnavailable):
        await observed.process("none")
    assert observed.pool.alive == 0
    assert observed.ended.children == ["closed", "closed"]


async def test_nothing_is_left_behind(open_pool: OpenPool) -> None:
    """No descriptor, no zombie: whatever way children have ended."""
    observed = open_pool(children=2, jobs=2)
    await observed.process("none")
    await observed.pool.aclose()
    before = descriptors()
    again = open_pool(children=2, jobs=2, seconds=1.0)
    await asyncio.gather(*(again.process(attack) for attack in ("none", "abort", "say-much", "sleep", "none")))
    task = await began(again)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await again.pool.aclose()
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # noqa: ASYNC222 does not wait


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_parent_that_is_killed_takes_its_children_along(open_pool: OpenPool, tmp_path: Path) -> None:
    program = f"""
import asyncio, pathlib
from tests.ingest.processing.pools import Observed
async def main():
    observed = Observed(pathlib.Path({str(tmp_path)!r}))
    print(await observed.pid(), flush=True)
    await observed.process("sleep")
asyncio.run(main())
"""
    root = Path(__file__).parents[3]
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), stdout=subprocess.PIPE, cwd=root, env={"PYTHONPATH": str(root)}
    )
    assert parent.stdout is not None
    line = ""
    async with asyncio.timeout(30):
        while not line.strip().isdigit():
            line = (await parent.stdout.readline()).decode()
    os.kill(parent.pid, signal.SIGKILL)
    await parent.communicate()
    await until(lambda: not running(int(line)))


async def test_what_a_dead_pool_has_left_is_swept_by_the_next_one_that_shares_its_folder(open_pool: OpenPool) -> None:
    observed = open_pool()
    left = observed.path / "scratch" / "pool-dead" / "child-1" / "in"
    left.mkdir(parents=True)
    await observed.process("none")
    assert not left.exists()


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
