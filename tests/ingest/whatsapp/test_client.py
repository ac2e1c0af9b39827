"""What the client does with a provider that errs, lies, wanders or falls silent; all on real sockets."""

import asyncio
import hashlib
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from ingest.simulator import (
    Body,
    Faults,
    GraphCode,
    HashForm,
    Medium,
    Outage,
    Redirect,
    Simulator,
    SizeForm,
    SyntheticContent,
    Transport,
    TypeForm,
    UrlForm,
    serve,
)
from ingest.simulator import Profile as SimulatedProfile
from ingest.whatsapp.client import OUTCOMES, WhatsAppClient, outcome_of
from ingest.whatsapp.dialling import HostRules
from ingest.whatsapp.provider import DIALOG360, MAX_MEDIA_BYTES, PROFILES, Account, Provider, Timeouts
from storage.errors import (
    MediaError,
    OriginBusy,
    OriginError,
    OriginFailed,
    OriginGone,
    OriginLied,
    OriginRefused,
    OriginTimeout,
    OriginTooLarge,
)
from storage.origin import MediaRef

CONTENT = b"hello media\n" * 20_000  # 240,000 bytes: several chunks
Ref = Callable[[str], MediaRef]
Scripted = Any
"""The server of conftest.py, which this import mode cannot name."""


Scene = tuple[Simulator, Provider, Account]


@pytest.fixture
def scene(simulator: Simulator, provider: Provider, account: Account) -> Scene:
    """All that a client of one's own is made of."""
    return simulator, provider, account


def medium(simulator: Simulator, faults: Faults | None = None, content: bytes = CONTENT) -> Medium:
    return simulator.add(content, "image/jpeg", faults=faults)


async def read(client: WhatsAppClient, ref: MediaRef) -> bytes:
    async with client.open(ref) as download:
        return b"".join([chunk async for chunk in download.chunks])


def open_connections(client: WhatsAppClient) -> list[object]:
    return [one for one in client._transport._pool.connections if not one.is_idle()]


@asynccontextmanager
async def client_of(provider: Provider, account: Account, **changes: Any) -> AsyncIterator[WhatsAppClient]:
    async with WhatsAppClient(replace(provider, **changes), account) as client:
        yield client


# A download as it should be ----------------------------------------------------------------------------------------


async def test_a_medium_arrives_with_what_is_declared_of_it(
    client: WhatsAppClient, simulator: Simulator, ref: Ref
) -> None:
    async with client.open(ref(medium(simulator).id)) as download:
        chunks = [chunk async for chunk in download.chunks]
    assert b"".join(chunks) == CONTENT
    assert download.size == len(CONTENT)
    assert download.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert download.content_type == "image/jpeg"
    assert all(0 < len(chunk) <= 64 * 1024 for chunk in chunks)


@pytest.mark.parametrize(
    ("faults", "size", "has_hash"),
    [
        pytest.param(Faults(file_size=SizeForm.NUMBER), len(CONTENT), True, id="size as a number"),
        pytest.param(Faults(file_size=SizeForm.MISSING), len(CONTENT), True, id="size in Content-Length only"),
        pytest.param(Faults(chunked=True), len(CONTENT), True, id="size in the resolve answer only"),
        pytest.param(Faults(file_size=SizeForm.MISSING, chunked=True), None, True, id="size nowhere"),
        pytest.param(Faults(sha256=HashForm.BASE64), len(CONTENT), True, id="hash as base64"),
        pytest.param(Faults(sha256=HashForm.MISSING), len(CONTENT), False, id="no hash"),
    ],
)
async def test_declarations_come_in_many_forms(
    client: WhatsAppClient, simulator: Simulator, ref: Ref, faults: Faults, size: int | None, *, has_hash: bool
) -> None:
    async with client.open(ref(medium(simulator, faults).id)) as download:
        assert b"".join([chunk async for chunk in download.chunks]) == CONTENT
    assert download.size == size
    assert download.sha256 == (hashlib.sha256(CONTENT).hexdigest() if has_hash else None)


