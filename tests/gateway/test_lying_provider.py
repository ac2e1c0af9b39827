"""What fails verification never looks complete, is never stored and never cached."""

import httpx
import pytest

from ingest.simulator import Body, Faults, HashForm, SizeForm, Transport
from tests.gateway.raw import exchange
from tests.gateway.scene import SIZE, Message, Scene, jpeg
from tests.running import API_KEY, eventually

LIES = [
    pytest.param(Faults(body=Body.CORRUPT), id="other bytes than the hash says"),
    pytest.param(Faults(sha256=HashForm.WRONG), id="another hash than that of the bytes"),
    pytest.param(Faults(transport=Transport.TRUNCATED), id="breaks off"),
    pytest.param(Faults(transport=Transport.RESET), id="is reset"),
    pytest.param(Faults(transport=Transport.TRUNCATED, at_byte=0), id="breaks off before the first byte"),
    pytest.param(Faults(transport=Transport.RESET, at_byte=9), id="is reset after nine bytes"),
    pytest.param(Faults(chunked=True, length_error=-1), id="one byte short in chunks"),
    pytest.param(Faults(chunked=True, length_error=1), id="one byte too long in chunks"),
    pytest.param(Faults(length_error=5), id="longer than declared"),
    pytest.param(Faults(file_size_error=-5), id="declared too short"),
    pytest.param(Faults(chunked=True, file_size=SizeForm.MISSING, body=Body.CORRUPT), id="corrupt, of unknown size"),
    pytest.param(
        Faults(chunked=True, file_size=SizeForm.MISSING, transport=Transport.TRUNCATED), id="cut, of unknown size"
    ),
    pytest.param(Faults(body=Body.HTML, content_type="octet_stream"), id="a web page"),  # type: ignore[arg-type] # its value
]


@pytest.mark.parametrize("faults", LIES)
@pytest.mark.parametrize("size", [pytest.param(SIZE, id="1000 bytes"), pytest.param(10, id="10 bytes")])
async def test_a_lie_never_looks_complete_and_is_never_kept(scene: Scene, faults: Faults, size: int) -> None:
    message = await scene.message(jpeg(size), faults=faults)
    await refused(scene, message)
    assert leftovers(scene) == set()
    await refused(scene, message)  # nor is it there the second time
    scene.simulator.set_faults(message.medium.id, None)
    await scene.client.post(f"{message.path}/retry")
    answer = await scene.client.get(message.path)
    assert (answer.status_code, answer.content) == (200, message.body)


async def refused(scene: Scene, message: Message) -> None:
    """Ask once: an error, or a body that breaks off."""
    try:
        answer = await scene.client.get(message.path)
    except (httpx.RemoteProtocolError, httpx.ReadError):
        return
    assert answer.status_code == 502
    assert answer.json()["type"] == "provider-error"


def leftovers(scene: Scene) -> set[str]:
    """Name the bytes that are kept of media."""
    spools, stored = scene.gateway.path / "spool", scene.gateway.path / "media"
    return {path.name for folder in (spools, stored) for path in folder.rglob("*.part")} | {
        path.name for path in stored.rglob("*")
    }


@pytest.mark.parametrize(
    ("faults", "version"),
    [
        (Faults(body=Body.CORRUPT), b"1.1"),
        (Faults(body=Body.CORRUPT), b"1.0"),
        (Faults(body=Body.CORRUPT, chunked=True, file_size=SizeForm.MISSING), b"1.1"),
        (Faults(transport=Transport.TRUNCATED, at_byte=700), b"1.1"),
    ],
)
async def test_on_the_wire_the_body_does_not_end_properly(scene: Scene, faults: Faults, version: bytes) -> None:
    message = await scene.message(faults=faults)
    answer = await exchange(scene.gateway.url, message.path.encode(), version=version, X_API_Key=API_KEY)
    assert answer.status == 200
    assert len(answer.body) > 500
    assert not answer.is_whole


async def test_a_range_that_ends_with_the_last_byte_breaks_off_and_one_before_it_is_not_to_be_kept(
    scene: Scene,
) -> None:
    lying = Faults(body=Body.CORRUPT, transport=Transport.DRIP, chunk_size=600)
    message = await scene.message(faults=lying)
    message.medium.gate.release()
    part = await scene.client.get(message.path, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.headers["cache-control"]) == (206, "no-store")
    async with scene.client.stream("GET", message.path, headers={"Range": "bytes=500-"}) as rest:
        message.medium.gate.open()
        with pytest.raises(httpx.RemoteProtocolError):
            await rest.aread()


async def test_an_empty_medium_with_another_hash_is_refused_before_its_answer_begins(scene: Scene) -> None:
    message = await scene.message(b"", "text/plain", faults=Faults(sha256=HashForm.WRONG))
    assert (await scene.client.get(message.path)).status_code == 502


async def test_an_empty_medium_is_served(scene: Scene) -> None:
    message = await scene.message(b"", "text/plain")
    for _ in range(2):
        answer = await scene.client.get(message.path, headers={"Range": "bytes=0-9"})
        assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "0", b"")
        assert answer.headers["etag"] == message.etag
    await scene.store(message)


async def test_a_provider_that_failed_is_not_asked_again_at_once_and_says_when(scene: Scene) -> None:
    message = await scene.message(faults=Faults(download_error=500))
    first = await scene.client.get(message.path)
    scene.forget_requests()
    second = await scene.client.get(message.path)
    assert first.status_code == second.status_code == 502
    assert 0 < int(second.headers["retry-after"]) <= 10
    assert list(scene.simulator.requests) == []


async def test_the_next_try_works_once_the_provider_does(scene: Scene) -> None:
    message = await scene.message(faults=Faults(transport=Transport.TRUNCATED))
    await refused(scene, message)
    scene.simulator.set_faults(message.medium.id, None)

    async def recovered() -> bool:
        return (await scene.client.get(message.path)).content == message.body

    assert await eventually(recovered)


async def test_one_stumble_of_the_provider_is_not_seen(scene: Scene) -> None:
    message = await scene.message(faults=Faults(download_error=500, download_error_times=1))
    assert (await scene.client.get(message.path)).content == message.body
