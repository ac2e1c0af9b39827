"""``MEDIA_DELIVERY=accel``: nginx sends the bytes, and clients see no difference but the speed."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from gateway.metrics import Metrics
from gateway.stores import open_store
from tests.gateway import raw
from tests.gateway.nginx import ACCEL, Nginx, Reads, accelerated
from tests.gateway.scene import SIZE, Message, OpenScene, Scene, jpeg
from tests.gateway.test_express import target_of
from tests.running import settings_for

ORIGIN = {"X-Origin-Verify": "origin-secret"}
OF_ONE_ANSWER = {"date", "server", "server-timing", "x-request-id", "connection"}
STORES = pytest.mark.parametrize("reads", [None, "whole", "cached", "sliced"])
"""Local files, and a bucket as each configuration reads it."""
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "the whole": ("", {}),
    "a range": ("", {"Range": "bytes=10-19"}),
    "a suffix": ("", {"Range": "bytes=-7"}),
    "a part that is still the same": ("", {"Range": "bytes=10-19", "If-Range": "{etag}"}),
    "another copy": ("", {"If-None-Match": '"other"'}),
    "a download": ("?download=1", {}),
    "for a page": ("", {"Origin": "https://chat.example.com"}),
    "for another page": ("", {"Origin": "https://elsewhere.example.com"}),
    "negotiated": ("?variant=auto", {"Accept": "image/webp,*/*"}),
    "what stands in": ("?variant=preview", {}),
    "for a CDN": ("", ORIGIN),
    "a part for a CDN": ("", ORIGIN | {"Range": "bytes=0-"}),
    "named by the client": ("", {"X-Request-ID": "mine"}),
}


def fields_of(answer: httpx.Response) -> list[tuple[str, str]]:
    """Return all fields but those that two answers to the same request differ in."""
    return sorted((name, value) for name, value in answer.headers.multi_items() if name not in OF_ONE_ANSWER)


@STORES
async def test_every_field_is_the_one_that_the_gateway_sends(
    open_scene: OpenScene, s3: dict[str, str], tmp_path: Path, reads: Reads | None
) -> None:
    variables: dict[str, Any] = {
        "MEDIA_CORS_ORIGINS": "https://chat.example.com",
        "MEDIA_ORIGIN_SECRET": "origin-secret",
    }
    bucket = s3 if reads else None
    async with accelerated(open_scene, tmp_path / "nginx", bucket, reads=reads or "whole", **variables) as (
        scene,
        front,
    ):
        note = await scene.store(await scene.message(b"Dear Ana", "text/plain; charset=utf-8", filename="né.txt"))
        photo = await scene.store(await scene.message(filename="猫.jpg"))
        for title, (query, headers) in WAYS.items():
            for message in (photo, note) if title in {"the whole", "a download"} else (photo,):
                await compare(scene, front, message, query, headers, sender="store" if reads else "nginx")


async def compare(
    scene: Scene, front: Nginx, message: Message, query: str, headers: dict[str, str], *, sender: str
) -> None:
    """Ask twice, through nginx and past it."""
    given = {name: value.format(etag=message.etag) for name, value in headers.items()}
    through = await scene.client.get(message.path + query, headers=given)
    past = await scene.client.get(f"http://{front.gateway}{message.path}{query}", headers=given)
    assert await front.sender(through) in {sender, "nginx"}  # what its cache has, it sends itself
    assert (through.status_code, through.content) == (past.status_code, past.content)
    assert fields_of(through) == fields_of(past)
    assert through.headers["server-timing"].startswith("storage;dur=")
    assert through.headers["x-request-id"] == given.get("X-Request-ID", through.headers["x-request-id"])


@pytest.mark.parametrize(
    "target",
    [b"/.media/store", b"/.media/files/media/m/1", b"/%2emedia/store", b"/media/../.media/store", b"//.media/store"],
)
async def test_nobody_outside_reaches_what_is_behind(open_scene: OpenScene, tmp_path: Path, target: bytes) -> None:
    async with accelerated(open_scene, tmp_path / "nginx") as (scene, _):
        answer = await raw.exchange(scene.gateway.url, target, X_Accel_Redirect="/.media/files/gateway.db")
        assert answer.status == 404


@pytest.mark.parametrize(
    ("proxies", "offer"),
    [
        pytest.param("10.0.0.1", {"X-Sendfile-Type": "X-Accel-Redirect"}, id="a client that takes itself for nginx"),
        pytest.param("127.0.0.1", {}, id="a proxy that is none"),
    ],
)
async def test_who_is_no_trusted_nginx_gets_the_bytes(
    open_scene: OpenScene, s3: dict[str, str], proxies: str, offer: dict[str, str]
) -> None:
    async with open_scene(**s3, **ACCEL | {"MEDIA_TRUSTED_PROXIES": proxies}) as scene:
        message = await scene.store(await scene.message())
        answer = await scene.client.get(message.path, headers=offer)
        assert answer.content == message.body
        assert not [name for name in answer.headers if name.startswith(("x-accel", "x-media-object"))]


async def test_what_is_in_memory_comes_from_there(open_scene: OpenScene, tmp_path: Path) -> None:
    async with accelerated(open_scene, tmp_path / "nginx", MEDIA_CACHE_BYTES="1000000") as (scene, front):
        message = await scene.message()
        cold = await scene.client.get(message.path)
        await scene.store(message)
        stored = await scene.client.get(message.path)
        assert [cold.headers["x-media-source"], stored.headers["x-media-source"]] == ["provider", "cache"]
        assert [await front.sender(cold), await front.sender(stored)] == ["gateway", "gateway"]


async def test_the_bytes_that_nginx_sends_are_charged(open_scene: OpenScene, tmp_path: Path) -> None:
    limit = f"1/{3 * SIZE}"
    opening = accelerated(open_scene, tmp_path / "nginx", MEDIA_LIMIT_BYTES=limit, MEDIA_CACHE_BYTES="0")
    async with opening as (scene, front):
        message = await scene.store(await scene.message())
        target = target_of(scene.gateway.signer.mint(message.id).url)
        answers = [await scene.nobody.get(target) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429]
        assert [await front.sender(answer) for answer in answers] == ["nginx"] * 4 + ["gateway"]


async def test_every_id_finds_its_own_file(open_scene: OpenScene, tmp_path: Path) -> None:
    ids = ("..", ".", "a b", "a%2Fb", "a/b", "%2e%2e", "x?y#z", "a;b&c=d", "~", "猫", "a\\b", "wamid.HBgL/+==")
    async with accelerated(open_scene, tmp_path / "nginx") as (scene, front):
        for each in ids:
            message = await scene.message(message_id=each)
            # Past nginx, which takes dots for steps before it looks at anything else.
            inside = f"http://{front.gateway}{message.path}"
            await scene.store(message)
            offered = await scene.client.get(inside, headers={"X-Sendfile-Type": "X-Accel-Redirect"})
            location = offered.headers["x-accel-redirect"]
            assert location.startswith("/.media/files/media/")
            answer = await scene.client.get(message.path)
            if each not in {".", ".."}:
                assert (await front.sender(answer), answer.content) == ("nginx", message.body)


# When something fails ------------------------------------------------------------------------------------------------


@STORES
async def test_what_the_store_has_lost_comes_from_the_provider(
    open_scene: OpenScene, s3: dict[str, str], tmp_path: Path, reads: Reads | None
) -> None:
    bucket = s3 if reads else None
    async with accelerated(open_scene, tmp_path / "nginx", bucket, reads=reads or "whole") as (scene, front):
        message = await scene.store(await scene.message(filename="cat.jpg"))
        await lose(scene, message)
        for headers, status in (({}, 200), ({"Range": "bytes=0-9"}, 206)):
            answer = await scene.client.get(message.path, headers=headers)
            assert (answer.status_code, answer.headers["x-media-source"]) == (status, "provider")
            assert answer.content == (message.body if status == 200 else message.body[:10])
            assert await front.sender(answer) == "gateway"
            assert no_field_twice(answer)


@STORES
async def test_what_nobody_has_any_more_is_a_problem_document(
    open_scene: OpenScene, s3: dict[str, str], tmp_path: Path, reads: Reads | None
) -> None:
    bucket = s3 if reads else None
    async with accelerated(open_scene, tmp_path / "nginx", bucket, reads=reads or "whole") as (scene, _):
        message = await scene.store(await scene.message())
        await lose(scene, message)
        scene.simulator.online = False
        answer = await scene.client.get(message.path)
        assert answer.status_code >= 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["cache-control"] == "no-store"
        assert not {"etag", "content-disposition", "x-media-source"} & set(answer.headers)
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert no_field_twice(answer)


async def test_a_store_that_nginx_cannot_reach_is_read_by_the_gateway_and_no_log_shows_a_signature(
    open_scene: OpenScene, s3: dict[str, str], tmp_path: Path
) -> None:
    elsewhere = "http://127.0.0.1:9"
    async with accelerated(open_scene, tmp_path / "nginx", s3, store=elsewhere) as (scene, front):
        message = await scene.store(await scene.message())
        url = scene.gateway.signer.mint(message.id).url.partition("/media")[2]
        for _ in range(3):  # what the gateway has handed over before, it does not hand over again in its own place
            answer = await scene.nobody.get(f"/media{url}")
            assert (answer.content, answer.headers["x-media-source"]) == (message.body, "storage")
            line = await front.line(answer)
            assert line["upstream_status"] == "200 : 502 : 200"
            assert line["path"] == message.path
        for log in (front.access_log, front.output):
            assert "X-Amz" not in log
            assert "sig=" not in log


async def lose(scene: Scene, message: Message) -> None:
    """Delete the object behind everybody's back."""
    storage = settings_for(scene.gateway.path, **scene.variables).storage
    async with open_store(storage, Metrics(CollectorRegistry())) as store:
        await store.delete(f"media/{message.id}/{message.medium.id}")


