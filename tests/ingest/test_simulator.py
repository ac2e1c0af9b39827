"""The simulated hosts against what is known of the real ones; numbers in brackets name the fact sheet's sections."""

import asyncio
import hashlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.simulator import (
    NO_STORAGE_LIFETIME,
    RATE_LIMITS,
    Body,
    DownloadAuth,
    Endpoints,
    ErrorBlock,
    Faults,
    GraphCode,
    HashForm,
    HostName,
    Medium,
    Outage,
    Profile,
    RangeMode,
    Redirect,
    Simulator,
    SizeForm,
    SyntheticContent,
    Transport,
    TypeForm,
    UrlForm,
    serve,
)

TOKEN = "a token"
HELLO = b"hello media\n"
HELLO_HEX = "7b23ba8a9008b1e2fc492f70df3019d992c70c2e8cbfaa97ad00e6b4c860fb79"
HELLO_BASE64 = "eyO6ipAIseL8SS9w3zAZ2ZLHDC6Mv6qXrQDmtMhg+3k="
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


@dataclass
class Site:
    """A simulator on real sockets, and a client that holds its token."""

    simulator: Simulator
    endpoints: Endpoints
    client: httpx.AsyncClient

    async def resolve(self, media_id: str, **query: str) -> httpx.Response:
        return await self.client.get(f"{self.endpoints.graph_url}/v23.0/{media_id}", params=query)

    async def url_of(self, medium: Medium) -> str:
        url: str = (await self.resolve(medium.id)).json()["url"]
        return url

    async def download(self, medium: Medium, **headers: str) -> httpx.Response:
        return await self.client.get(await self.url_of(medium), headers=headers)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    simulator = Simulator(access_token=TOKEN, clock=lambda: NOON)
    headers = {"Authorization": f"Bearer {TOKEN}", "User-Agent": "media-gateway/1.0"}
    async with serve(simulator) as endpoints, httpx.AsyncClient(headers=headers) as client:
        yield Site(simulator, endpoints, client)


# What a resolve answers: section 2.1


async def test_a_resolve_answer_has_the_documented_shape(site: Site) -> None:
    medium = site.simulator.add(HELLO, "audio/ogg; codecs=opus")
    answer = await site.resolve(medium.id, phone_number_id=medium.phone_number_id)
    assert answer.status_code == 200
    url = answer.json()["url"]
    assert answer.json() == {
        "messaging_product": "whatsapp",
        "url": url,
        "mime_type": "audio/ogg",
        "sha256": HELLO_HEX,
        "file_size": "12",
        "id": medium.id,
    }
    assert re.fullmatch(
        rf"{site.endpoints.lookaside_url}/whatsapp_business/attachments/\?mid=\d+&ext=\d+&hash=\w+", url
    )


@pytest.mark.parametrize(
    ("faults", "key", "expected"),
    [
        (Faults(file_size=SizeForm.NUMBER), "file_size", 12),
        (Faults(file_size=SizeForm.MISSING), "file_size", None),
        (Faults(file_size_error=-5), "file_size", "7"),
        (Faults(sha256=HashForm.BASE64), "sha256", HELLO_BASE64),
        (Faults(sha256=HashForm.MISSING), "sha256", None),
        (Faults(mime_type=TypeForm.FULL), "mime_type", "audio/ogg; codecs=opus"),
        (Faults(mime_type=TypeForm.UPPER), "mime_type", "AUDIO/OGG; CODECS=OPUS"),
        (Faults(mime_type=TypeForm.OCTET_STREAM), "mime_type", "application/octet-stream"),
        (Faults(mime_type=TypeForm.MISSING), "mime_type", None),
        (Faults(url=UrlForm.ABSENT), "url", None),
    ],
)
async def test_a_resolve_answer_takes_every_form(site: Site, faults: Faults, key: str, expected: object) -> None:
    medium = site.simulator.add(HELLO, "audio/ogg; codecs=opus", faults=faults)
    assert (await site.resolve(medium.id)).json().get(key) == expected