async def test_an_empty_medium_is_a_medium(client: WhatsAppClient, simulator: Simulator, ref: Ref) -> None:
    assert await read(client, ref(medium(simulator, content=b"").id)) == b""


async def test_the_type_falls_back_to_that_of_the_download(
    client: WhatsAppClient, simulator: Simulator, ref: Ref
) -> None:
    found = medium(simulator, Faults(mime_type=TypeForm.MISSING))
    async with client.open(ref(found.id)) as download:
        assert download.content_type == "image/jpeg"


async def test_each_request_carries_the_token_and_one_user_agent(scripted: Scripted, answer: Any, ref: Ref) -> None:
    scripted.answers = [scripted.resolve_answer(), answer(b"bytes")]
    async with scripted.client() as client:
        assert await read(client, ref("123")) == b"bytes"
    for head in scripted.requests:
        lines = head.lower().split("\r\n")
        assert [line for line in lines if line.startswith("user-agent:")] == ["user-agent: media-gateway/0.1.0"]
        assert "authorization: bearer secret-token" in lines
        assert "accept-encoding: identity" in lines
        assert not [line for line in lines if line.startswith("cookie:")]


@pytest.mark.parametrize(
    ("of_ref", "of_account", "expected"),
    [("1", "2", "?phone_number_id=1"), (None, "2", "?phone_number_id=2"), (None, None, "")],
)
async def test_the_number_of_the_medium_wins_over_that_of_the_account(
    scripted: Scripted, of_ref: str | None, of_account: str | None, expected: str
) -> None:
    account = Account(workspace_id="default", access_token="t", phone_number_id=of_account)
    async with WhatsAppClient(Provider(base_url=scripted.url), account) as client:
        with pytest.raises(OriginFailed):
            await read(client, MediaRef(workspace_id="default", provider_media_id="123", phone_number_id=of_ref))
    assert scripted.requests[0].startswith(f"GET /v23.0/123{expected} HTTP/1.1\r\n")


async def test_a_medium_of_another_number_is_gone(client: WhatsAppClient, simulator: Simulator) -> None:
    found = medium(simulator)
    with pytest.raises(OriginGone):
        await read(client, MediaRef(workspace_id="default", provider_media_id=found.id, phone_number_id="9"))


@pytest.mark.parametrize(
    ("media_id", "path"),
    [
        pytest.param("123", "/v23.0/123", id="as usual"),
        pytest.param("../me", "/v23.0/..%2Fme", id="with a slash"),
        pytest.param("1?fields=x", "/v23.0/1%3Ffields%3Dx", id="with a query"),
        pytest.param("1#x", "/v23.0/1%23x", id="with a fragment"),
        pytest.param("%2e%2e", "/v23.0/%252e%252e", id="encoded already"),
        pytest.param("ä", "/v23.0/%C3%A4", id="in UTF-8"),
    ],
)
async def test_an_id_stays_one_segment_of_the_path(scripted: Scripted, ref: Ref, media_id: str, path: str) -> None:
    async with scripted.client() as client:
        with pytest.raises(OriginFailed):
            await read(client, ref(media_id))
    assert scripted.requests[0].startswith(f"GET {path} HTTP/1.1\r\n")


@pytest.mark.parametrize("media_id", ["", ".", "..", "1\r\nX: y", "1\x00", "1" * 256])
async def test_an_id_that_can_be_none_is_gone_without_asking(scripted: Scripted, ref: Ref, media_id: str) -> None:
    async with scripted.client() as client:
        with pytest.raises(OriginGone):
            await read(client, ref(media_id))
    assert scripted.requests == []