def no_field_twice(answer: httpx.Response) -> bool:
    """Whether each field has one line."""
    names = [name for name, _ in answer.headers.multi_items()]
    return len(names) == len(set(names))


# What is kept ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reads", ["cached", "sliced"])
async def test_an_object_is_fetched_once_for_all_who_may_read_it(
    open_scene: OpenScene, s3: dict[str, str], tmp_path: Path, reads: Reads
) -> None:
    body = jpeg(2_500_000)
    async with accelerated(open_scene, tmp_path / "nginx", s3, reads=reads) as (scene, front):
        message = await scene.store(await scene.message(body))
        signed = scene.gateway.signer.mint(message.id).url.partition("/media")[2]
        ways: list[tuple[Any, str]] = [(scene.client, message.path), (scene.nobody, f"/media{signed}")]
        first = await scene.client.get(message.path)
        assert (first.content, await front.sender(first)) == (body, "store")
        await lose(scene, message)
        for client, path in ways:
            for start, stop in ((0, 10), (1_048_570, 1_048_580), (1_048_576, 2_097_152), (2_499_999, 2_500_000)):
                part = await client.get(path, headers={"Range": f"bytes={start}-{stop - 1}"})
                assert part.status_code == 206
                assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/2500000"
                assert part.content == body[start:stop]
                assert await front.sender(part) == "nginx"
            assert (await client.get(path)).content == body
        refused = await scene.nobody.get(message.path)
        assert refused.status_code == 401