async def test_a_wrong_hash_is_well_formed(site: Site) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg", faults=Faults(sha256=HashForm.WRONG))
    stated = (await site.resolve(medium.id)).json()["sha256"]
    assert re.fullmatch("[0-9a-f]{64}", stated)
    assert stated != HELLO_HEX


@pytest.mark.parametrize(
    ("lifetime", "age", "status"),
    [
        (timedelta(days=7), timedelta(days=7) - timedelta(seconds=1), 200),
        (timedelta(days=7), timedelta(days=7), 400),
        (NO_STORAGE_LIFETIME, timedelta(hours=1), 400),
    ],
)
async def test_a_media_id_dies_by_the_clock(site: Site, lifetime: timedelta, age: timedelta, status: int) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg", lifetime=lifetime)
    site.simulator.advance(age)
    assert (await site.resolve(medium.id)).status_code == status


@pytest.mark.parametrize("state", ["unknown", "expired", "deleted", "another number's"])
async def test_what_cannot_be_resolved_cannot_be_told_apart(site: Site, state: str) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg", age=timedelta(days=7 if state == "expired" else 0))
    if state == "deleted":
        deleted = await site.client.delete(f"{site.endpoints.graph_url}/v23.0/{medium.id}")
        assert deleted.json() == {"success": True}
    media_id = "404404" if state == "unknown" else medium.id
    answer = await site.resolve(media_id, **({"phone_number_id": "1"} if state == "another number's" else {}))
    assert answer.status_code == 400
    assert answer.headers["www-authenticate"].startswith('OAuth "Facebook Platform" "invalid_request" "Unsupported get')
    trace_id = answer.json()["error"]["fbtrace_id"]
    assert answer.json()["error"] == {
        "message": f"Unsupported get request. Object with ID '{media_id}' does not exist, cannot be loaded due to "
        "missing permissions, or does not support this operation",
        "type": "GraphMethodException",
        "code": 100,
        "error_subcode": 33,
        "fbtrace_id": trace_id,
    }


