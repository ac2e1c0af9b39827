"""A medium that is not stored yet: it streams as it arrives, is verified as it passes, and belongs to no reader."""

import asyncio

import httpx
import pytest

from ingest.simulator import Faults, SizeForm, SyntheticContent, Transport
from tests.gateway.scene import IMMUTABLE, OpenScene, Scene, jpeg
from tests.running import eventually, until

CHUNK = 1000  # bytes
CHUNKS = 5
STEP_BY_STEP = Faults(transport=Transport.DRIP, chunk_size=CHUNK)
NEVER_ENDING = Faults(chunked=True, transport=Transport.STALL, at_byte=CHUNK * CHUNKS)
"""All bytes are there, but the provider does not end the body."""


async def test_bytes_reach_the_client_as_they_arrive(scene: Scene) -> None:
    message = await scene.message(jpeg(CHUNK * CHUNKS), faults=STEP_BY_STEP)
    gate = message.medium.gate
    gate.release()
    async with scene.client.stream("GET", message.path) as response:
        chunks = response.aiter_raw()
        received = b""
        for number in range(1, CHUNKS):
            received += await exactly(chunks, CHUNK)
            assert received == message.body[: number * CHUNK]
            await gate.reached()  # the rest is still at the provider
            gate.release()
        received += await exactly(chunks, CHUNK)
    assert received == message.body


async def test_the_last_byte_is_held_back_until_all_are_verified(scene: Scene) -> None:
    message = await scene.message(jpeg(CHUNK * CHUNKS), faults=NEVER_ENDING)
    async with scene.client.stream("GET", message.path) as response:
        assert response.headers["content-length"] == str(CHUNK * CHUNKS)
        assert response.headers["cache-control"] == IMMUTABLE
        chunks = response.aiter_raw()
        assert await exactly(chunks, CHUNK * CHUNKS - 1) == message.body[:-1]
        await message.medium.gate.reached()
        message.medium.gate.open()
        assert await exactly(chunks, 1) == message.body[-1:]


async def test_the_last_byte_of_a_range_is_held_back_where_it_is_the_last_of_all(scene: Scene) -> None:
    message = await scene.message(jpeg(CHUNK * CHUNKS), faults=NEVER_ENDING)
    async with scene.client.stream("GET", message.path, headers={"Range": "bytes=-10"}) as response:
        chunks = response.aiter_raw()
        assert await exactly(chunks, 9) == message.body[-10:-1]
        message.medium.gate.open()
        assert await exactly(chunks, 1) == message.body[-1:]


async def test_a_body_of_unknown_size_does_not_end_before_it_is_verified(scene: Scene) -> None:
    faults = Faults(chunked=True, file_size=SizeForm.MISSING, transport=Transport.STALL, at_byte=CHUNK * CHUNKS)
    message = await scene.message(jpeg(CHUNK * CHUNKS), faults=faults)
    async with scene.client.stream("GET", message.path) as response:
        chunks = response.aiter_raw()
        assert await exactly(chunks, CHUNK * CHUNKS - 1) == message.body[:-1]
        message.medium.gate.open()
        assert b"".join([chunk async for chunk in chunks]) == message.body[-1:]


async def test_a_reader_that_comes_late_gets_what_is_there_at_once_and_the_rest_as_it_arrives(scene: Scene) -> None:
    message = await scene.message(jpeg(CHUNK * CHUNKS), faults=STEP_BY_STEP)
    message.medium.gate.release(3)
    async with scene.client.stream("GET", message.path) as first, scene.client.stream("GET", message.path) as late:
        begun, joined = first.aiter_raw(), late.aiter_raw()
        assert await exactly(begun, 3 * CHUNK) == await exactly(joined, 3 * CHUNK) == message.body[: 3 * CHUNK]
        async with scene.client.stream("GET", message.path, headers={"Range": "bytes=2000-2999"}) as ranged:
            assert await ranged.aread() == message.body[2000:3000]
        message.medium.gate.open()
        assert await exactly(begun, 2 * CHUNK) == await exactly(joined, 2 * CHUNK) == message.body[3 * CHUNK :]
    assert scene.simulator.downloads(message.medium.id) == 1