async def test_a_medium_of_another_workspace_is_refused_without_asking(
    client: WhatsAppClient, simulator: Simulator
) -> None:
    with pytest.raises(OriginRefused):
        await read(client, MediaRef(workspace_id="other", provider_media_id=medium(simulator).id))
    assert list(simulator.requests) == []


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        pytest.param(Faults(graph_error=GraphCode.TOKEN_EXPIRED), OriginRefused, id="190"),
        pytest.param(Faults(graph_error=GraphCode.PERMISSION_DENIED), OriginRefused, id="10"),
        pytest.param(Faults(graph_error=GraphCode.METHOD), OriginRefused, id="3"),
        pytest.param(Faults(graph_error=GraphCode.INVALID_PARAMETER), OriginGone, id="100/33"),
        pytest.param(Faults(graph_error=GraphCode.NUMBER_DELETED), OriginGone, id="33"),
        pytest.param(Faults(graph_error=GraphCode.MEDIA_DOWNLOAD), OriginGone, id="131052"),
        pytest.param(Faults(graph_error=GraphCode.APP_RATE_LIMIT), OriginBusy, id="4"),
        pytest.param(Faults(graph_error=GraphCode.WABA_RATE_LIMIT), OriginBusy, id="80007"),
        pytest.param(Faults(graph_error=GraphCode.THROUGHPUT), OriginBusy, id="130429"),
        pytest.param(Faults(graph_error=GraphCode.UNKNOWN), OriginFailed, id="1"),
        pytest.param(Faults(graph_error=GraphCode.MAINTENANCE), OriginFailed, id="131057"),
        pytest.param(Faults(url=UrlForm.ABSENT), OriginFailed, id="a resolve answer without a URL"),
        pytest.param(Faults(url=UrlForm.EXPIRED), OriginFailed, id="a URL that is stale at birth"),
        pytest.param(Faults(download_error=401), OriginRefused, id="download 401"),
        pytest.param(Faults(download_error=403), OriginRefused, id="download 403"),
        pytest.param(Faults(download_error=429), OriginBusy, id="download 429"),
        pytest.param(Faults(download_error=404), OriginFailed, id="download 404, again"),
        pytest.param(Faults(download_error=500), OriginFailed, id="download 500, again"),
        pytest.param(Faults(download_error=206), OriginFailed, id="download 206 unasked"),
        pytest.param(Faults(body=Body.HTML, file_size=SizeForm.MISSING), OriginLied, id="a web page with 200"),
        pytest.param(Faults(file_size_error=1), OriginLied, id="two sizes"),
        pytest.param(Faults(file_size_error=MAX_MEDIA_BYTES), OriginTooLarge, id="declared above 100 MB"),
        pytest.param(Faults(chunked=True, file_size_error=-1), OriginLied, id="more bytes than declared"),
        pytest.param(Faults(chunked=True, file_size_error=1), OriginFailed, id="fewer bytes than declared"),
        pytest.param(Faults(transport=Transport.TRUNCATED), OriginFailed, id="truncated"),
        pytest.param(Faults(transport=Transport.TRUNCATED, chunked=True), OriginFailed, id="truncated between chunks"),
        pytest.param(Faults(transport=Transport.RESET), OriginFailed, id="reset halfway"),
        pytest.param(Faults(redirect=Redirect.LOOP), OriginFailed, id="redirects for ever"),
        pytest.param(Faults(redirect=Redirect.INWARD), OriginFailed, id="redirect to the metadata service"),
    ],
)
async def test_a_fault_of_the_provider_has_its_own_error_and_no_secret_in_it(
    client: WhatsAppClient, simulator: Simulator, ref: Ref, faults: Faults, expected: type[OriginError]
) -> None:
    found = medium(simulator, faults)
    with pytest.raises(OriginError) as caught:
        await read(client, ref(found.id))
    assert type(caught.value) is expected
    shown = "".join(traceback.format_exception(caught.value)) + repr(client)
    assert "secret-token" not in shown
    assert "hash=" not in shown


async def test_an_unknown_id_is_gone(client: WhatsAppClient, ref: Ref) -> None:
    with pytest.raises(OriginGone):
        await read(client, ref("1"))


async def test_an_id_dies_after_seven_days(client: WhatsAppClient, simulator: Simulator, ref: Ref) -> None:
    found = medium(simulator)
    simulator.advance(timedelta(days=7))
    with pytest.raises(OriginGone):
        await read(client, ref(found.id))


