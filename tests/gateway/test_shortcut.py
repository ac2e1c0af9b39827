"""What is read from the store past everything that has decided it before: the same answers, and no new way to fail."""

from collections.abc import AsyncIterator

import pytest

from gateway.media import MediaReader
from tests.gateway.scene import SIZE, Message, OpenScene, Scene
from tests.gateway.test_express import BY_THE_APPLICATION, REQUESTS, patient_caches, shared

__all__ = ["patient_caches"]  # used by its name


@pytest.fixture
async def uncached(open_scene: OpenScene) -> AsyncIterator[Scene]:
    """A gateway that keeps no body in memory."""
    async with open_scene(MEDIA_CACHE_BYTES="0") as opened:
        yield opened


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that the application has decided about."""
    paths: list[str] = []
    original = MediaReader.__call__

    async def watched(reader: MediaReader, scope: dict, receive: object, send: object) -> None:  # type: ignore[type-arg] # ASGI's
        paths.append(scope["path"])
        await original(reader, scope, receive, send)  # type: ignore[arg-type] # passed through

    monkeypatch.setattr(MediaReader, "__call__", watched)
    return paths


async def known(scene: Scene) -> tuple[Message, str]:
    """Return a stored message, and its URL that has been asked for."""
    message = await scene.store(await scene.message())
    url = scene.gateway.signer.mint(message.id).url
    assert (await scene.nobody.get(url)).headers["x-media-source"] == "storage"
    return message, url


@pytest.mark.parametrize(("method", "fields"), REQUESTS.values(), ids=REQUESTS)
async def test_what_is_read_past_the_application_is_the_same(
    uncached: Scene, decided: list[str], method: str, fields: dict[str, str]
) -> None:
    message, url = await known(uncached)
    fields = {name: value.replace("ETAG", message.etag) for name, value in fields.items()}
    await uncached.nobody.request(method, url, headers=fields)
    decided.clear()
    again = await uncached.nobody.request(method, url, headers=fields)
    assert decided == []
    by_the_application = await uncached.nobody.request(method, url, headers=fields | BY_THE_APPLICATION)
    assert decided == [message.path]
    assert shared(again) == shared(by_the_application)


async def test_several_ranges_are_decided_each_time(uncached: Scene, decided: list[str]) -> None:
    _, url = await known(uncached)
    decided.clear()
    answers = [await uncached.nobody.get(url, headers={"Range": "bytes=0-1,5-6"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [206, 206]
    assert len(decided) == 2


async def test_a_store_that_has_lost_the_object_leaves_it_to_the_provider(uncached: Scene) -> None:
    message, url = await known(uncached)
    assert (await uncached.nobody.get(url)).headers["x-media-source"] == "storage"
    for file in (uncached.gateway.path / "media").rglob("*"):
        if file.is_file():
            file.unlink()
    answer = await uncached.nobody.get(url)
    assert (answer.status_code, answer.headers["x-media-source"], answer.content) == (200, "provider", message.body)


async def test_who_has_used_up_what_they_may_is_told_so_by_the_application(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_CACHE_BYTES="0", MEDIA_LIMIT_REQUESTS="1/4") as scene:
        _, url = await known(scene)
        answers = [await scene.nobody.get(url) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["content-type"] == "application/problem+json"


async def test_bytes_that_were_sent_are_charged(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_CACHE_BYTES="0", MEDIA_LIMIT_BYTES=f"1/{3 * SIZE}") as scene:
        _, url = await known(scene)
        statuses = [(await scene.nobody.get(url)).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]


async def test_what_has_come_into_memory_is_said_to_come_from_there(scene: Scene) -> None:
    message, url = await known(scene)
    sources = [(await scene.nobody.get(url)).headers["x-media-source"] for _ in range(2)]
    assert sources == ["cache", "cache"]
    assert (await scene.nobody.get(url)).content == message.body


async def test_a_deleted_message_is_gone(uncached: Scene) -> None:
    message, url = await known(uncached)
    assert (await uncached.nobody.get(url)).status_code == 200
    await uncached.client.delete(message.path)
    assert (await uncached.nobody.get(url)).status_code == 410
