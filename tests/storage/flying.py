"""A provider that delivers what and when a test says, and a node that must be left as clean as it was found."""

import asyncio
import hashlib
import os
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import MediaError
from storage.flight import Flight
from storage.flights import Flights
from storage.origin import Download, MediaRef
from storage.pilot import Order
from storage.spool import Spools
from storage.store import CHUNK_SIZE

PATIENCE = 100.0  # seconds for what comes for certain
NAME = hashlib.sha256(b"a medium").hexdigest()
REF = MediaRef(workspace_id="w", provider_media_id="m")
ORDER = Order(ref=REF, declared_type="image/jpeg")


def jpeg(size: int, seed: int = 1) -> bytes:
    """Return bytes that begin like a JPEG; another seed gives other bytes."""
    return (b"\xff\xd8\xff\xe0" + random.Random(seed).randbytes(size))[:size]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class Meter:
    """A number that can be waited for."""

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self._changed = asyncio.Event()

    def set(self, value: int) -> None:
        self.value = value
        self._changed.set()
        self._changed = asyncio.Event()

    async def passes(self, value: int) -> None:
        """Wait until it is greater."""
        while self.value <= value:
            await self._changed.wait()

    async def reaches(self, value: int) -> None:
        """Wait until it is at least as great, which it will be."""
        async with asyncio.timeout(PATIENCE):
            await self.passes(value - 1)


@dataclass(slots=True, kw_only=True)
class ScriptedOrigin:
    """An `Origin` with one medium, of which it sends as many bytes as a test has released."""

    body: bytes
    size: int | None = field(init=False)
    """What is declared; a test may let it lie or be silent."""
    sha256: str | None = field(init=False)
    content_type: str | None = "image/jpeg"
    chunk: int = CHUNK_SIZE
    released: Meter = field(default_factory=lambda: Meter(1 << 40))
    waiting: Meter = field(default_factory=lambda: Meter(-1))
    """At which byte the download waits to be released."""
    failures: deque[Exception] = field(default_factory=deque)
    """What the next downloads raise instead of beginning."""
    breaks: tuple[int, Exception] | None = None
    """After how many bytes a download breaks off, and how."""
    opened: int = 0
    closed: int = 0

    def __post_init__(self) -> None:
        self.size, self.sha256 = len(self.body), sha256(self.body)

    def hold(self, released: int = 0) -> None:
        """Let the next download stop after so many bytes, until `release`."""
        self.released.set(released)
        self.waiting.set(-1)

    def release(self, total: int = 1 << 40) -> None:
        self.released.set(total)

    @asynccontextmanager
    async def open(self, ref: MediaRef) -> AsyncIterator[Download]:
        self.opened += 1
        try:
            if self.failures:
                raise self.failures.popleft()
            yield Download(size=self.size, content_type=self.content_type, sha256=self.sha256, chunks=self._chunks())
        finally:
            self.closed += 1

    async def _chunks(self) -> AsyncIterator[bytes]:
        position, end = 0, len(self.body) if self.breaks is None else self.breaks[0]
        while position < end:
            self.waiting.set(position)
            await self.released.passes(position)
            stop = min(position + self.chunk, self.released.value, end)
            yield self.body[position:stop]
            position = stop
        self.waiting.set(position)
        if self.breaks is not None:
            raise self.breaks[1]
        await self.released.passes(position - 1)


async def never() -> bool:
    """Nothing was stored meanwhile."""
    return False


@dataclass(frozen=True, slots=True)
class Node:
    """What a process of the gateway has to fly with."""

    folder: Path
    spools: Spools
    flights: Flights
    origin: ScriptedOrigin

    async def read(self, start: int = 0, stop: int | None = None, *, name: str = NAME) -> bytes:
        """Join the flight and read a range of it, as every client does."""
        async with self.flights.join(name, ORDER, recheck=never) as flight:
            await flight.declared(PATIENCE)
            return await collect(flight, start, stop)

    def files(self) -> set[str]:
        """The kinds of files that lie in the spool folder."""
        return {path.suffix for path in self.folder.iterdir()} - {""}


async def collect(flight: Flight, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in flight.read(start, stop, stall=PATIENCE)])


async def received(
    flight: Flight, into: bytearray, start: int = 0, stop: int | None = None, *, stall: float = PATIENCE
) -> MediaError | None:
    """Read into a buffer that tells how far the client got, and return what ended it early."""
    try:
        async for chunk in flight.read(start, stop, stall=stall):
            into += chunk
    except MediaError as error:
        return error
    return None


@asynccontextmanager
async def open_node(
    folder: Path, origin: ScriptedOrigin, *, flights: Callable[[Spools, ScriptedOrigin], Flights] = Flights
) -> AsyncIterator[Node]:
    """Open a node; on leaving, nothing of it is left: no task, no descriptor, no lock, no memory set aside."""
    tasks = asyncio.all_tasks()
    spools = Spools(folder)
    node = Node(folder, spools, flights(spools, origin), origin)
    try:
        yield node
        await node.flights.drain(0)
        assert asyncio.all_tasks() - {asyncio.current_task()} <= tasks
        assert open_files(folder) == ["locks"]
        assert locked(folder) == 0
        assert node.flights._flights == {}
        assert node.flights._mirrored == 0
        assert origin.opened == origin.closed
    finally:
        spools.close()
    assert open_files(folder) == []


async def turns(count: int = 5) -> None:
    """Let every task that can go on do so, a few times over."""
    for _ in range(count):
        await asyncio.sleep(0)


def skip(seconds: float) -> None:
    """Let so much time pass at once for everything that waits on the loop."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds  # type: ignore[method-assign] # the loop's clock is what timeouts go by


def open_files(folder: Path) -> list[str]:
    """Name the files below a folder that this process has open, deleted ones included."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        if target.startswith(f"{folder}/"):
            found.append(target.removeprefix(f"{folder}/"))
    return found


def locked(folder: Path) -> int:
    """Count the spools that this process has locked, as the kernel sees it."""
    inode = (folder / "locks").stat().st_ino
    rows = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return sum(row[4] == str(os.getpid()) and row[5].endswith(f":{inode}") for row in rows if row[1] == "POSIX")
