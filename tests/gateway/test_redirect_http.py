"""``MEDIA_DELIVERY=redirect``: the client fetches the bytes from the store, and gets what we would have sent."""

from urllib.parse import urlsplit

import pytest

from gateway.demo.samples import PHOTOS
from tests.gateway.scene import Message, OpenScene, Scene

PHOTO = (PHOTOS / "coffee.jpg").read_bytes()
REDIRECT = {"MEDIA_DELIVERY": "redirect", "MEDIA_REDIRECT_LIFE": "600"}
ORIGIN = {"X-Origin-Verify": "origin-secret"}


async def minted(scene: Scene, message: Message, **order: object) -> str:
    """Return a signed URL: a client would repeat an API key to the store, and is not sent there."""
    url: str = (await scene.client.post(f"{message.path}/url", json=order)).json()["url"]
    return url


async def test_the_store_sends_the_bytes_with_our_type_and_disposition(
    open_scene: OpenScene, s3: dict[str, str], moto_url: str
) -> None:
    async with open_scene(**s3, **REDIRECT) as scene:
        message = await scene.store(await scene.message(PHOTO, "image/jpeg", filename="caf\u00e9 1.jpg"))
        url = await minted(scene, message, download=True)
        answer = await scene.nobody.get(url)
        assert (answer.status_code, answer.content) == (307, b"")
        assert answer.headers["location"].startswith(moto_url)
        assert (answer.headers["x-media-source"], answer.headers["x-media-variant"]) == ("storage", "original")
        assert "etag" not in answer.headers
        assert 0 < int(answer.headers["cache-control"].removeprefix("private, max-age=")) < 600
        ours = await scene.client.get(message.path, params={"download": "1"})
        theirs = await scene.nobody.get(answer.headers["location"])
        assert theirs.content == ours.content == PHOTO
        for name in ("content-type", "content-disposition", "cache-control"):
            assert theirs.headers[name] == ours.headers[name]


async def test_a_range_follows_the_redirect(open_scene: OpenScene, s3: dict[str, str]) -> None:
    async with open_scene(**s3, **REDIRECT) as scene:
        message = await scene.store(await scene.message(PHOTO, "image/jpeg"))
        url, headers = await minted(scene, message), {"Range": "bytes=100-199"}
        answer = await scene.nobody.get(url, headers=headers, follow_redirects=True)
        assert (answer.status_code, answer.content) == (206, PHOTO[100:200])
        beyond = await scene.nobody.get(url, headers={"Range": f"bytes={len(PHOTO)}-"})
        assert beyond.status_code == 416


async def test_variants_are_redirected_too(open_scene: OpenScene, s3: dict[str, str]) -> None:
    async with open_scene(**s3, **REDIRECT) as scene:
        message = await scene.process(await scene.message(PHOTO, "image/jpeg"))
        url = await minted(scene, message, variant="small")
        answer = await scene.nobody.get(url)
        assert (answer.status_code, answer.headers["x-media-variant"]) == (307, "small")
        assert urlsplit(answer.headers["location"]).path.split("/")[2] == "thumbnails"
        whole = await scene.nobody.get(url, follow_redirects=True)
        assert whole.headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        pytest.param("HEAD", {}, 200, id="HEAD: the presigned URL is one for GET"),
        pytest.param("GET", {"If-None-Match": "*"}, 304, id="a condition that holds"),
        pytest.param("GET", ORIGIN, 200, id="a CDN would keep a redirect past itself"),
        pytest.param("GET", {"X-API-Key": "test-api-key"}, 200, id="a key is not for the store to see"),
        pytest.param("GET", {"Range": "bytes=0-1,5-6"}, 206, id="several ranges, which S3 does not send"),
    ],
)
async def test_what_the_store_would_answer_differently_we_answer(
    open_scene: OpenScene, s3: dict[str, str], method: str, headers: dict[str, str], status: int
) -> None:
    async with open_scene(**s3, **REDIRECT, MEDIA_ORIGIN_SECRET="origin-secret") as scene:
        message = await scene.store(await scene.message(PHOTO, "image/jpeg"))
        answer = await scene.nobody.request(method, await minted(scene, message), headers=headers)
        assert answer.status_code == status


async def test_cold_media_still_come_through_us(open_scene: OpenScene, s3: dict[str, str]) -> None:
    async with open_scene(**s3, **REDIRECT) as scene:
        message = await scene.message(PHOTO, "image/jpeg")
        answer = await scene.nobody.get(await minted(scene, message))
        assert (answer.status_code, answer.headers["x-media-source"]) == (200, "provider")


async def test_local_files_still_come_through_us(open_scene: OpenScene) -> None:
    async with open_scene(**REDIRECT) as scene:
        message = await scene.store(await scene.message(PHOTO, "image/jpeg"))
        assert (await scene.nobody.get(await minted(scene, message))).content == PHOTO


async def test_with_a_cdn_clients_are_sent_there(open_scene: OpenScene) -> None:
    cdn = {"MEDIA_CDN": "cloudflare", "MEDIA_CDN_URL": "https://cdn.example.com", "MEDIA_CDN_SECRET": "edge-secret"}
    async with open_scene(**REDIRECT, **cdn, MEDIA_ORIGIN_SECRET="origin-secret") as scene:
        message = await scene.store(await scene.message(PHOTO, "image/jpeg"))
        own = scene.gateway.signer.mint(message.id).url
        answer = await scene.nobody.get(own)
        assert answer.status_code == 307
        assert answer.headers["location"].startswith(f"https://cdn.example.com{message.path}?verify=")
        assert (await scene.nobody.get(own, headers=ORIGIN)).content == PHOTO