async def test_a_crowd_is_served_by_one_download(scene: Scene) -> None:
    message = await scene.message(jpeg(200_000))
    answers = await asyncio.gather(*(scene.client.get(message.path) for _ in range(30)))
    assert {answer.content for answer in answers} == {message.body}
    assert scene.simulator.downloads(message.medium.id) == 1


async def test_a_download_survives_its_readers(scene: Scene) -> None:
    message = await scene.message(jpeg(CHUNK * CHUNKS), faults=STEP_BY_STEP)
    message.medium.gate.release()
    async with scene.client.stream("GET", message.path) as response:
        await exactly(response.aiter_raw(), CHUNK)
    message.medium.gate.open()
    answer = await scene.client.get(message.path)
    assert answer.content == message.body
    assert scene.simulator.downloads(message.medium.id) == 1
    assert await eventually(lambda: no_flights(scene))


async def test_a_reader_that_leaves_before_the_first_byte_leaves_nothing_behind(scene: Scene) -> None:
    message = await scene.message(faults=Faults(transport=Transport.SILENT))
    with pytest.raises(httpx.ReadTimeout):
        await scene.client.get(message.path, timeout=0.3)
    message.medium.gate.open()
    assert (await scene.client.get(message.path)).content == message.body
    assert await eventually(lambda: no_flights(scene))


async def test_a_reader_that_does_not_read_stalls_nobody(scene: Scene) -> None:
    message = await scene.message(SyntheticContent(24 * 1024**2, head=b"\xff\xd8\xff\xe0"))
    async with scene.client.stream("GET", message.path):  # reads nothing
        answer = await scene.client.get(message.path)
        assert answer.content == message.body
    assert await eventually(lambda: no_flights(scene))


async def test_a_stored_medium_that_breaks_off_breaks_the_connection(open_scene: OpenScene) -> None:
    async with open_scene() as scene:
        message = await scene.store(await scene.message(SyntheticContent(48 * 1024**2, head=b"\xff\xd8\xff\xe0")))
        stored = scene.gateway.path / "media" / message.id / message.medium.id
        async with scene.client.stream("GET", message.path) as response:
            assert response.headers["x-media-source"] == "storage"
            with stored.open("r+b") as file:
                file.truncate(100)
            with pytest.raises(httpx.RemoteProtocolError):
                await response.aread()


async def test_what_the_provider_sent_in_a_fallback_is_not_asked_for_again(scene: Scene) -> None:
    message = await scene.store(await scene.message())
    (scene.gateway.path / "media" / message.id / message.medium.id).unlink()
    scene.forget_requests()
    answers = [await scene.client.get(message.path) for _ in range(3)]
    assert answers[0].headers["x-media-source"] == "provider"
    assert {answer.content for answer in answers} == {message.body}
    assert scene.simulator.downloads(message.medium.id) == 1


async def test_a_success_at_the_provider_schedules_the_ingest_without_making_the_client_wait(scene: Scene) -> None:
    message = await scene.message()
    await scene.client.get(message.path)

    async def scheduled() -> bool:
        return metric(await metrics(scene), 'media_gateway_queue_depth{queue="media-high"}') == 1

    assert await eventually(scheduled)


@pytest.mark.parametrize("mode", ["new", "off"])
async def test_no_ingest_follows_a_fallback_where_it_is_switched_off(open_scene: OpenScene, mode: str) -> None:
    async with open_scene(MEDIA_INGEST=mode) as scene:
        message = await scene.message()
        assert (await scene.client.get(message.path)).content == message.body
        await until(lambda: scene.simulator.downloads(message.medium.id) == 1)
        assert metric(await metrics(scene), 'media_gateway_queue_depth{queue="media-high"}') == 0


async def exactly(chunks: object, size: int) -> bytes:
    """Read so many bytes, and no more: what comes next has not arrived yet."""
    received = b""
    while len(received) < size:
        received += await anext(chunks)  # type: ignore[call-overload] # an asynchronous iterator of bytes
    assert len(received) == size
    return received


async def metrics(scene: Scene) -> str:
    """Return the gateway's metrics."""
    return (await scene.client.get("/metrics")).text


def metric(text: str, name: str) -> float:
    """Return the value of a metric with its labels."""
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} "))


async def no_flights(scene: Scene) -> bool:
    """Whether no download is under way."""
    return metric(await metrics(scene), "media_gateway_flights_open") == 0