async def test_a_limit_tells_when_access_returns(client: WhatsAppClient, simulator: Simulator, ref: Ref) -> None:
    found = medium(simulator, Faults(graph_error=GraphCode.WABA_RATE_LIMIT, regain_minutes=19))
    with pytest.raises(OriginBusy) as caught:
        await read(client, ref(found.id))
    assert caught.value.retry_after == 19 * 60
    assert simulator.resolves(found.id) == 1


async def test_a_wrong_token_is_asked_once(simulator: Simulator, provider: Provider, ref: Ref) -> None:
    found = medium(simulator)
    async with client_of(provider, Account(workspace_id="default", access_token="stale")) as client:
        with pytest.raises(OriginRefused):
            await read(client, ref(found.id))
    assert simulator.resolves(found.id) == 1


@pytest.mark.parametrize("outage", Outage)
async def test_an_outage_is_a_failure(client: WhatsAppClient, simulator: Simulator, ref: Ref, outage: Outage) -> None:
    simulator.online, simulator.outage = False, outage
    with pytest.raises(OriginFailed):
        await read(client, ref(medium(simulator).id))
    assert len(simulator.requests) == 2


async def test_nobody_listening_is_a_failure(provider: Provider, account: Account, ref: Ref) -> None:
    async with client_of(provider, account, base_url="http://127.0.0.1:1") as client:
        with pytest.raises(OriginFailed, match="ConnectError"):
            await read(client, ref("1"))


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nlocation ?hash=SECRET\r\n\r\n", id="a broken header"),
        pytest.param(b"HTTP/9.9 nonsense\r\n\r\n", id="a broken status line"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", id="a header without end"),
    ],
)
async def test_what_is_no_http_is_a_failure_that_does_not_quote_it(scripted: Scripted, ref: Ref, head: bytes) -> None:
    scripted.answers = [scripted.resolve_answer(), head, head]
    async with scripted.client() as client:
        with pytest.raises(OriginFailed) as caught:
            await read(client, ref("1"))
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


async def test_a_resolve_answer_without_end_is_cut(scripted: Scripted, answer: Any, ref: Ref) -> None:
    scripted.answers = [answer(b'{"url":"' + b"x" * 1_000_000)]
    async with scripted.client() as client:
        with pytest.raises(OriginFailed):
            await read(client, ref("1"))


async def test_a_redirect_of_the_api_is_not_followed(scripted: Scripted, answer: Any, ref: Ref) -> None:
    scripted.answers = [answer(b"", f"Location: {scripted.url}/x", status="302 Found")] * 2
    async with scripted.client() as client:
        with pytest.raises(OriginFailed):
            await read(client, ref("1"))
    assert all("GET /v23.0/1 " in head for head in scripted.requests)


async def test_an_encoded_body_is_a_lie(scripted: Scripted, answer: Any, ref: Ref) -> None:
    scripted.answers = [scripted.resolve_answer(), answer(b"\x1f\x8b", "Content-Encoding: gzip")]
    async with scripted.client() as client:
        with pytest.raises(OriginLied, match="encoded"):
            await read(client, ref("1"))


@pytest.mark.parametrize("declared", ["text/html", "Text/HTML; charset=utf-8", "application/xhtml+xml"])
async def test_a_web_page_that_was_sent_as_a_document_is_a_medium(
    scripted: Scripted, answer: Any, ref: Ref, declared: str
) -> None:
    page = answer(b"<html>", "Content-Type: text/html")
    scripted.answers = [scripted.resolve_answer(members=f', "mime_type": "{declared}"'), page]
    async with scripted.client() as client:
        assert await read(client, ref("1")) == b"<html>"


