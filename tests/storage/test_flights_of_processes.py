"""Processes of one node share a download through nothing but files, and survive each other's deaths."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from storage.spool import Spools
from tests.storage.flying import NAME, PATIENCE, Meter, jpeg, sha256

BODY = jpeg(1_000_000)
SOME = 300_000
WHOLE = sha256(BODY)
ROOT = Path(__file__).parents[2]


class Provider:
    """Sends the medium to whoever asks, as far as the test has released it, and counts who asks."""

    def __init__(self) -> None:
        self.downloads: list[int] = []
        """The processes that asked, in order."""
        self.asked = Meter()
        self.released = Meter(-1)
        self.head: dict[str, object] = {"size": len(BODY), "sha256": WHOLE}
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.downloads.append(int(await reader.readline()))
        self.asked.set(len(self.downloads))
        await self.released.reaches(0)
        writer.write(json.dumps(self.head).encode() + b"\n")
        sent = 0
        while sent < len(BODY) and "error" not in self.head:
            await self.released.passes(sent)
            part = BODY[sent : self.released.value]
            writer.write(part)
            sent += len(part)
        writer.close()

    def release(self, total: int = len(BODY)) -> None:
        self.released.set(total)


class Flier:
    """A process that reads, and what it says of it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[tuple[str, object]] = []
        self.lines = Meter()
        self.listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            event, value = json.loads(line)
            self.said.append((event, value))
            self.lines.set(len(self.said))

    def all(self, event: str) -> list[object]:
        return [value for said, value in self.said if said == event]

    async def says(self, event: str, value: object = None, *, times: int = 1) -> None:
        """Wait until it has said this so often."""
        async with asyncio.timeout(PATIENCE):
            while self.said.count((event, value)) < times:
                await self.lines.passes(len(self.said))

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()
        await self.listening

    async def stop(self) -> None:
        """Shut it down in order."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert await self.process.wait() == 0
        await self.listening


Start = Callable[[int], Awaitable[Flier]]


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made
        made.release()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
async def start(folder: Path, provider: Provider) -> AsyncIterator[Start]:
    """Start a process with so many readers; those that still run are killed at the end."""

    async def start(readers: int) -> Flier:
        return await stack.enter_async_context(_running(folder, provider.port, readers))

    async with AsyncExitStack() as stack:
        yield start
    assert Spools(folder).try_lock(NAME)


@asynccontextmanager
async def _running(folder: Path, port: int, readers: int) -> AsyncIterator[Flier]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.storage.flier", str(folder), str(port), str(readers)),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    flier = Flier(process)
    try:
        yield flier
    finally:
        if process.returncode is None:
            await flier.kill()


async def pilot_and_followers(start: Start, followers: int, readers: int = 1) -> tuple[Flier, list[Flier]]:
    """Start a process that downloads, and then others that wait for it."""
    pilot = await start(readers)
    await pilot.says("leads")
    others = await asyncio.gather(*(start(readers) for _ in range(followers)))
    await asyncio.gather(*(other.says("follows") for other in others))
    return pilot, others


async def test_one_download_serves_the_readers_of_four_processes(provider: Provider, start: Start) -> None:
    pilot, followers = await pilot_and_followers(start, 3, readers=5)
    provider.release()

    for flier in (pilot, *followers):
        await flier.says("read", WHOLE, times=5)
        await flier.stop()

    assert provider.downloads == [pilot.process.pid]
    assert [flier.all("landed") for flier in (pilot, *followers)] == [[None], [], [], []]


async def test_of_processes_that_start_together_one_downloads(provider: Provider, start: Start) -> None:
    fliers = await asyncio.gather(*(start(2) for _ in range(4)))
    provider.release()

    await asyncio.gather(*(flier.says("read", WHOLE, times=2) for flier in fliers))

    assert len(provider.downloads) == 1


async def test_followers_read_while_the_pilot_still_downloads(provider: Provider, start: Start) -> None:
    pilot, [follower] = await pilot_and_followers(start, 1)
    provider.release(SOME)
    await follower.says("received", SOME)

    assert not pilot.all("read")
    provider.release()

    await follower.says("read", WHOLE)
    assert provider.downloads == [pilot.process.pid]


async def test_a_process_that_comes_later_joins_the_download(provider: Provider, start: Start) -> None:
    pilot, _ = await pilot_and_followers(start, 0)
    provider.release(SOME)
    await pilot.says("received", SOME)

    late = await start(3)
    await late.says("received", SOME, times=3)
    provider.release()

    await late.says("read", WHOLE, times=3)
    assert len(provider.downloads) == 1


async def test_a_killed_pilot_breaks_off_those_who_have_begun(provider: Provider, start: Start, folder: Path) -> None:
    pilot, followers = await pilot_and_followers(start, 2)
    provider.release(SOME)
    await asyncio.gather(*(follower.says("received", SOME) for follower in followers))

    await pilot.kill()
    await asyncio.gather(*(follower.says("broke off", ["OriginFailed", SOME]) for follower in followers))

    assert len(provider.downloads) == 1
    assert Spools(folder).state(NAME) is not None  # what it left behind must not be in anybody's way
    provider.release()
    next_try = await start(2)
    await next_try.says("read", WHOLE, times=2)
    assert len(provider.downloads) == 2


async def test_a_killed_pilot_is_replaced_by_one_of_those_who_have_not_begun(provider: Provider, start: Start) -> None:
    pilot, followers = await pilot_and_followers(start, 3, readers=2)
    await provider.asked.reaches(1)

    await pilot.kill()
    await provider.asked.reaches(2)
    provider.release()
    await asyncio.gather(*(follower.says("read", WHOLE, times=2) for follower in followers))

    assert provider.downloads[0] == pilot.process.pid
    assert provider.downloads[1] in {follower.process.pid for follower in followers}
    assert len(provider.downloads) == 2


async def test_a_pilot_that_shuts_down_is_replaced_too(provider: Provider, start: Start) -> None:
    pilot, [follower] = await pilot_and_followers(start, 1)
    await provider.asked.reaches(1)

    await pilot.stop()
    await provider.asked.reaches(2)
    provider.release()

    await follower.says("read", WHOLE)
    assert pilot.all("broke off") == [["OriginFailed", 0]]


async def test_a_killed_follower_is_missed_by_nobody(provider: Provider, start: Start) -> None:
    pilot, [killed, follower] = await pilot_and_followers(start, 2)
    provider.release(SOME)
    await killed.says("received", SOME)

    await killed.kill()
    provider.release()

    await asyncio.gather(pilot.says("read", WHOLE), follower.says("read", WHOLE))


async def test_the_providers_own_error_reaches_the_readers_of_all_processes(provider: Provider, start: Start) -> None:
    provider.head = {"error": "OriginGone"}
    pilot, followers = await pilot_and_followers(start, 3, readers=2)
    provider.release()

    fliers = [pilot, *followers]
    await asyncio.gather(*(flier.says("broke off", ["OriginGone", 0], times=2) for flier in fliers))

    assert len(provider.downloads) == 1


async def test_a_wrong_hash_completes_in_no_process(provider: Provider, start: Start) -> None:
    provider.head["sha256"] = sha256(b"something else")
    pilot, [follower] = await pilot_and_followers(start, 1)
    provider.release(len(BODY) - 1)
    await asyncio.gather(pilot.says("received", len(BODY) - 1), follower.says("received", len(BODY) - 1))
    provider.release()

    lied = ["OriginLied", len(BODY) - 1]
    await asyncio.gather(pilot.says("broke off", lied), follower.says("broke off", lied))

    assert not pilot.all("landed")
