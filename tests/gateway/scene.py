"""What HTTP tests act on: a gateway on a real server over a simulated provider, and messages with a medium."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
from prometheus_client import CollectorRegistry

from gateway.foundation import Foundation, open_foundation
from gateway.metrics import Metrics
from ingest.processing.steps import RECIPE
from ingest.simulator import Content, Faults, Medium, Simulator
from ingest.tasks import Tasks
from storage.record import Processing, StoredObject
from tests.conftest import Gateway, Provider
from tests.running import NO_TLS, PATIENCE, settings_for

SIZE = 1000  # bytes, as in the examples of RFC 9110 section 14
IMMUTABLE = "max-age=86400, private, immutable, no-transform"


def jpeg(size: int = SIZE, *, seed: int = 0) -> bytes:
    """Return bytes that begin like a JPEG."""
    return b"\xff\xd8\xff\xe0" + random.Random(seed).randbytes(size - 4)


@dataclass(frozen=True, slots=True)
class Message:
    """A registered message, and its medium at the provider."""

    id: str
    medium: Medium

    @property
    def path(self) -> str:
        """Where it is served; dots alone would be steps to a client."""
        segment = quote(self.id, safe="")
        return f"/media/messages/{segment if segment.strip('.') else segment.replace('.', '%2E')}"

    @property
    def body(self) -> bytes:
        """The medium's bytes."""
        return self.medium.content.read(0, self.medium.size)

    @property
    def etag(self) -> str:
        """The entity-tag that its bytes have for ever."""
        return f'"{self.medium.sha256_hex}"'


@dataclass(frozen=True, slots=True)
class Scene:
    """A gateway, its provider, and what a test does with them."""

    gateway: Gateway
    provider: Provider
    nobody: httpx.AsyncClient
    """A client without any credential."""
    variables: dict[str, str]

    @property
    def client(self) -> httpx.AsyncClient:
        """The host application's."""
        return self.gateway.client

    @property
    def simulator(self) -> Simulator:
        """The provider."""
        return self.provider.simulator

    async def message(
        self,
        content: bytes | Content | None = None,
        mime_type: str = "image/jpeg",
        *,
        message_id: str | None = None,
        faults: Faults | None = None,
        **registration: Any,
    ) -> Message:
        """Register a message whose medium the provider has; nobody ingests it."""
        content = content if content is not None else jpeg(seed=random.randrange(2**32))
        medium = await asyncio.to_thread(self.simulator.add, content, mime_type, faults=faults)
        message = Message(message_id or uuid4().hex, medium)
        declared = {"provider_media_id": medium.id, "mime_type": mime_type, "sha256": medium.sha256_hex}
        await self.register(message, **(declared | registration))
        return message

    async def register(self, message: Message, **registration: Any) -> None:
        """Register a message without a job."""
        answer = await self.client.put(message.path, json={"ingest": False} | registration)
        assert answer.status_code in {200, 201}, answer.text

    async def store(self, message: Message, **variables: str) -> Message:
        """Ingest a message, as a worker with those variables does; its object counts as processed without variants."""
        return await self._ingest(message, _finished, **variables)

    async def process(self, message: Message, **variables: str) -> Message:
        """Ingest a message and make its variants, as a worker with those variables does."""
        return await self._ingest(message, _processed, **variables)

    async def original(self, message: Message, **variables: str) -> Message:
        """Ingest a message, of which nothing is made yet, as while a worker has too much to do."""
        return await self._ingest(message, _nothing, **variables)

    async def _ingest(self, message: Message, processing: "Processed", **variables: str) -> Message:
        async with self._worker(processing, **variables) as (_, tasks):
            await tasks.original(message.id, fresh=True)
            await tasks.publish(message.id)
        return message

    async def deleted(self) -> None:
        """Delete the bytes of objects that no message refers to any more, as a worker does."""
        async with self._worker(_nothing) as (base, tasks):
            for object_id in await base.records.doomed_objects():
                await tasks.delete(object_id)

    @asynccontextmanager
    async def _worker(self, processing: "Processed", **variables: str) -> AsyncIterator[tuple[Foundation, Tasks]]:
        registry = CollectorRegistry()
        settings = settings_for(self.gateway.path, **(self.variables | variables))
        async with open_foundation(settings, Metrics(registry), registry) as base:
            yield base, base.tasks(lambda stored: processing(base, stored))

    def forget_requests(self) -> None:
        """Empty the provider's log."""
        self.simulator.requests.clear()


Processed = Callable[[Foundation, StoredObject], Awaitable[None]]


async def _finished(base: Foundation, stored: StoredObject) -> None:
    await base.renditions.finish(stored.id, Processing.COMPLETED, recipe=RECIPE, keeping=(), error=None)


async def _processed(base: Foundation, stored: StoredObject) -> None:
    await base.rendering.process(stored.id)


async def _nothing(_: Foundation, __: StoredObject) -> None:
    pass


OpenScene = Callable[..., AbstractAsyncContextManager[Scene]]


def scenes(start_gateway: Callable[..., AbstractAsyncContextManager[Gateway]], provider: Provider) -> OpenScene:
    """Return what opens a scene; keyword arguments are environment variables of the gateway."""

    @asynccontextmanager
    async def open_scene(**variables: str) -> AsyncIterator[Scene]:
        variables = provider.variables | variables
        async with (
            start_gateway(**variables) as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE, verify=NO_TLS) as nobody,
        ):
            yield Scene(gateway, provider, nobody, variables)

    return open_scene
