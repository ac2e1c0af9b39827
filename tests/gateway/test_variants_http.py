"""Variants over HTTP: by name, by Accept, made on request, or stood in for; with ranges and tags of their own."""

import asyncio
import hashlib
import io
from base64 import b64encode

import httpx
import pytest
from PIL import Image, ImageOps

from gateway.demo.samples import PHOTOS
from gateway.variants import SQUARES
from tests.gateway.scene import IMMUTABLE, Message, OpenScene, Scene
from tests.ingest.test_scanner import EICAR, clamd

PHOTO = (PHOTOS / "astronaut.jpg").read_bytes()
SIDES = {"small": 100, "thumbnail": 150, "medium": 400, "large": 800}
CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


def opened(answer: httpx.Response) -> "Image.Image":
    picture = Image.open(io.BytesIO(answer.content))
    picture.load()
    return picture


async def get(scene: Scene, message: Message, variant: str, **headers: str) -> httpx.Response:
    return await scene.client.get(message.path, params={"variant": variant}, headers=headers)


async def info(scene: Scene, message: Message) -> dict[str, object]:
    answer = await scene.client.get(f"{message.path}/info")
    assert answer.status_code == 200
    document: dict[str, object] = answer.json()
    return document


@pytest.fixture
async def photo(scene: Scene) -> Message:
    """A photograph with all its variants."""
    return await scene.process(await scene.message(PHOTO, "image/jpeg", filename="IMG 1.jpeg"))


async def test_the_squares_are_jpegs_of_their_sides(scene: Scene, photo: Message) -> None:
    for name, side in SIDES.items():
        answer = await get(scene, photo, name)
        picture = opened(answer)
        assert (picture.format, picture.size) == ("JPEG", (side, side))
        assert answer.headers["x-media-variant"] == name
        assert answer.headers["content-type"] == "image/jpeg"


async def test_a_variant_has_validators_of_its_own_bytes_and_is_kept_like_an_original(
    scene: Scene, photo: Message
) -> None:
    answer = await get(scene, photo, "webp")
    digest = hashlib.sha256(answer.content)
    assert opened(answer).format == "WEBP"
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{b64encode(digest.digest()).decode()}:"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["cache-control"] == IMMUTABLE
    assert answer.headers["content-disposition"] == 'inline; filename="IMG 1.webp"'
    assert "vary" not in answer.headers


async def test_ranges_and_conditions_hold_for_variants(scene: Scene, photo: Message) -> None:
    whole = await get(scene, photo, "webp")
    part = await get(scene, photo, "webp", Range="bytes=10-19")
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
    known = await get(scene, photo, "webp", **{"If-None-Match": whole.headers["etag"]})
    assert (known.status_code, known.headers["etag"]) == (304, whole.headers["etag"])
    other = await get(scene, photo, "webp", Range="bytes=10-19", **{"If-Range": photo.etag})
    assert (other.status_code, other.content) == (200, whole.content)
    head = await scene.client.head(photo.path, params={"variant": "webp"})
    assert head.headers["content-length"] == str(len(whole.content))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (CHROME, "webp"),
        ("image/jpeg", "compressed"),
        ("image/webp;q=0.1, image/jpeg", "compressed"),
        ("*/*", "compressed"),
    ],
)
async def test_auto_follows_accept_and_says_so(scene: Scene, photo: Message, accept: str, expected: str) -> None:
    answer = await get(scene, photo, "auto", Accept=accept)
    named = await get(scene, photo, expected)
    assert answer.content == named.content
    assert answer.headers["x-media-variant"] == named.headers["x-media-variant"]
    assert (answer.headers["vary"], answer.headers["cache-control"]) == ("Accept", IMMUTABLE)


async def test_the_original_is_untouched_and_every_variant_smaller(scene: Scene, photo: Message) -> None:
    assert (await scene.client.get(photo.path)).content == PHOTO
    variants = (await info(scene, photo))["variants"]
    assert isinstance(variants, dict)
    assert {"original", "webp", *SQUARES} <= set(variants)
    assert all(variant["size"] <= len(PHOTO) for variant in variants.values())
    assert variants["original"]["size"] == len(PHOTO)


async def test_info_says_what_is_known_of_the_picture_and_where_its_variants_are(scene: Scene, photo: Message) -> None:
    document = await info(scene, photo)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(PHOTO)))
    assert (document["width"], document["height"]) == upright.size
    assert (document["status"], document["codec"]) == ("completed", "jpeg")
    assert str(document["lqip"]).startswith("data:image/")
    assert str(document["dominant_color"]).startswith("#")
    assert document["blurhash"]
    assert (document["duration"], document["waveform"]) == (None, None)
    variants = document["variants"]
    assert isinstance(variants, dict)
    for name, variant in variants.items():
        answer = await scene.nobody.get(variant["url"])
        assert answer.headers["x-media-variant"] == name
        assert answer.headers["content-type"] == variant["type"]
        assert len(answer.content) == variant["size"]


