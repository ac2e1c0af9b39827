"""However joins, reads, departures and bytes interleave, in one process or two: each survivor gets its exact slice."""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import OriginLied
from storage.flights import Flights
from tests.storage.flying import (
    NAME,
    ORDER,
    PATIENCE,
    Node,
    ScriptedOrigin,
    jpeg,
    never,
    open_node,
    received,
    sha256,
    turns,
)

BODY = jpeg(5000)


@dataclass(frozen=True)
class Join:
    """A client comes and reads a range."""

    wanted: tuple[int, int | None]
    process: int

    @property
    def body(self) -> bytes:
        """The bytes of the range."""
        return BODY[slice(*self.wanted)]


@dataclass(frozen=True)
class Leave:
    """The n-th client goes."""

    client: int


@dataclass(frozen=True)
class Arrive:
    """The provider sends so many bytes more."""

    size: int


@dataclass(frozen=True)
class Pass:
    """Everybody who can go on does."""


Step = Join | Leave | Arrive | Pass


def ranges() -> st.SearchStrategy[tuple[int, int | None]]:
    start = st.integers(0, len(BODY) - 1)
    return start.flatmap(lambda first: st.tuples(st.just(first), st.none() | st.integers(first + 1, len(BODY))))


STEPS = st.lists(
    st.one_of(
        st.builds(Join, ranges(), st.integers(0, 1)),
        st.builds(Leave, st.integers(0, 7)),
        st.builds(Arrive, st.integers(1, 3000)),
        st.just(Pass()),
    ),
    max_size=25,
)


class Play:
    """Two processes of a node, as far as locks and files go, and the clients of both."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.processes = (node.flights, Flights(node.spools, node.origin))
        self.clients: list[tuple[Join, bytearray, asyncio.Task[None]]] = []
        self.left: set[int] = set()

    def do(self, step: Step) -> None:
        match step:
            case Join():
                got = bytearray()
                self.clients.append((step, got, asyncio.create_task(self._read(step, got))))
            case Leave(client) if client < len(self.clients):
                self.left.add(client)
                self.clients[client][2].cancel()
            case Arrive(size):
                self.node.origin.release(min(self.node.origin.released.value + size, len(BODY)))

    async def _read(self, join: Join, got: bytearray) -> None:
        async with self.processes[join.process].join(NAME, ORDER, recheck=never) as flight:
            await flight.declared(PATIENCE)
            if error := await received(flight, got, *join.wanted):
                raise error

    async def to_the_end(self, steps: Sequence[Step]) -> None:
        self.node.origin.hold()
        for step in steps:
            self.do(step)
            if isinstance(step, Pass):
                await turns(20)
        self.node.origin.release()
        await asyncio.gather(*(task for *_, task in self.clients), return_exceptions=True)
        await self.processes[1].drain(PATIENCE)


@settings(deadline=None)
@given(STEPS, st.integers(500, 3000), st.booleans())
def test_each_survivor_gets_its_slice_of_one_download(steps: list[Step], chunk: int, sized: bool) -> None:  # noqa: FBT001 drawn
    async def run(folder: Path) -> None:
        origin = ScriptedOrigin(body=BODY, chunk=chunk)
        origin.size = len(BODY) if sized else None
        async with open_node(folder / "spool", origin) as node:
            play = Play(node)
            await play.to_the_end(steps)

            for number, (join, got, task) in enumerate(play.clients):
                if number in play.left and task.cancelled():
                    assert join.body.startswith(got)
                else:
                    assert task.exception() is None
                    assert got == join.body
            assert origin.opened <= 1

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


@settings(deadline=None)
@given(STEPS, st.integers(500, 3000), st.booleans())
def test_of_a_lie_nobody_ever_gets_the_last_byte(steps: list[Step], chunk: int, sized: bool) -> None:  # noqa: FBT001 drawn
    async def run(folder: Path) -> None:
        origin = ScriptedOrigin(body=BODY, chunk=chunk)
        origin.size, origin.sha256 = len(BODY) if sized else None, sha256(b"something else")
        async with open_node(folder / "spool", origin) as node:
            play = Play(node)
            await play.to_the_end(steps)

            for join, got, task in play.clients:
                start, stop = join.wanted
                assert join.body.startswith(got)
                assert start + len(got) < len(BODY)
                if not task.cancelled() and stop in (None, len(BODY)):
                    assert isinstance(task.exception(), OriginLied)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))
