"""``media-gateway serve`` as processes of its own: webhook to picture, one download for all, and orderly ends."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack

import httpx

from ingest.simulator import Medium
from tests.acceptance.conftest import Served, StartServer, alive, children, path
from tests.ingest.node import jpeg
from tests.ingest.site import SLOW
from tests.running import eventually, until

READERS = 40
PICTURE = jpeg(1, 300_000)


async def test_a_webhook_becomes_a_stored_picture(serve: StartServer) -> None:
    async with serve("--workers", "2") as served:
        medium = served.provider.simulator.add(PICTURE, "image/jpeg")
        (message_id,) = await served.webhook(medium)
        info = await served.completed(message_id)
        answer = await served.client.get(path(message_id))

    assert (answer.status_code, answer.content) == (httpx.codes.OK, PICTURE)
    assert answer.headers["X-Media-Source"] == "storage"
    assert answer.headers["ETag"] == f'"{medium.sha256_hex}"'
    assert (info["sha256"], info["storage_backend"]) == (medium.sha256_hex, "local")
    assert info["stored_url"].startswith("file://")
    assert served.provider.simulator.downloads(medium.id) == 1


async def test_a_crowd_of_cold_readers_on_two_processes_costs_one_download(serve: StartServer) -> None:
    async with serve("--workers", "2") as served, AsyncExitStack() as stack:
        message_id, medium = await _cold(served)
        asking = [asyncio.create_task(_open(served, message_id, stack)) for _ in range(READERS)]
        responses = await asyncio.gather(*asking)
        await eventually(lambda: _flights(served, 2))  # one that downloads, and one that follows it
        medium.gate.open()
        bodies = await asyncio.gather(*(response.aread() for response in responses))

    assert all(body == PICTURE for body in bodies)
    assert served.provider.simulator.downloads(medium.id) == 1


async def test_sigterm_lets_a_slow_response_end(serve: StartServer) -> None:
    async with serve("--workers", "2", MEDIA_GRACEFUL_TIMEOUT="20") as served, AsyncExitStack() as stack:
        message_id, medium = await _cold(served)
        response = await _open(served, message_id, stack)
        served.process.send_signal(signal.SIGTERM)
        await eventually(lambda: _refused(served))
        medium.gate.open()

        assert await response.aread() == PICTURE
        assert await asyncio.to_thread(served.process.wait, 20) == 0
    assert all("event" in line for line in served.logged())


async def test_one_process_ends_in_order_too(serve: StartServer) -> None:
    async with serve() as served:
        begun = children(served.process.pid)
        served.process.send_signal(signal.SIGTERM)

        assert await asyncio.to_thread(served.process.wait, 20) == 0
        assert not any(map(alive, begun))


async def test_a_worker_that_dies_is_started_again(serve: StartServer) -> None:
    async with serve() as served:
        (worker,) = await _started_children(served, 1)
        os.kill(worker, signal.SIGKILL)
        await until(lambda: children(served.process.pid).keys() - {worker})
        (message_id,) = await served.webhook(served.provider.simulator.add(PICTURE, "image/jpeg"))

        assert (await served.completed(message_id))["status"] == "completed"


async def test_nothing_outlives_a_parent_that_is_killed(serve: StartServer) -> None:
    async with serve("--workers", "2") as served:
        begun = await _started_children(served, 4)  # a worker, two of HTTP, and the tracker of their semaphores
        served.process.kill()
        await asyncio.to_thread(served.process.wait, 10)
        await until(lambda: not any(map(alive, begun)))


async def _cold(served: Served) -> tuple[str, Medium]:
    """Register a medium that is not ingested, and whose download waits half-way at a gate."""
    medium = served.provider.simulator.add(PICTURE, "image/jpeg", faults=SLOW)
    registration = {"provider_media_id": medium.id, "ingest": False}
    answer = await served.client.put("/media/messages/cold", json=registration)
    assert answer.status_code == httpx.codes.CREATED
    return "cold", medium


async def _open(served: Served, message_id: str, stack: AsyncExitStack) -> httpx.Response:
    """Ask for a medium on a connection of its own, and return with the head of the answer."""
    client = await stack.enter_async_context(httpx.AsyncClient(headers=served.client.headers, timeout=60))
    response = await stack.enter_async_context(client.stream("GET", f"{served.url}{path(message_id)}"))
    assert response.status_code == httpx.codes.OK
    return response


async def _flights(served: Served, count: int) -> bool:
    metrics = (await served.client.get("/metrics")).text
    return f"media_gateway_flights_open {float(count)}" in metrics


async def _refused(served: Served) -> bool:
    try:
        async with httpx.AsyncClient() as client:
            await client.get(f"{served.url}/healthz")
    except httpx.TransportError:
        return True
    return False


async def _started_children(served: Served, count: int) -> set[int]:
    await until(lambda: len(children(served.process.pid)) == count)
    return set(children(served.process.pid))
