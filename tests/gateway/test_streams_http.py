"""HLS over HTTP: whoever may open the playlist can play the film with what stands in it."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

from tests.gateway.problems import problem_type
from tests.gateway.scene import IMMUTABLE, Message, Scene
from tests.ingest.processing.films import Film, Sound, shoot

PLAYLIST = "application/vnd.apple.mpegurl"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Nine seconds with sound: three segments."""
    times = tuple(range(0, 9000, 100))
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return shoot(
        path, Film(size=(320, 240), times=times, noise=60, bit_rate=2_000_000, sounds=(Sound(end=9.0),))
    ).read_bytes()


@pytest.fixture
async def streamed(scene: Scene, film: bytes) -> Message:
    """A film with all its variants."""
    return await scene.process(await scene.message(film, "video/mp4"))


def uris(playlist: str) -> list[str]:
    """Return every URI of a playlist (RFC 8216 sections 4.1 and 4.3.2.5)."""
    lines = [line for line in playlist.splitlines() if line and not line.startswith("#")]
    return lines + re.findall(r'URI="([^"]+)"', playlist)


async def playlists(scene: Scene, url: str) -> dict[str, httpx.Response]:
    """Fetch a playlist and those that it names, as a player without any other credential does."""
    fetched = {url: await scene.nobody.get(url)}
    assert fetched[url].status_code == 200, fetched[url].text
    for uri in uris(fetched[url].text):
        if ".m3u8" in uri:
            fetched |= await playlists(scene, urljoin(url, uri))
    return fetched


async def test_a_signed_master_opens_all_the_rest(scene: Scene, streamed: Message) -> None:
    master = (await scene.client.post(f"{streamed.path}/url", json={"variant": "hls"})).json()["url"]
    assert urlsplit(master).path == f"{streamed.path}/hls/master.m3u8"
    fetched = await playlists(scene, master)
    assert len(fetched) >= 2
    for url, answer in fetched.items():
        assert answer.headers["content-type"] == PLAYLIST
        assert answer.headers["x-media-variant"] == "hls"
        for uri in uris(answer.text):
            assert set(parse_qs(urlsplit(uri).query)) == {"exp", "kid", "sig"}
            part = await scene.nobody.get(urljoin(url, uri), headers={"Range": "bytes=0-99"})
            assert part.status_code == 206


async def test_the_byte_ranges_of_a_playlist_are_segments_of_its_file(scene: Scene, streamed: Message) -> None:
    master = (await scene.client.post(f"{streamed.path}/url", json={"variant": "hls"})).json()["url"]
    url, media = list((await playlists(scene, master)).items())[-1]
    ranges = [(int(size), int(start)) for size, start in re.findall(r"#EXT-X-BYTERANGE:(\d+)@(\d+)", media.text)]
    assert len(ranges) == 3  # nine seconds, cut every four
    for size, start in ranges:
        answer = await scene.nobody.get(
            urljoin(url, uris(media.text)[0]), headers={"Range": f"bytes={start}-{start + size - 1}"}
        )
        assert answer.status_code == 206
        assert answer.content[4:8] in {b"styp", b"sidx", b"moof"}  # ISO/IEC 14496-12: a segment begins with such a box


async def test_the_variant_by_name_is_the_master_with_the_way_to_its_folder(scene: Scene, streamed: Message) -> None:
    answer = await scene.client.get(streamed.path, params={"variant": "hls"})
    assert answer.headers["content-type"] == PLAYLIST
    for uri in uris(answer.text):
        followed = await scene.client.get(urljoin(str(answer.url), uri))
        assert (followed.status_code, followed.headers["content-type"]) == (200, PLAYLIST)


async def test_a_playlist_has_a_tag_of_its_own_bytes_and_ranges(scene: Scene, streamed: Message) -> None:
    url = (await scene.client.post(f"{streamed.path}/url", json={"variant": "hls"})).json()["url"]
    whole, again = await scene.nobody.get(url), await scene.nobody.get(url)
    assert (whole.content, whole.headers["etag"]) == (again.content, again.headers["etag"])
    assert whole.headers["cache-control"] == IMMUTABLE
    assert whole.headers["content-length"] == str(len(whole.content))
    part = await scene.nobody.get(url, headers={"Range": "bytes=0-6"})
    assert (part.status_code, part.content) == (206, b"#EXTM3U")
    known = await scene.nobody.get(url, headers={"If-None-Match": whole.headers["etag"]})
    assert known.status_code == 304
    head = await scene.nobody.head(url)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole.content)))


async def test_a_signature_for_another_variant_opens_no_file_of_the_stream(scene: Scene, streamed: Message) -> None:
    query = urlsplit(scene.gateway.signer.mint(streamed.id, "original").url).query
    for file in ("master.m3u8", "360p.m3u8", "360p.mp4"):
        answer = await scene.nobody.get(f"{streamed.path}/hls/{file}?{query}")
        assert (answer.status_code, problem_type(answer)) == (403, "forbidden")


@pytest.mark.parametrize("file", ["1080p.m3u8", "..%2F..%2Fx", "master.m3u8x", "%00", "720p.mp4%2F.."])
async def test_there_are_no_other_files(scene: Scene, streamed: Message, file: str) -> None:
    assert (await scene.client.get(f"{streamed.path}/hls/{file}")).status_code == 404


async def test_what_is_no_film_has_no_stream(scene: Scene) -> None:
    message = await scene.store(await scene.message())
    answer = await scene.client.get(f"{message.path}/hls/master.m3u8")
    assert (answer.status_code, problem_type(answer)) == (404, "not-found")


async def test_a_film_has_its_other_variants_and_facts(scene: Scene, streamed: Message, film: bytes) -> None:
    document = (await scene.client.get(f"{streamed.path}/info")).json()
    assert document["status"] == "completed"
    assert (document["width"], document["height"], document["codec"]) == (320, 240, "h264")
    assert document["duration"] == pytest.approx(9.0, abs=0.1)
    assert {"original", "preview", "compressed", "hls", "small", "thumbnail", "medium", "large"} == set(
        document["variants"]
    )
    assert document["variants"]["compressed"]["size"] < len(film)
    assert document["variants"]["hls"]["type"] == PLAYLIST
    large = await scene.client.get(streamed.path, params={"variant": "large"})
    assert large.headers["content-type"] == "image/jpeg"


async def test_the_files_of_a_stream_go_with_their_object(scene: Scene, streamed: Message) -> None:
    folders = ("hls", "previews", "thumbnails", "compressed", "media")
    root: Path = scene.gateway.path
    assert any(path.is_file() for path in (root / "hls").rglob("*"))
    await scene.client.delete(streamed.path)
    await scene.deleted()
    assert [path for name in folders for path in (root / name).rglob("*") if path.is_file()] == []
