"""The demo: gateway, worker, provider simulator and a sample chat on loopback, in one command."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.app import create_app
from gateway.bodies import json_response, read_json, timestamp
from gateway.demo.medium import described
from gateway.demo.samples import Sample, build_samples
from gateway.services import Services
from gateway.serving import listen, migrate, worker_beside
from gateway.settings import Settings
from ingest.simulator import Simulator, WebhookSender, serve
from storage.record import MediaRecord, Status
from storage.renditions import NOTHING, Processed

PAGE = Path(__file__).parent
ASSETS = {"page.css": "text/css"} | {path.name: "text/javascript" for path in sorted(PAGE.glob("*.js"))}
GRACE = 5.0  # seconds
FOREIGN = ("MEDIA_", "WHATSAPP_", "AWS_", "R2_")
KEPT = ("MEDIA_API_KEYS", "MEDIA_LOG_LEVEL")


class Switch(BaseModel):
    """The body of ``POST /demo/provider``."""

    online: bool


class Chat:
    """The sample chat, as the page asks for it."""

    def __init__(self, services: Services, simulator: Simulator, messages: dict[str, Sample]) -> None:
        self._services = services
        self._simulator = simulator
        self._messages = messages
        self._began = datetime.now(UTC)

    def routes(self) -> list[BaseRoute]:
        """Return the page's routes."""
        return [
            Route("/", lambda _: RedirectResponse("/demo")),
            Route("/demo", self._page),
            Route("/demo/", self._page),
            Route("/demo/chat", self._chat),
            Route("/demo/provider", self._provider, methods=["POST"]),
            *[Route(f"/demo/{name}", _asset(name, media_type)) for name, media_type in ASSETS.items()],
        ]

    async def _page(self, _request: Request) -> Response:
        return FileResponse(PAGE / "page.html", media_type="text/html")

    async def _provider(self, request: Request) -> Response:
        """Turn the provider on or off."""
        self._simulator.online = (await read_json(request, Switch)).online
        return json_response({"provider_online": self._simulator.online})

    async def _chat(self, _request: Request) -> Response:
        """Show every message with its state."""
        sent = dict(self._messages)  # more may be sent while we ask
        found = {message_id: await self._services.foundation.records.get(message_id) for message_id in sent}
        stored = [record.stored.id for record in found.values() if record is not None and record.stored is not None]
        known = await self._services.foundation.renditions.describe(stored)
        messages = [
            self._message(message_id, sample, found[message_id], _processed(found[message_id], known))
            for message_id, sample in sent.items()
        ]
        calls = sum(self._simulator.downloads(medium_id) for medium_id in self._simulator.media)
        return json_response({"provider_online": self._simulator.online, "provider_calls": calls, "messages": messages})

    def _message(
        self, message_id: str, sample: Sample, record: MediaRecord | None, processed: Processed
    ) -> dict[str, Any]:
        stored = record.stored if record is not None else None
        mint = self._services.signer.mint
        return {
            "message_id": message_id,
            "kind": sample.kind,
            "caption": sample.caption,
            "filename": sample.filename,
            "voice": sample.voice,
            "sender": sample.sender,
            "timestamp": timestamp(record.created_at if record is not None else self._began),
            "url": mint(message_id).url,
            "download_url": mint(message_id, download=True).url,
            "status": record.status if record is not None else Status.PENDING,
            "size": stored.size if stored is not None else sample.path.stat().st_size,
            "mime_type": (record.content_type if record is not None else None) or sample.mime_type,
            **described(stored, processed, lambda variant: mint(message_id, variant).url),
        }


def _processed(record: MediaRecord | None, known: Mapping[str, Processed]) -> Processed:
    stored = record.stored if record is not None else None
    return known.get(stored.id, NOTHING) if stored is not None else NOTHING


def _asset(name: str, media_type: str) -> Callable[[Request], Response]:
    def answer(_request: Request) -> Response:
        return FileResponse(PAGE / name, media_type=media_type)

    return answer