# Second tries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "resolves"),
    [
        pytest.param(Faults(graph_error=GraphCode.SOMETHING_WRONG, graph_error_times=1), 2, id="resolve 500 once"),
        pytest.param(Faults(download_error=500, download_error_times=1), 1, id="download 500 once"),
        pytest.param(Faults(download_error=404, download_error_times=1), 2, id="download 404 once: a fresh URL"),
    ],
)
async def test_a_fault_that_passes_is_not_noticed(
    client: WhatsAppClient, simulator: Simulator, ref: Ref, faults: Faults, resolves: int
) -> None:
    found = medium(simulator, faults)
    assert await read(client, ref(found.id)) == CONTENT
    assert simulator.resolves(found.id) == resolves


async def test_a_connection_that_breaks_before_the_answer_is_tried_again(
    scripted: Scripted, answer: Any, ref: Ref
) -> None:
    scripted.answers = [b"", scripted.resolve_answer(), b"HTTP/1.1 200", answer(b"bytes")]
    async with scripted.client() as client:
        assert await read(client, ref("1")) == b"bytes"


async def test_a_server_that_says_when_to_come_back_is_not_asked_before(
    client: WhatsAppClient, simulator: Simulator, ref: Ref
) -> None:
    found = medium(simulator, Faults(download_error=503, retry_after=120))
    with pytest.raises(OriginFailed) as caught:
        await read(client, ref(found.id))
    assert caught.value.retry_after == 120
    assert [entry.status for entry in simulator.requests] == [200, 503]


async def test_a_url_is_resolved_anew_for_every_download(
    client: WhatsAppClient, simulator: Simulator, ref: Ref
) -> None:
    found = medium(simulator)
    for _ in range(2):
        assert await read(client, ref(found.id)) == CONTENT
    assert simulator.resolves(found.id) == 2


# Redirects -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hops", [1, 3])
async def test_redirects_are_followed(client: WhatsAppClient, simulator: Simulator, ref: Ref, hops: int) -> None:
    found = medium(simulator, Faults(redirect=Redirect.SAME_HOST, redirect_hops=hops))
    assert await read(client, ref(found.id)) == CONTENT


async def test_a_fourth_redirect_is_not_followed(client: WhatsAppClient, simulator: Simulator, ref: Ref) -> None:
    found = medium(simulator, Faults(redirect=Redirect.SAME_HOST, redirect_hops=4))
    with pytest.raises(OriginFailed, match="too often"):
        await read(client, ref(found.id))
    assert [entry.hop for entry in simulator.requests] == [0, 0, 1, 2, 3]


async def test_the_token_stays_behind_when_the_host_changes(
    client: WhatsAppClient, simulator: Simulator, ref: Ref
) -> None:
    found = medium(simulator, Faults(redirect=Redirect.OTHER_HOST))
    assert await read(client, ref(found.id)) == CONTENT
    assert [entry.authorization for entry in simulator.requests] == [True, True, False]


async def test_the_token_does_not_come_back_with_the_host(scripted: Scripted, answer: Any, ref: Ref) -> None:
    other = scripted.url.replace("127.0.0.1", "localhost")
    to_other, back = (answer(b"", f"Location: {url}/x", status="302 Found") for url in (other, scripted.url))
    scripted.answers = [scripted.resolve_answer(), to_other, back, answer(b"bytes")]
    async with scripted.client(hosts=HostRules.parse(f"{scripted.url},{other}")) as client:
        assert await read(client, ref("1")) == b"bytes"
    assert ["authorization" in head.lower() for head in scripted.requests] == [True, True, False, False]


