"""Files of streams: whose token opens them, what a CDN gets of them, and that nothing else does."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.foundation import Foundation
from gateway.variants import PLAYLIST_TYPE
from ingest.processing.steps import RECIPE
from storage.record import Processing, StoredObject, Variant
from tests.gateway.access import ACCESS, CDN, PUBLIC, bearer, cookie, token
from tests.gateway.problems import problem_type
from tests.gateway.scene import IMMUTABLE, Message, OpenScene, Scene, jpeg

MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION=640x360\n360p.m3u8\n"
MEDIA = (
    '#EXTM3U\n#EXT-X-MAP:URI="360p.mp4",BYTERANGE="100@0"\n'
    "#EXTINF:4.0,\n#EXT-X-BYTERANGE:900@100\n360p.mp4\n#EXT-X-ENDLIST\n"
)
FILM = b"\0\0\0\x18ftypisom" + jpeg(988, seed=7)
FILES: Mapping[str, tuple[bytes, str]] = {
    # Names as `ingest.processing.hls` gives them: the stream's first playlist is the variant itself.
    "hls": (MASTER.encode(), PLAYLIST_TYPE),
    "hls/360p.m3u8": (MEDIA.encode(), PLAYLIST_TYPE),
    "hls/360p.mp4": (FILM, "video/mp4"),
}
SERVED = ("master.m3u8", "360p.m3u8", "360p.mp4")


async def streamed(folder: Path, base: Foundation, stored: StoredObject) -> None:
    """Keep a stream as processing does."""
    for name, (body, content_type) in FILES.items():
        key = f"hls/default/2026/11/{stored.sha256}-{name.replace('/', '-')}"
        file = folder / name.replace("/", "-")
        file.write_bytes(body)
        await base.store.put(key, file, content_type=content_type)
        variant = Variant(
            object_id=stored.id,
            name=name,
            content_type=content_type,
            size=len(body),
            sha256=sha256(body).hexdigest(),
            backend=base.store.backend,
            key=key,
            url=base.store.url(key),
            recipe=RECIPE,
            created_at=datetime.now(UTC),
        )
        await base.renditions.keep(variant)
    await base.renditions.finish(stored.id, Processing.COMPLETED, recipe=RECIPE, keeping=FILES, error=None)


@pytest.fixture
async def scene(open_scene: OpenScene) -> AsyncIterator[Scene]:
    """A gateway that knows every credential."""
    async with open_scene(**ACCESS) as opened:
        yield opened


@pytest.fixture
async def film(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Message:
    """A film with a stream in one quality."""
    folder = tmp_path_factory.mktemp("stream")
    message = await scene.message(b"\0\0\0\x18ftypisom" + jpeg(500), "video/mp4")
    return await scene._ingest(message, partial(streamed, folder))


def uris(playlist: httpx.Response) -> list[str]:
    """Return the URIs of a playlist's lines (RFC 8216 section 4.1)."""
    return [line for line in playlist.text.splitlines() if line and not line.startswith("#")]


async def test_without_its_own_signature_no_file_opens(scene: Scene, film: Message) -> None:
    minted = scene.gateway.signer.mint
    other = await scene.message()
    wrong = ["", *(urlsplit(url).query for url in (minted(film.id).url, minted(other.id, "hls").url))]
    for file in SERVED:
        for query in wrong:
            answer = await scene.nobody.get(f"{film.path}/hls/{file}?{query}")
            expected = (403, "forbidden") if query else (401, "unauthorized")
            assert (answer.status_code, problem_type(answer)) == expected


async def test_a_token_opens_every_file_and_is_in_no_playlist(scene: Scene, film: Message) -> None:
    for file in SERVED:
        for fields in (bearer(token()), cookie(token())):
            answer = await scene.nobody.get(f"{film.path}/hls/{file}", headers=fields)
            assert (answer.status_code, answer.headers["cache-control"]) == (200, IMMUTABLE)
            assert file == "360p.mp4" or [urlsplit(uri).query for uri in uris(answer)] == [""]
        foreign = await scene.nobody.get(f"{film.path}/hls/{file}", headers=bearer(token(workspace_ids=["acme"])))
        assert (foreign.status_code, problem_type(foreign)) == (404, "not-found")


async def test_a_cdn_gets_every_file_to_keep(scene: Scene, film: Message) -> None:
    for file, (body, content_type) in zip(SERVED, FILES.values(), strict=True):
        get = await scene.nobody.get(f"{film.path}/hls/{file}", headers=CDN)
        head = await scene.nobody.head(f"{film.path}/hls/{file}", headers=CDN)
        assert (get.status_code, get.content) == (200, body)
        assert get.headers["etag"] == f'"{sha256(body).hexdigest()}"'
        for answer in (get, head):
            assert answer.headers["content-length"] == str(len(body))
            assert (answer.headers["content-type"], answer.headers["cache-control"]) == (content_type, PUBLIC)
            assert answer.headers["cache-tag"] == f"m-{film.id},w-default"
            assert "cdn-cache-control" in answer.headers
            assert not {"set-cookie", "transfer-encoding", "content-encoding", "vary"} & set(answer.headers)
