"""Every layer that can answer for a medium, each asked in the same way."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal, cast

import httpx

from gateway.conditional import format_http_date, parse_http_date
from ingest.simulator import Faults, Transport
from tests.gateway.nginx import Reads, accelerated
from tests.gateway.scene import Message, OpenScene, Scene

LayerName = Literal["cache", "storage", "s3", "spool", "provider", "growing", "accel", "whole", "cached", "sliced"]
LAYERS: tuple[LayerName, ...] = ("cache", "storage", "s3", "spool", "provider", "growing")
ACCELERATED: tuple[LayerName, ...] = ("accel", "whole", "cached", "sliced")
"""nginx before local files, and before a bucket as each of its configurations reads it."""
ARRIVED = 600  # bytes: the type is told from the first 512


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to a request about a message."""

    response: httpx.Response
    message: Message


@dataclass(frozen=True, slots=True)
class Layer:
    """A way to ask for a medium of `SIZE` bytes that ends at one certain layer."""

    name: LayerName
    scene: Scene
    stored: Message | None
    reader: httpx.AsyncClient | None = None
    """Who asks: the host application unless given."""

    @property
    def source(self) -> str:
        """What ``X-Media-Source`` says."""
        aliases = {"s3": "storage", "spool": "provider", "growing": "provider"} | dict.fromkeys(ACCELERATED, "storage")
        return aliases.get(self.name, self.name)

    async def ask(self, method: str = "GET", headers: Mapping[str, str] | None = None, query: str = "") -> Answer:
        """Ask once; the values of headers may hold ``{etag}``, ``{date}``, ``{earlier}`` and ``{later}``.

        At the provider's layers, each time for a medium that was never asked for.
        """
        message = self.stored or await self._fresh()
        given = await self._filled_in(message, headers or {})
        if self.name == "growing":
            return Answer(await self._ask_growing(message, method, given, query), message)
        client = self.reader or self.scene.client
        return Answer(await client.request(method, message.path + query, headers=given), message)

    async def _fresh(self) -> Message:
        faults = Faults(transport=Transport.STALL, at_byte=ARRIVED) if self.name == "growing" else None
        return await self.scene.message(faults=faults)

    async def _filled_in(self, message: Message, headers: Mapping[str, str]) -> dict[str, str]:
        if not any("{" in value for value in headers.values()):
            return dict(headers)
        head = await self.scene.client.head(message.path)
        modified = parse_http_date(head.headers["last-modified"])
        assert modified is not None
        second = timedelta(seconds=1)
        facts = {"date": modified, "earlier": modified - second, "later": modified + second}
        dates = {name: format_http_date(moment) for name, moment in facts.items()}
        return {name: value.format(etag=message.etag, **dates) for name, value in headers.items()}

    async def _ask_growing(
        self, message: Message, method: str, headers: Mapping[str, str], query: str
    ) -> httpx.Response:
        """Ask while the first bytes have arrived; the others come once the answer has begun."""
        client, gate = self.scene.client, message.medium.gate
        async with client.stream("GET", message.path) as first:
            await gate.reached()
            async with (self.reader or client).stream(method, message.path + query, headers=headers) as response:
                gate.open()
                await response.aread()
            await first.aread()
        return response


@asynccontextmanager
async def open_layer(name: LayerName, open_scene: OpenScene, s3: Mapping[str, str]) -> AsyncIterator[Layer]:
    """Open a scene whose media are answered by one layer; ``s3`` configures a bucket."""
    variables = {"cache": {}, "storage": {"MEDIA_CACHE_BYTES": "0"}, "s3": {"MEDIA_CACHE_BYTES": "0", **s3}}
    async with open_scene(**variables.get(name, {})) as scene:
        stored: Message | None = None
        if name in variables:
            stored = await scene.store(await scene.message())
            scene.simulator.online = False
        if name == "spool":
            stored = await scene.message()
        if name in {"cache", "spool"} and stored is not None:
            (await scene.client.get(stored.path)).raise_for_status()
        yield Layer(name, scene, stored)


@asynccontextmanager
async def open_accelerated(
    name: LayerName, open_scene: OpenScene, s3: dict[str, str], folder: Path
) -> AsyncIterator[Layer]:
    """Open a scene whose stored medium is sent by nginx."""
    bucket, reads = (None, "whole") if name == "accel" else (s3, name)
    async with accelerated(open_scene, folder, bucket, reads=cast("Reads", reads)) as (scene, _):
        stored = await scene.store(await scene.message())
        scene.simulator.online = False
        yield Layer(name, scene, stored)