async def test_the_answer_for_another_number_is_a_switch(site: Site) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg", faults=Faults(number_refusal=GraphCode.PERMISSION))
    answer = await site.resolve(medium.id, phone_number_id="1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, 200)


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer wrong"}, {}], ids=["wrong", "missing"])
async def test_graph_refuses_a_bad_token(site: Site, headers: dict[str, str]) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg")
    async with httpx.AsyncClient(headers=headers) as stranger:
        answer = await stranger.get(f"{site.endpoints.graph_url}/v23.0/{medium.id}")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (401, 190, "OAuthException")


GRAPH_STATUSES = {  # the table of 2.5
    **dict.fromkeys([0, 190], 401),
    **dict.fromkeys([10, 200, 131005], 403),
    **dict.fromkeys([1, 4, 33, 100, 80007, 130429, 131052, 131053], 400),
    **dict.fromkeys([3, 131000, 131016, 131057], 500),
    2: 503,
}


@pytest.mark.parametrize(("code", "status"), GRAPH_STATUSES.items())
async def test_every_graph_error_has_its_status(site: Site, code: int, status: int) -> None:
    faults = Faults(graph_error=GraphCode(code), graph_error_times=1)
    medium = site.simulator.add(HELLO, "image/jpeg", faults=faults)
    answer = await site.resolve(medium.id)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert (await site.resolve(medium.id)).status_code == 200


@pytest.mark.parametrize("code", RATE_LIMITS)
async def test_a_rate_limit_brings_its_usage_headers(site: Site, code: GraphCode) -> None:
    site.simulator.faults = Faults(graph_error=code, regain_minutes=9)
    answer = await site.resolve("1")
    assert json.loads(answer.headers["x-app-usage"])["call_count"] == 100
    [case] = json.loads(answer.headers["x-business-use-case-usage"])[site.simulator.number.waba_id]
    assert case["estimated_time_to_regain_access"] == 9


async def test_usage_is_told_before_the_limit(site: Site) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg", faults=Faults(app_usage=80))
    assert json.loads((await site.resolve(medium.id)).headers["x-app-usage"])["total_time"] == 80


async def test_resolve_can_stay_silent_until_the_gate_opens(site: Site) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg", faults=Faults(resolve_silent=True))
    resolving = asyncio.create_task(site.resolve(medium.id))
    async with asyncio.timeout(10):
        await medium.gate.reached()
    assert not resolving.done()
    medium.gate.open()
    assert (await resolving).status_code == 200


# What an upload answers: section 2.4


@pytest.mark.parametrize("content", [b"", HELLO, b"\r\n--", bytes(range(256)) * 400], ids=len)
async def test_an_upload_can_be_resolved_and_downloaded(site: Site, content: bytes) -> None:
    url = f"{site.endpoints.graph_url}/v23.0/777/media"
    form = {"messaging_product": "whatsapp", "type": "image/png"}
    answer = await site.client.post(url, data=form, files={"file": ("a b.png", content, "image/png")})
    assert list(answer.json()) == ["id"]
    medium = site.simulator.media[answer.json()["id"]]
    assert (medium.filename, medium.phone_number_id, medium.lifetime) == ("a b.png", "777", timedelta(days=30))
    downloaded = await site.download(medium)
    assert (downloaded.content, downloaded.headers["content-type"]) == (content, "image/png")


async def test_an_upload_without_a_file_is_refused(site: Site) -> None:
    url = f"{site.endpoints.graph_url}/v23.0/777/media"
    assert (await site.client.post(url, data={"messaging_product": "whatsapp"})).status_code == 400


# What the download host lets pass: sections 2.2 and 2.3


@pytest.mark.parametrize("status", [404, 401, 403, 500])
async def test_a_download_url_dies_after_five_minutes(site: Site, status: int) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg", faults=Faults(expired_url_status=status))
    url = await site.url_of(medium)
    site.simulator.advance(timedelta(minutes=5) - timedelta(seconds=1))
    assert (await site.client.get(url)).content == HELLO
    site.simulator.advance(timedelta(seconds=1))
    assert (await site.client.get(url)).status_code == status
    assert (await site.download(medium)).content == HELLO


async def test_a_download_url_cannot_be_forged(site: Site) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg")
    url = httpx.URL(await site.url_of(medium))
    for name in ("mid", "ext", "hash"):
        assert (await site.client.get(url.copy_set_param(name, url.params[name] + "0"))).status_code == 404


BAD_TOKEN = {"Authorization": "Bearer wrong"}
NO_TOKEN: dict[str, str] = {}


@pytest.mark.parametrize(
    ("headers", "faults", "status"),
    [
        (BAD_TOKEN, Faults(), 401),
        (NO_TOKEN, Faults(), 401),
        (NO_TOKEN, Faults(missing_token_status=404), 404),
        (NO_TOKEN, Faults(download_auth=DownloadAuth.UNCHECKED), 200),
        (NO_TOKEN, Faults(download_auth=DownloadAuth.REFUSED), 200),
        (BAD_TOKEN, Faults(download_auth=DownloadAuth.REFUSED), 400),
    ],
)
async def test_the_download_host_judges_the_token(
    site: Site, headers: dict[str, str], faults: Faults, status: int
) -> None:
    url = await site.url_of(site.simulator.add(HELLO, "image/jpeg", faults=faults))
    async with httpx.AsyncClient(headers=headers) as stranger:
        assert (await stranger.get(url)).status_code == status


@pytest.mark.parametrize(
    ("user_agents", "status"),
    [(["media-gateway/1.0"], 200), ([], 400), ([""], 400), (["a/1", "a/1"], 400), (["a/1 a/1"], 400)],
    ids=str,
)
async def test_the_download_host_wants_exactly_one_user_agent(site: Site, user_agents: list[str], status: int) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg")
    headers = [("Authorization", f"Bearer {TOKEN}"), *(("User-Agent", value) for value in user_agents)]
    request = httpx.Request("GET", await site.url_of(medium), headers=headers)
    assert (await site.client.send(request)).status_code == status
    site.simulator.faults = Faults(user_agent_status=None)
    assert (await site.client.send(request)).status_code == 200


async def test_a_download_can_fail_once(site: Site) -> None:
    faults = Faults(download_error=500, download_error_times=1, retry_after=7)
    medium = site.simulator.add(HELLO, "image/jpeg", faults=faults)
    failed = await site.download(medium)
    assert (failed.status_code, failed.headers["retry-after"]) == (500, "7")
    assert (await site.download(medium)).content == HELLO


@pytest.mark.parametrize(
    ("redirect", "hosts", "authorized"),
    [
        (Redirect.SAME_HOST, ["lookaside", "lookaside"], [True, True]),
        (Redirect.OTHER_HOST, ["lookaside", "elsewhere"], [True, False]),
    ],
)
async def test_a_redirect_is_followed_and_credentials_across_hosts_are_seen(
    site: Site, redirect: Redirect, hosts: list[str], authorized: list[bool]
) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg", faults=Faults(redirect=redirect))
    answer = await site.client.get(await site.url_of(medium), follow_redirects=True)
    assert answer.content == HELLO
    names = {
        httpx.URL(getattr(site.endpoints, f"{name}_url")).netloc.decode(): name for name in ("lookaside", "elsewhere")
    }
    seen = [entry for entry in site.simulator.requests if entry.host_name is HostName.LOOKASIDE]
    assert [names[entry.host] for entry in seen] == hosts
    assert [entry.authorization for entry in seen] == authorized
    assert site.simulator.downloads(medium.id) == 1


async def test_a_redirect_can_lead_inward_or_nowhere(site: Site) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg", faults=Faults(redirect=Redirect.INWARD))
    assert (await site.download(medium)).headers["location"] == "http://169.254.169.254/latest/meta-data/"
    site.simulator.set_faults(medium.id, Faults(redirect=Redirect.LOOP))
    with pytest.raises(httpx.TooManyRedirects):
        await site.client.get(await site.url_of(medium), follow_redirects=True)


# What a download delivers


@pytest.mark.parametrize(
    ("faults", "content", "content_type"),
    [
        (Faults(), HELLO, "audio/ogg"),
        (Faults(content_type=TypeForm.OCTET_STREAM), HELLO, "application/octet-stream"),
        (Faults(content_type=TypeForm.MISSING), HELLO, None),
        (Faults(body=Body.CORRUPT), bytes([HELLO[0] ^ 0xFF]) + HELLO[1:], "audio/ogg"),
        (Faults(length_error=3), HELLO + b"\0\0\0", "audio/ogg"),
        (Faults(length_error=-3), HELLO[:-3], "audio/ogg"),
        (Faults(chunked=True), HELLO, "audio/ogg"),
    ],
)
async def test_a_download_says_and_delivers(
    site: Site, faults: Faults, content: bytes, content_type: str | None
) -> None:
    answer = await site.download(site.simulator.add(HELLO, "audio/ogg; codecs=opus", faults=faults))
    assert (answer.status_code, answer.content, answer.headers.get("content-type")) == (200, content, content_type)
    assert answer.headers.get("content-length") == (None if faults.chunked else str(len(content)))


async def test_a_page_can_come_with_status_200(site: Site) -> None:
    answer = await site.download(site.simulator.add(HELLO, "image/jpeg", faults=Faults(body=Body.HTML)))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("mode", "asked", "answered"),
    [
        (RangeMode.IGNORED, "bytes=0-4", (200, HELLO, None)),
        (RangeMode.HONOURED, "bytes=0-4", (206, b"hello", "bytes 0-4/12")),
        (RangeMode.HONOURED, "bytes=6-", (206, b"media\n", "bytes 6-11/12")),
        (RangeMode.HONOURED, "bytes=-6", (206, b"media\n", "bytes 6-11/12")),
        (RangeMode.HONOURED, "bytes=12-", (416, b"", "bytes */12")),
        (RangeMode.REFUSED, "bytes=0-4", (416, b"", "bytes */12")),
    ],
)
async def test_ranges_are_a_switch(
    site: Site, mode: RangeMode, asked: str, answered: tuple[int, bytes, str | None]
) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg", faults=Faults(range=mode))
    answer = await site.download(medium, range=asked)
    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == answered
    assert site.simulator.requests[-1].range == asked