async def test_a_square_is_made_when_it_is_asked_for(scene: Scene) -> None:
    message = await scene.original(await scene.message(PHOTO, "image/jpeg"))
    answer = await get(scene, message, "thumbnail")
    assert answer.headers["x-media-variant"] == "thumbnail"
    assert opened(answer).size == (150, 150)
    assert answer.headers["cache-control"] == IMMUTABLE
    assert (await info(scene, message))["status"] == "processing"


async def test_a_crowd_has_a_square_made_once(scene: Scene) -> None:
    message = await scene.original(await scene.message(PHOTO, "image/jpeg"))
    answers = await asyncio.gather(*(get(scene, message, name) for name in [*SQUARES] * 5))
    assert {(answer.headers["x-media-variant"], opened(answer).size[0]) for answer in answers} == set(SIDES.items())
    steps = (await scene.client.get("/metrics")).text
    assert 'media_gateway_processing_step_duration_seconds_count{outcome="made",step="squares"} 1.0' in steps


async def test_what_cannot_be_made_is_stood_in_for_and_not_tried_for_everybody(scene: Scene) -> None:
    message = await scene.original(await scene.message())
    for _ in range(3):
        answer = await get(scene, message, "thumbnail")
        assert answer.content == message.body
        assert answer.headers["x-media-variant"] == "original"
        assert answer.headers["cache-control"] == "no-store"
    steps = (await scene.client.get("/metrics")).text
    assert 'media_gateway_processing_step_duration_seconds_count{outcome="failed",step="squares"} 1.0' in steps


@pytest.mark.parametrize("variant", ["aac", "waveform", "preview", "hls"])
async def test_a_variant_of_another_kind_of_media_is_stood_in_for(scene: Scene, photo: Message, variant: str) -> None:
    answer = await get(scene, photo, variant)
    assert answer.headers["x-media-variant"] in {"compressed", "original"}
    assert answer.headers["cache-control"] == "no-store"


async def test_variants_lie_in_the_bucket_and_go_with_their_object(open_scene: OpenScene, s3: dict[str, str]) -> None:
    async with open_scene(**s3) as scene:
        message = await scene.process(await scene.message(PHOTO, "image/jpeg"))
        assert (await get(scene, message, "small")).headers["x-media-variant"] == "small"
        assert (await scene.client.delete(message.path)).status_code == 204
        assert (await get(scene, message, "small")).status_code == 410


async def test_a_variant_whose_bytes_are_gone_is_stood_in_for_by_the_original(
    open_scene: OpenScene,
) -> None:
    async with open_scene(MEDIA_CACHE_BYTES="0") as scene:
        message = await scene.process(await scene.message(PHOTO, "image/jpeg"))
        for file in (scene.gateway.path / "thumbnails").rglob("*-large-*"):
            file.unlink()
        answer = await get(scene, message, "large")
        assert (answer.status_code, answer.content) == (200, PHOTO)
        assert answer.headers["x-media-variant"] == "original"
        assert answer.headers["cache-control"] == "no-store"


async def test_a_signature_opens_its_own_variant_alone(scene: Scene, photo: Message) -> None:
    minted = (await scene.client.post(f"{photo.path}/url", json={"variant": "small"})).json()["url"]
    assert (await scene.nobody.get(minted)).headers["x-media-variant"] == "small"
    assert (await scene.nobody.get(minted.replace("variant=small", "variant=large"))).status_code == 403


async def test_malware_answers_410_whatever_is_asked(
    open_scene: OpenScene, tmp_path_factory: pytest.TempPathFactory
) -> None:
    socket = tmp_path_factory.mktemp("clamd") / "clamd.sock"
    async with open_scene() as scene, clamd(socket):
        message = await scene.message(EICAR, "text/plain")
        await scene.process(message, MEDIA_CLAMD=f"unix:{socket}")
        for variant in ("original", "thumbnail", "auto"):
            answer = await get(scene, message, variant)
            assert (answer.status_code, answer.json()["type"]) == (410, "quarantined")
        assert (await scene.client.head(message.path)).status_code == 410
        document = await info(scene, message)
        assert (document["status"], document["error"], document["variants"]) == ("failed", "quarantined", {})
        twin = await scene.process(await scene.message(EICAR, "text/plain"))
        assert (await scene.client.get(twin.path)).json()["type"] == "quarantined"