@pytest.mark.parametrize(
    "location",
    [
        pytest.param("http://169.254.169.254/latest/meta-data/", id="metadata service"),
        pytest.param("http://127.0.0.1:1/", id="loopback, another port"),
        pytest.param("http://[::1]/", id="loopback, IPv6"),
        pytest.param("http://10.0.0.1/", id="private"),
        pytest.param("https://evil.example/", id="a host that is not listed"),
        pytest.param("//evil.example/", id="a host without a scheme"),
        pytest.param("file:///etc/passwd", id="a file"),
        pytest.param("http://[/", id="no URL"),
        pytest.param(None, id="nowhere"),
    ],
)
async def test_a_redirect_leads_nowhere_but_to_the_list(
    scripted: Scripted, answer: Any, ref: Ref, location: str | None
) -> None:
    headers = [f"Location: {location}"] if location else []
    scripted.answers = [scripted.resolve_answer(), answer(b"", *headers, status="302 Found")]
    async with scripted.client() as client:
        with pytest.raises(OriginFailed):
            await read(client, ref("1"))
    assert len(scripted.requests) == 2


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", "https://evil.example/", "lookaside.fbsbx.com", "http://[/"]
)
async def test_a_resolved_url_is_asked_only_where_it_is_on_the_list(scripted: Scripted, ref: Ref, url: str) -> None:
    scripted.answers = [scripted.resolve_answer(url)]
    async with scripted.client() as client:
        with pytest.raises(OriginFailed):
            await read(client, ref("1"))


async def test_the_base_url_is_no_download_host_by_itself(scripted: Scripted, ref: Ref) -> None:
    scripted.answers = [scripted.resolve_answer()]
    async with scripted.client(hosts=HostRules.parse("lookaside.fbsbx.com")) as client:
        with pytest.raises(OriginFailed, match="not allowed"):
            await read(client, ref("1"))


