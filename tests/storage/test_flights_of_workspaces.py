"""Flights are shared out among workspaces: one whose provider hangs leaves room for the next."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from storage.errors import OriginBusy
from storage.flights import Flights
from storage.origin import MediaRef
from storage.pilot import Order
from tests.storage.flying import PATIENCE, Node, ScriptedOrigin, collect, jpeg, never, open_node, sha256

BODY = jpeg(1000)


class Crowd:
    """Readers of media that do not come, of any workspace."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.readers: list[asyncio.Task[bytes]] = []

    async def joins(self, workspace_id: str) -> bool:
        """Let one more come, for a medium of its own; tell whether it may wait for it."""
        reader = asyncio.create_task(self._read(workspace_id, sha256(f"{len(self.readers)}".encode())))
        await asyncio.sleep(0)  # flights are opened before anything is awaited
        if reader.done():
            with pytest.raises(OriginBusy):
                reader.result()
            return False
        self.readers.append(reader)
        return True

    async def fill(self, workspace_id: str) -> int:
        """Let as many come as may."""
        before = len(self.readers)
        while await self.joins(workspace_id):
            pass
        return len(self.readers) - before

    async def _read(self, workspace_id: str, name: str) -> bytes:
        order = Order(ref=MediaRef(workspace_id=workspace_id, provider_media_id=name))
        async with self._node.flights.join(name, order, recheck=never) as flight:
            await flight.declared(PATIENCE)
            return await collect(flight)


@asynccontextmanager
async def crowd(folder: Path, max_flights: int) -> AsyncIterator[Crowd]:
    """Open a node whose provider hangs until the end of the block; then everybody who waits is served."""
    origin = ScriptedOrigin(body=BODY)
    origin.hold()
    async with open_node(folder, origin, flights=partial(Flights, max_flights=max_flights)) as node:
        gathered = Crowd(node)
        yield gathered
        origin.release()
        assert await asyncio.gather(*gathered.readers) == [BODY] * len(gathered.readers)
        await node.flights.drain(PATIENCE)
        assert not node.flights._aloft


@pytest.mark.parametrize(
    ("hanging", "shares"),
    [
        pytest.param("a", [6], id="alone: as many as it may have"),
        pytest.param("ab", [6, 3], id="the next gets half of what is left"),
        pytest.param("abc", [6, 3, 2], id="and so on"),
        pytest.param("abcde", [6, 3, 2, 1, 0], id="until there is nothing to share"),
    ],
)
async def test_a_workspace_leaves_as_many_to_others_as_it_has(tmp_path: Path, hanging: str, shares: list[int]) -> None:
    async with crowd(tmp_path, 6) as readers:
        assert [await readers.fill(workspace_id) for workspace_id in hanging] == shares


async def test_those_who_come_at_the_same_time_get_the_same(tmp_path: Path) -> None:
    async with crowd(tmp_path, 6) as readers:
        rounds = [[await readers.joins(workspace_id) for workspace_id in "abc"] for _ in range(5)]
        assert rounds == [[True] * 3] * 3 + [[False] * 3] * 2
        assert await readers.joins("d")  # 12 in all, and 3 are left
