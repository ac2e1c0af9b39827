"""A second workspace beside the default one: its file, its own provider, and its messages."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from ingest.simulator import BusinessNumber, Endpoints, Faults, Simulator, serve
from tests.gateway.scene import Message, OpenScene, Scene, jpeg

APP_SECRET = "acme-app-secret"
VERIFY_TOKEN = "acme-verify-token"
ACCESS_TOKEN = "acme-access-token"
NUMBER = BusinessNumber(phone_number_id="300000000000003", waba_id="100000000000003")


def workspaces_file(folder: Path, endpoints: Endpoints, **changes: str) -> Path:
    """Write a file with the workspace ``acme``; ``changes`` are values as they stand in TOML."""
    secrets = {"token": ACCESS_TOKEN, "app_secret": APP_SECRET, "verify": VERIFY_TOKEN}
    for name, secret in secrets.items():
        (folder / name).write_text(f"{secret}\n")
    entry = {
        "phone_number_ids": f'["{NUMBER.phone_number_id}"]',
        "access_token": '"file:token"',
        "app_secrets": '["file:app_secret"]',
        "verify_token": '"file:verify"',
        "graph_url": f'"{endpoints.graph_url}"',
        "download_hosts": f'"{endpoints.lookaside_url},{endpoints.elsewhere_url}"',
    }
    path = folder / "workspaces.toml"
    path.write_text("[workspaces.acme]\n" + "".join(f"{key} = {value}\n" for key, value in (entry | changes).items()))
    return path


@dataclass(frozen=True, slots=True)
class Tenancy:
    """A gateway with two workspaces, each with a provider of its own."""

    scene: Scene
    acme: Simulator
    """The provider of the workspace ``acme``; that of the default one is the scene's."""

    async def message(self, faults: Faults | None = None) -> Message:
        """Register a message of ``acme`` whose medium its provider has; nobody ingests it."""
        medium = self.acme.add(jpeg(seed=len(self.acme.media) + 1000), "image/jpeg", faults=faults)
        message = Message(uuid4().hex, medium)
        await self.scene.register(message, provider_media_id=medium.id, workspace_id="acme")
        return message

    async def read(self, message: Message) -> httpx.Response:
        """Read a medium as the host application does."""
        return await self.scene.client.get(message.path)

    async def others_are_served(self) -> bool:
        """Read a medium of the default workspace that is only at the provider."""
        message = await self.scene.message()
        answer = await self.read(message)
        return (answer.status_code, answer.content) == (200, message.body)


@asynccontextmanager
async def tenancy(
    open_scene: OpenScene, folder: Path, simulator: Simulator | None = None, **changes: Any
) -> AsyncIterator[Tenancy]:
    """Open a gateway with two workspaces; ``changes`` as in `workspaces_file`."""
    acme = simulator or Simulator(access_token=ACCESS_TOKEN, number=NUMBER)
    async with serve(acme) as endpoints:
        path = workspaces_file(folder, endpoints, **changes)
        async with open_scene(MEDIA_WORKSPACES=str(path)) as scene:
            yield Tenancy(scene, acme)