async def run_demo(folder: Path, *, port: int) -> None:
    """Run everything below ``folder`` until told to stop; print the page's URL once it can be opened."""
    _leave_the_environment(folder)
    samples = await asyncio.to_thread(_build, folder / "samples")
    token = secrets.token_urlsafe()
    simulator = Simulator(access_token=token)
    with listen("127.0.0.1", port) as listening:
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with serve(simulator) as endpoints:
            os.environ.update(_environment(folder, base, endpoints, token))
            settings = Settings.load()
            await migrate(settings)
            async with _worker():
                await _serve(settings, simulator, samples, listening, base)


@asynccontextmanager
async def _worker() -> AsyncIterator[None]:
    """Run a worker; until its last job has ended, it asks the simulator, which needs our event loop."""
    with ExitStack() as stack:
        stack.enter_context(worker_beside("--concurrency", "4", grace=GRACE))
        try:
            yield
        finally:
            await asyncio.to_thread(stack.close)


def _leave_the_environment(folder: Path) -> None:
    """Forget how another gateway is configured here: the demo must never write to its database or bucket."""
    for name in [name for name in os.environ if name.startswith(FOREIGN) and name not in KEPT]:
        del os.environ[name]
    os.chdir(folder)  # away from its .env


def _build(folder: Path) -> list[Sample]:
    folder.mkdir(parents=True)
    return build_samples(folder)


def _environment(folder: Path, base: str, endpoints: Any, token: str) -> dict[str, str]:
    return {
        "MEDIA_STORAGE_PATH": str(folder / "media"),
        "MEDIA_LISTEN_HOST": "127.0.0.1",
        "MEDIA_PUBLIC_URL": base,
        "MEDIA_SIGNING_KEYS": f"demo:{secrets.token_urlsafe()}",
        "MEDIA_API_KEYS": os.environ.get("MEDIA_API_KEYS", secrets.token_urlsafe()),
        "MEDIA_INGEST_RETRY_DELAYS": "1,2,4",
        "MEDIA_INGEST_POLL_INTERVAL": "0.1",
        "MEDIA_GRACEFUL_TIMEOUT": str(int(GRACE)),
        "MEDIA_LOG_LEVEL": os.environ.get("MEDIA_LOG_LEVEL", "warning"),
        "WHATSAPP_ACCESS_TOKEN": token,
        "WHATSAPP_APP_SECRET": secrets.token_urlsafe(),
        "WHATSAPP_VERIFY_TOKEN": secrets.token_urlsafe(),
        "WHATSAPP_GRAPH_URL": endpoints.graph_url,
        "WHATSAPP_DOWNLOAD_HOSTS": f"{endpoints.lookaside_url},{endpoints.elsewhere_url}",
    }


async def _serve(
    settings: Settings, simulator: Simulator, samples: list[Sample], listening: socket.socket, base: str
) -> None:
    messages: dict[str, Sample] = {}

    @asynccontextmanager
    async def chat(services: Services) -> AsyncIterator[list[BaseRoute]]:
        sending = asyncio.create_task(_send(simulator, settings, samples, messages, base), name="sample chat")
        yield Chat(services, simulator, messages).routes()
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending

    config = uvicorn.Config(
        create_app(settings, extra=chat),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(GRACE),
    )
    await uvicorn.Server(config).serve(sockets=[listening])


async def _send(
    simulator: Simulator, settings: Settings, samples: list[Sample], messages: dict[str, Sample], base: str
) -> None:
    """Let the simulator subscribe and send the chat through signed webhooks, as the provider would."""
    secret = settings.ingest.app_secret.get_secret_value()
    async with httpx.AsyncClient(timeout=30) as client:
        sender = WebhookSender(f"{base}/webhooks/whatsapp", secret, client)
        if not await sender.handshake(settings.ingest.verify_token.get_secret_value()):
            raise RuntimeError("the gateway refused the simulator's handshake")
        print(f"{base}/demo", flush=True)  # noqa: T201 the one thing that the demo says
        for sample in samples:
            medium = await asyncio.to_thread(
                simulator.add, sample.path, sample.mime_type, filename=sample.filename, voice=sample.voice
            )
            message = simulator.webhooks.media(medium, caption=sample.caption)
            messages[message["id"]] = sample
            await sender.deliver(simulator.webhooks.payload(message))