# How a download's body travels


async def receive(site: Site, medium: Medium) -> tuple[int, type[Exception] | None]:
    """Download as far as it goes: the bytes that came, and the error that ended them."""
    received = 0
    try:
        async with site.client.stream("GET", await site.url_of(medium)) as answer:
            async for chunk in answer.aiter_raw():
                received += len(chunk)
    except httpx.TransportError as error:
        return received, type(error)
    return received, None


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
async def test_a_truncated_body_ends_where_it_says(site: Site, *, chunked: bool) -> None:
    faults = Faults(transport=Transport.TRUNCATED, at_byte=200_000, chunked=chunked)
    medium = site.simulator.add(SyntheticContent(1_000_000), "video/mp4", faults=faults)
    assert await receive(site, medium) == (200_000, httpx.RemoteProtocolError)


async def test_a_reset_is_a_reset(site: Site) -> None:
    faults = Faults(transport=Transport.RESET, at_byte=200_000)
    medium = site.simulator.add(SyntheticContent(1_000_000), "video/mp4", faults=faults)
    received, error = await receive(site, medium)
    # A reset may overtake bytes that were sent before it.
    assert received <= 200_000
    assert error is httpx.ReadError


async def test_a_drip_lets_one_chunk_through_per_permit(site: Site) -> None:
    faults = Faults(transport=Transport.DRIP, chunk_size=5)
    medium = site.simulator.add(HELLO, "image/jpeg", faults=faults)
    async with asyncio.timeout(10), site.client.stream("GET", await site.url_of(medium)) as answer:
        chunks = answer.aiter_raw()
        for expected in (b"hello", b" medi", b"a\n"):
            await medium.gate.reached()
            medium.gate.release()
            assert await anext(chunks) == expected