async def test_of_a_film_only_the_parts_are_fetched_that_somebody_watches(
    open_scene: OpenScene, s3: dict[str, str], tmp_path: Path
) -> None:
    body = jpeg(5_000_000)
    async with accelerated(open_scene, tmp_path / "nginx", s3, reads="sliced") as (scene, front):
        message = await scene.store(await scene.message(body))
        part = await scene.client.get(message.path, headers={"Range": "bytes=3000000-3000009"})
        assert part.content == body[3_000_000:3_000_010]
        assert sum(map(int, (await front.line(part))["upstream_bytes"].split(" : "))) <= 1024**2


@pytest.mark.parametrize("reads", ["cached", "sliced"])
async def test_what_is_deleted_is_gone_at_once(
    open_scene: OpenScene, s3: dict[str, str], tmp_path: Path, reads: Reads
) -> None:
    async with accelerated(open_scene, tmp_path / "nginx", s3, reads=reads) as (scene, _):
        message = await scene.store(await scene.message())
        for _each in range(2):
            assert (await scene.client.get(message.path)).content == message.body
        assert (await scene.client.delete(message.path)).status_code == 204
        assert (await scene.client.get(message.path)).status_code == 410


@STORES
async def test_a_client_that_vanishes_leaves_nothing_behind(
    open_scene: OpenScene, s3: dict[str, str], tmp_path: Path, reads: Reads | None
) -> None:
    bucket = s3 if reads else None
    async with accelerated(open_scene, tmp_path / "nginx", bucket, reads=reads or "whole") as (scene, front):
        message = await scene.store(await scene.message(jpeg(20_000_000)))
        async with scene.client.stream("GET", message.path) as answer:
            await anext(answer.aiter_raw(1))
        line = await front.line(answer)
        assert line["bytes"] < 20_000_000
        whole = await scene.client.get(message.path)
        assert whole.content == message.body