async def test_a_listed_name_that_leads_inward_is_not_dialled(scripted: Scripted, account: Account, ref: Ref) -> None:
    async def inward(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    scripted.answers = [scripted.resolve_answer("https://lookaside.fbsbx.com/x")]
    async with WhatsAppClient(Provider(base_url=scripted.url), account, resolver=inward) as client:
        with pytest.raises(OriginFailed, match="may not be dialled"):
            await read(client, ref("1"))


# Limits --------------------------------------------------------------------------------------------------------------


async def test_a_medium_above_the_ceiling_is_not_downloaded(
    simulator: Simulator, provider: Provider, account: Account, ref: Ref
) -> None:
    found = medium(simulator)
    async with client_of(provider, account, max_size=len(CONTENT) - 1) as client:
        with pytest.raises(OriginTooLarge):
            await read(client, ref(found.id))
    assert simulator.downloads(found.id) == 0


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_medium_above_the_ceiling_that_does_not_say_so_is_cut(
    simulator: Simulator, provider: Provider, account: Account, ref: Ref, *, chunked: bool
) -> None:
    found = medium(simulator, Faults(file_size=SizeForm.MISSING, chunked=chunked))
    received = 0
    async with client_of(provider, account, max_size=100_000) as client:
        with pytest.raises(OriginTooLarge):  # noqa: PT012 what arrives before it is part of the question
            async with client.open(ref(found.id)) as download:
                async for chunk in download.chunks:
                    received += len(chunk)
    assert received <= (100_000 if chunked else 0)


async def test_a_medium_of_exactly_100_mb_is_taken(client: WhatsAppClient, simulator: Simulator, ref: Ref) -> None:
    content = SyntheticContent(MAX_MEDIA_BYTES)
    found = await asyncio.to_thread(simulator.add, content, "video/mp4")
    received = 0
    async with client.open(ref(found.id)) as download:
        async for chunk in download.chunks:
            received += len(chunk)
    assert received == MAX_MEDIA_BYTES


SHORT = 0.05  # seconds


@pytest.mark.parametrize(
    ("faults", "limits", "phase"),
    [
        pytest.param(Faults(resolve_silent=True), {"resolve": SHORT}, "to resolve the ID", id="resolve"),
        pytest.param(Faults(transport=Transport.SILENT), {"headers": SHORT}, "to begin the download", id="headers"),
        pytest.param(Faults(transport=Transport.STALL), {"chunk": SHORT}, "to send the next bytes", id="chunk"),
        pytest.param(Faults(transport=Transport.DRIP), {"download": SHORT}, "to send the next bytes", id="download"),
    ],
)
async def test_every_phase_has_its_own_limit(
    scene: Scene, ref: Ref, faults: Faults, limits: dict[str, float], phase: str
) -> None:
    simulator, provider, account = scene
    found = medium(simulator, faults)
    async with client_of(provider, account, timeouts=replace(provider.timeouts, **limits)) as client:
        with pytest.raises(OriginTimeout, match=phase):
            await read(client, ref(found.id))


async def test_a_drip_is_cut_by_the_limit_of_the_whole_download(
    simulator: Simulator, provider: Provider, account: Account, ref: Ref
) -> None:
    """The chunk's own limit of ten seconds is not what ends it."""
    found = medium(simulator, Faults(transport=Transport.DRIP, chunk_size=1000))
    received = 0
    async with client_of(provider, account, timeouts=replace(provider.timeouts, download=0.2)) as client:
        with pytest.raises(OriginTimeout):  # noqa: PT012 as above
            async with client.open(ref(found.id)) as download:
                found.gate.release(5)
                async for chunk in download.chunks:
                    received += len(chunk)
    assert received <= 5000


async def test_connecting_has_its_own_limit(scripted: Scripted, account: Account, ref: Ref) -> None:
    async def never(host: str, port: int) -> list[str]:
        await asyncio.get_running_loop().create_future()
        return []

    provider = Provider(base_url=scripted.url, timeouts=Timeouts(connect=SHORT))
    async with WhatsAppClient(provider, account, resolver=never) as client:
        with pytest.raises(OriginTimeout, match="to be reached"):
            await read(client, ref("1"))


async def test_by_default_an_answer_begins_before_a_cdn_gives_up() -> None:
    limits = Timeouts()
    assert 2 * (limits.resolve + limits.headers) < 30


async def test_leaving_early_gives_the_connection_back(client: WhatsAppClient, simulator: Simulator, ref: Ref) -> None:
    found = medium(simulator, Faults(transport=Transport.STALL))
    async with client.open(ref(found.id)) as download:
        assert await anext(download.chunks)
    assert not open_connections(client)


async def test_a_cancelled_reader_leaves_nothing_behind(client: WhatsAppClient, simulator: Simulator, ref: Ref) -> None:
    found = medium(simulator, Faults(transport=Transport.SILENT))
    reading = asyncio.create_task(read(client, ref(found.id)))
    async with asyncio.timeout(5):
        await found.gate.reached()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not open_connections(client)


# 360dialog -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def dialog360() -> AsyncIterator[tuple[Simulator, Provider]]:
    simulated = Simulator(access_token="secret-token", profile=SimulatedProfile.DIALOG360)
    async with serve(simulated) as endpoints:
        yield simulated, Provider(base_url=endpoints.graph_url, profile=DIALOG360)


async def test_360dialog_is_asked_with_its_own_header_and_for_the_bytes_too(
    dialog360: tuple[Simulator, Provider], ref: Ref
) -> None:
    simulator, provider = dialog360
    found = medium(simulator)
    async with client_of(provider, Account(workspace_id="default", access_token="secret-token")) as client:
        assert await read(client, ref(found.id)) == CONTENT
    assert [entry.path for entry in simulator.requests] == [f"/{found.id}", "/whatsapp_business/attachments/"]
    assert {entry.host for entry in simulator.requests} == {httpx.URL(provider.base_url).netloc.decode()}


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(Faults(graph_error=GraphCode.SOMETHING_WRONG), id="resolve 500"),
        pytest.param(Faults(download_error=500), id="download 500"),
        pytest.param(Faults(download_error=404), id="download 404"),
    ],
)
async def test_360dialog_counts_errors_so_none_is_repeated(
    dialog360: tuple[Simulator, Provider], ref: Ref, faults: Faults
) -> None:
    simulator, provider = dialog360
    found = medium(simulator, faults)
    async with client_of(provider, Account(workspace_id="default", access_token="secret-token")) as client:
        with pytest.raises(OriginFailed):
            await read(client, ref(found.id))
    assert len([entry for entry in simulator.requests if (entry.status or 0) >= 400]) == 1