@pytest.mark.parametrize("at_byte", [0, 5, None], ids=str)
async def test_a_stall_lasts_until_the_gate_opens(site: Site, at_byte: int | None) -> None:
    faults = Faults(transport=Transport.STALL, at_byte=at_byte)
    medium = site.simulator.add(HELLO, "image/jpeg", faults=faults)
    downloading = asyncio.create_task(site.download(medium))
    async with asyncio.timeout(10):
        await medium.gate.reached()
    assert site.simulator.requests[-1].sent == (len(HELLO) // 2 if at_byte is None else at_byte)
    medium.gate.open()
    assert (await downloading).content == HELLO


async def test_a_silent_host_runs_into_the_clients_time_limit_and_forgets_it(site: Site) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg", faults=Faults(transport=Transport.SILENT))
    url = await site.url_of(medium)
    with pytest.raises(httpx.ReadTimeout):
        await site.client.get(url, timeout=0.2)
    async with asyncio.timeout(10):
        while medium.gate.waiting:
            await asyncio.sleep(0)


async def test_waits_can_be_timed_instead(site: Site) -> None:
    faults = Faults(transport=Transport.DRIP, chunk_size=4, pause=0.001)
    assert (await site.download(site.simulator.add(HELLO, "image/jpeg", faults=faults))).content == HELLO


async def test_a_hundred_megabytes_are_served_as_they_were_hashed(site: Site) -> None:
    size = 101 * 1024 * 1024
    medium = await asyncio.to_thread(site.simulator.add, SyntheticContent(size, head=b"\xff\xd8\xff"), "image/jpeg")
    digest, received = hashlib.sha256(), 0
    async with site.client.stream("GET", await site.url_of(medium)) as answer:
        async for chunk in answer.aiter_raw():
            digest.update(chunk)
            received += len(chunk)
    assert (received, digest.hexdigest()) == (size, medium.sha256_hex)


def test_synthetic_content_reads_the_same_from_anywhere() -> None:
    content = SyntheticContent(200_000, seed=1, head=b"head")
    whole = content.read(0, 200_000)
    assert whole[:4] == b"head"
    assert len(whole) == 200_000
    for start, length in [(0, 1), (2, 9), (65_535, 3), (131_072, 65_536), (199_990, 100)]:
        assert content.read(start, length) == whole[start : start + length]
    assert SyntheticContent(200_000, seed=2, head=b"head").read(0, 200_000) != whole


async def test_a_file_is_served(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "hello.txt"
    path.write_bytes(HELLO)
    medium = site.simulator.add(path, "text/plain", filename="hello.txt", faults=Faults(content_disposition=True))
    answer = await site.download(medium)
    assert (answer.content, answer.headers["content-disposition"]) == (HELLO, 'attachment; filename="hello.txt"')


# The log, the master switch, 360dialog, another process


async def test_the_log_counts_and_keeps_no_secret(site: Site) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg")
    await site.download(medium)
    assert (site.simulator.resolves(medium.id), site.simulator.downloads(medium.id)) == (1, 1)
    resolve, download = site.simulator.requests
    assert (resolve.path, resolve.status) == (f"/v23.0/{medium.id}", 200)
    assert (download.path, download.sent) == ("/whatsapp_business/attachments/", len(HELLO))
    assert download.user_agents == ("media-gateway/1.0",)
    assert TOKEN not in repr(site.simulator.requests)
    assert "hash" not in repr(site.simulator.requests)


async def test_the_provider_can_be_switched_off(site: Site) -> None:
    medium = site.simulator.add(HELLO, "image/jpeg")
    url = await site.url_of(medium)
    site.simulator.online = False
    assert [(await site.resolve(medium.id)).status_code, (await site.client.get(url)).status_code] == [503, 503]
    site.simulator.outage = Outage.DISCONNECT
    for address in (url, f"{site.endpoints.graph_url}/v23.0/{medium.id}"):
        with pytest.raises(httpx.RemoteProtocolError):
            await site.client.get(address)
    site.simulator.online = True
    assert (await site.client.get(url)).content == HELLO


async def test_360dialog_has_its_own_key_and_paths_and_blocks_after_errors() -> None:
    block = ErrorBlock(errors=3)
    simulator = Simulator(access_token=TOKEN, clock=lambda: NOON, profile=Profile.DIALOG360, error_block=block)
    medium = simulator.add(HELLO, "image/jpeg")
    transport = httpx.ASGITransport(simulator.graph)
    async with httpx.AsyncClient(
        transport=transport, base_url="https://waba-v2.360dialog.io", headers={"D360-API-KEY": TOKEN}
    ) as client:
        url = httpx.URL((await client.get(f"/{medium.id}")).json()["url"])
        assert url.host == "lookaside.fbsbx.com"
        assert (await client.get(url.raw_path.decode())).content == HELLO
        assert [(await client.get("/404404")).status_code for _ in range(3)] == [400, 400, 400]
        assert (await client.get(f"/{medium.id}")).status_code == 429
        simulator.advance(timedelta(minutes=30))
        assert (await client.get(f"/{medium.id}")).status_code == 200


async def test_a_simulator_in_another_process_is_steered_over_http() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingest.simulator", "--access-token", TOKEN, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60), httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        endpoints: dict[str, Any] = json.loads(await process.stdout.readline())
        control = f"{endpoints['graph_url']}/_simulator"
        new = {"size": 1000, "mime_type": "image/jpeg", "faults": {"file_size": "number"}}
        medium = (await client.post(f"{control}/media", json=new)).json()
        resolve = f"{endpoints['graph_url']}/v23.0/{medium['id']}"
        answer = (await client.get(resolve)).json()
        assert answer["file_size"] == 1000
        assert len((await client.get(answer["url"])).content) == 1000
        await client.post(f"{control}/media/{medium['id']}", json={"faults": None, "gate": 2})
        assert (await client.get(resolve)).json()["file_size"] == "1000"
        await client.post(f"{control}/faults", json={"graph_error": 4})
        assert (await client.get(resolve)).status_code == 400
        assert (await client.post(f"{control}/faults", json={"no_such_fault": 1})).status_code == 422
        await client.post(f"{control}/faults", json={})
        await client.post(f"{control}/provider", json={"advance_seconds": 7 * 86_400})
        assert (await client.get(resolve)).status_code == 400
        await client.post(f"{control}/provider", json={"online": False})
        assert (await client.get(resolve)).status_code == 503
        [facts] = (await client.get(f"{control}/media")).json()["media"]
        assert (facts["resolves"], facts["downloads"]) == (5, 1)
        assert len((await client.get(f"{control}/requests")).json()["requests"]) == 6
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
