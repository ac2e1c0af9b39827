"""From the webhook to ``completed``: how long a photograph and a film take to be stored with all their variants."""

import asyncio
import io
import json
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
from PIL import Image

from ingest.simulator import Simulator, serve, sign
from tests.bench.camera import clip, photograph
from tests.running import ACCESS_TOKEN, API_KEY, APP_SECRET, environment, eventually, free_port, process, started

ROUNDS = 5
PHOTO_BYTES = 2_000_000
LIMIT = 300.0  # seconds to wait for one medium


async def measure(folder: Path) -> dict[str, Any]:
    """A photograph of about 2 MB, several times, and ten seconds of Full HD from a phone, once; nothing else to do."""
    photos = [await asyncio.to_thread(_photo, folder / f"photo-{number}.jpg", number) for number in range(ROUNDS)]
    film = await asyncio.to_thread(lambda: clip("rocket", folder / "film.mp4").read_bytes())
    (folder / "gateway").mkdir()
    simulator, port = Simulator(access_token=ACCESS_TOKEN), free_port()
    url = f"http://127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        hosts = await stack.enter_async_context(serve(simulator))
        variables = {"WHATSAPP_GRAPH_URL": hosts.graph_url, "WHATSAPP_DOWNLOAD_HOSTS": hosts.lookaside_url}
        stack.enter_context(process("serve", "--port", str(port), env=environment(folder / "gateway", **variables)))
        await started(url)
        client = httpx.AsyncClient(base_url=url, headers={"X-API-Key": API_KEY}, timeout=60)
        api = await stack.enter_async_context(client)
        took = [await _ready(api, simulator, photo, "image") for photo in photos]
        film_took = await _ready(api, simulator, film, "video")
        info = (await api.get("/media/messages/wamid.video-1/info")).json()
    return {
        "part": "ready",
        "photograph": {"bytes": [len(photo) for photo in photos], "seconds": took},
        "film": {
            "bytes": len(film),
            "lasts": info["duration"],
            "seconds": film_took,
            "variants": sorted(info["variants"]),
        },
    }


def _photo(path: Path, number: int) -> bytes:
    """Return a 12 MP photograph of about `PHOTO_BYTES`: as sharp as that allows."""
    picture = Image.open(photograph("coffee", path))
    picture.putpixel((number, 0), (number, number, number))  # or it would be stored already
    for quality in range(90, 10, -5):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= PHOTO_BYTES:
            break
    return buffer.getvalue()


async def _ready(api: httpx.AsyncClient, simulator: Simulator, content: bytes, kind: str) -> float:
    """Send the webhook of a new medium, and return the seconds until ``info`` says ``completed``."""
    medium = await asyncio.to_thread(simulator.add, content, {"image": "image/jpeg", "video": "video/mp4"}[kind])
    number = sum(each.mime_type == medium.mime_type for each in simulator.media.values())
    message_id = f"wamid.{kind}-{number}"
    body = json.dumps(_event(message_id, kind, medium.id, medium.mime_type)).encode()
    signature = {"X-Hub-Signature-256": sign(body, APP_SECRET), "Content-Type": "application/json"}
    began = perf_counter()
    (await api.post("/webhooks/whatsapp", content=body, headers=signature)).raise_for_status()

    async def completed() -> bool:
        return bool((await api.get(f"/media/messages/{message_id}/info")).json()["status"] == "completed")

    await eventually(completed, LIMIT)
    return round(perf_counter() - began, 2)


def _event(message_id: str, kind: str, media_id: str, mime_type: str) -> dict[str, Any]:
    media = {"id": media_id, "mime_type": mime_type}
    message = {"id": message_id, "from": "15550002222", "timestamp": "1790416800", "type": kind, kind: media}
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": "200000000000002"}, "messages": [message]}
    change = {"field": "messages", "value": value}
    return {"object": "whatsapp_business_account", "entry": [{"id": "0", "changes": [change]}]}