async def test_360dialog_carries_the_key_bare(scripted: Scripted, answer: Any, ref: Ref) -> None:
    scripted.answers = [scripted.resolve_answer("https://lookaside.fbsbx.com/a/?mid=1&hash=h"), answer(b"bytes")]
    async with scripted.client(profile=DIALOG360) as client:
        assert await read(client, ref("1")) == b"bytes"
    assert all("\r\nd360-api-key: secret-token\r\n" in head.lower() for head in scripted.requests)
    assert scripted.requests[1].startswith("GET /a/?mid=1&hash=h HTTP/1.1\r\n")


def test_profiles_are_found_by_name() -> None:
    assert set(PROFILES) == {"meta", "360dialog"}


# Values --------------------------------------------------------------------------------------------------------------


def test_the_token_is_kept_out_of_the_repr() -> None:
    assert "secret" not in repr(Account(workspace_id="default", access_token="secret"))


@pytest.mark.parametrize("token", ["", " ", "a b", "secret\n", "sécret"])
def test_a_token_that_no_header_can_carry_is_refused_unquoted(token: str) -> None:
    with pytest.raises(ValueError, match="access token of workspace 'w'") as caught:
        Account(workspace_id="w", access_token=token)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "base_url", ["", "graph.facebook.com", "ftp://a.example", "https://u:p@a.example", "https://a?b"]
)
def test_a_base_url_that_is_none_is_refused(base_url: str) -> None:
    with pytest.raises(ValueError, match="base URL"):
        Provider(base_url=base_url)


@pytest.mark.parametrize("version", ["", "23.0", "v23", "v23.0/../x"])
def test_an_api_version_that_is_none_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match="API version"):
        Provider(api_version=version)


def test_a_base_url_may_have_a_path_and_a_trailing_slash() -> None:
    provider = Provider(base_url="https://API.example./meta/whatsapp/")
    assert str(provider.resolve_url("1", None)) == "https://api.example/meta/whatsapp/v23.0/1"


# Observation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        pytest.param(Faults(), [("resolve", "ok"), ("download", "ok")], id="well"),
        pytest.param(Faults(graph_error=GraphCode.TOKEN_EXPIRED), [("resolve", "refused")], id="no resolve"),
        pytest.param(Faults(download_error=403), [("resolve", "ok"), ("download", "refused")], id="no download"),
        pytest.param(
            Faults(transport=Transport.TRUNCATED), [("resolve", "ok"), ("download", "failed")], id="half a download"
        ),
        pytest.param(
            Faults(download_error=404, download_error_times=1),
            [("resolve", "ok"), ("resolve", "ok"), ("download", "ok")],
            id="a fresh URL",
        ),
    ],
)
async def test_every_call_is_observed(scene: Scene, ref: Ref, faults: Faults, expected: list[tuple[str, str]]) -> None:
    simulator, provider, account = scene
    seen: list[tuple[str, str]] = []

    def observe(operation: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        seen.append((operation, outcome))

    found = medium(simulator, faults)
    async with WhatsAppClient(provider, account, observe=observe) as client:
        with suppress(OriginError):
            await read(client, ref(found.id))
    assert seen == expected


def test_every_error_of_the_provider_has_an_outcome_of_its_own() -> None:
    def below(kind: type[MediaError]) -> set[type[MediaError]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    assert below(OriginError) - {OriginError} == set(OUTCOMES)
    assert len(set(OUTCOMES.values())) == len(OUTCOMES)
    assert outcome_of(OriginLied()) == "lied"


async def test_neither_token_nor_url_is_logged(
    scripted: Scripted, answer: Any, ref: Ref, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    stumble, redirect = answer(b"", status="500 Oops"), answer(b"", "Location: /x?hash=SECRET", status="302 Found")
    scripted.answers = [scripted.resolve_answer(), stumble, redirect, answer(b"bytes")]
    async with scripted.client() as client:
        assert await read(client, ref("1")) == b"bytes"
    logged = caplog.text + "".join(capsys.readouterr())
    assert "retry" in logged
    assert "secret-token" not in logged
    assert "SECRET" not in logged
