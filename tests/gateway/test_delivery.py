"""Redirect delivery: who is sent to the store, with which answer, and what arrives from there."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from gateway.delivery import STANDARD, Redirection, fresh_for, redirectable
from gateway.disposition import content_disposition
from gateway.media import joined_headers
from gateway.responses import Asked, Decision, decide, send_bodyless
from storage.errors import StorageError, StoreForbidden, StoreUnavailable
from storage.representation import Representation, Source
from storage.s3 import S3Config, S3Store
from storage.store import PresignedUrl
from tests.gateway.conftest import S3_SECRET
from tests.running import NO_TLS

LIFE = 600
NOW = 1_790_000_000.5
URL = "https://store.example/bucket/media/m/1?X-Amz-Signature=0a"
BODY = bytes(range(100))
MEDIUM = Representation(
    content_type="image/jpeg",
    size=len(BODY),
    sha256=sha256(BODY).hexdigest(),
    last_modified=datetime(2026, 11, 21, tzinfo=UTC),
    source=Source.STORAGE,
    verified=True,
)


@dataclass
class Presigning:
    """A store that presigns as it is told, and notes what it was asked for."""

    answer: PresignedUrl | StorageError | None = field(default_factory=lambda: PresignedUrl(URL, int(NOW) + 660))
    asked: list[dict[str, object]] = field(default_factory=list)

    async def presign(
        self, key: str, *, life: int, content_type: str, content_disposition: str, cache_control: str
    ) -> PresignedUrl | None:
        self.asked.append({
            "key": key,
            "life": life,
            "content_type": content_type,
            "content_disposition": content_disposition,
            "cache_control": cache_control,
        })  # fmt: skip
        if isinstance(self.answer, StorageError):
            raise self.answer
        return self.answer


def get(**fields: str) -> Asked:
    """Ask for the medium with these header fields."""
    return Asked(method="GET", headers={name.replace("_", "-"): value for name, value in fields.items()})


async def redirect(
    asked: Asked,
    store: Presigning | None,
    *,
    key: str | None = "media/m/1",
    tier: str = STANDARD,
    is_playlist: bool = False,
) -> dict[str, str] | None:
    """Return the fields of the redirect, if there is one."""
    delivery = Redirection(store, life=LIFE, clock=lambda: NOW)
    found = await delivery.hand_over(
        asked, decide(asked, MEDIUM), "m", key, tier=tier, is_playlist=is_playlist, peer=""
    )
    return {name.decode(): value.decode() for name, value in found.headers} if found is not None else None


async def test_the_answer_is_all_of_the_redirect_and_nothing_of_the_medium() -> None:
    assert await redirect(get(), Presigning()) == {
        "location": URL,
        "cache-control": "private, max-age=359",
        "content-length": "0",
        "cross-origin-resource-policy": "cross-origin",
        "referrer-policy": "no-referrer",
        "x-media-source": "storage",
        "x-media-variant": "original",
    }


async def test_the_store_is_asked_to_send_what_we_would() -> None:
    store = Presigning()
    asked = replace(get(), download=True, filename="a b.jpg")

    await redirect(asked, store)

    assert store.asked == [
        {
            "key": "media/m/1",
            "life": LIFE,
            "content_type": "image/jpeg",
            "content_disposition": 'attachment; filename="a b.jpg"',
            "cache_control": "max-age=86400, private, immutable, no-transform",
        }
    ]


async def test_what_accept_has_chosen_varies_by_it() -> None:
    fields = await redirect(replace(get(accept="image/webp"), variant="auto", shown="webp"), Presigning())

    assert fields is not None
    assert (fields["vary"], fields["x-media-variant"]) == ("Accept", "webp")


async def test_the_file_of_a_stream_is_one_of_its_variant() -> None:
    fields = await redirect(replace(get(), variant="hls", shown="hls/720p/0.ts"), Presigning())

    assert fields is not None
    assert fields["x-media-variant"] == "hls"


async def test_what_stands_in_for_a_variant_is_kept_by_nobody() -> None:
    store = Presigning()

    fields = await redirect(replace(get(), variant="preview", shown="original", final=False), store)

    assert fields is not None
    assert fields["cache-control"] == "no-store"
    assert store.asked[0]["cache_control"] == "no-store"


async def test_a_store_without_urls_has_its_bytes_sent() -> None:
    assert await redirect(get(), None) is None
    assert await redirect(get(), Presigning(answer=None)) is None


@pytest.mark.parametrize("error", [StoreForbidden(), StoreUnavailable()], ids=["no credentials", "not now"])
async def test_a_store_that_cannot_presign_now_is_read_instead(error: StorageError) -> None:
    assert await redirect(get(), Presigning(answer=error)) is None


async def test_what_only_we_can_give_is_not_presigned() -> None:
    store = Presigning()

    assert await redirect(get(), store, key=None) is None, "not stored, or elsewhere"
    assert await redirect(replace(get(), cache_tags="m"), store) is None, (
        "a CDN would hand the store's URL to its viewers"
    )
    assert await redirect(get(), store, is_playlist=True) is None, "its URIs are written for the request"
    assert await redirect(get(), store, tier="GLACIER") is None, "a client would get 403"
    assert store.asked == []


@pytest.mark.parametrize(
    ("tier", "readable"),
    [
        ("STANDARD", True),
        ("STANDARD_IA", True),
        ("ONEZONE_IA", True),
        ("GLACIER_IR", True),
        ("GLACIER", False),
        ("DEEP_ARCHIVE", False),
        pytest.param("INTELLIGENT_TIERING", False, id="INTELLIGENT_TIERING may be archived"),
        pytest.param("OF_TOMORROW", False, id="unknown"),
    ],
)
def test_which_tiers_a_client_can_read(tier: str, *, readable: bool) -> None:
    assert redirectable(get(), decide(get(), MEDIUM), tier) is readable


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, True, id="no Range"),
        pytest.param({"range": "bytes=0-"}, True, id="14.1.2 what players begin with"),
        pytest.param({"range": "bytes=0-1"}, True, id="14.1.2 Safari's probe"),
        pytest.param({"range": "bytes=-10"}, True, id="14.1.2 a suffix"),
        pytest.param({"range": "bytes=0-1,5-9"}, False, id="14.1.2 several: S3 has no multipart/byteranges"),
        pytest.param({"range": "bytes=0-5,3-9"}, False, id="15.3.7 several that we merge"),
        pytest.param({"range": "bytes=5-1"}, False, id="14.2 malformed: ignored by us"),
        pytest.param({"range": "lines=1-2"}, False, id="14.2 another unit: ignored by us"),
        pytest.param({"if_match": "*"}, False, id="13.1.1 If-Match"),
        pytest.param({"if_none_match": '"other"'}, False, id="13.1.2 If-None-Match that lets pass"),
        pytest.param({"if_modified_since": "Wed, 21 Oct 2015 07:28:00 GMT"}, False, id="13.1.3 If-Modified-Since"),
        pytest.param({"if_unmodified_since": "Sat, 21 Nov 2026 00:00:00 GMT"}, False, id="13.1.4 If-Unmodified-Since"),
        pytest.param({"range": "bytes=0-1", "if_range": f'"{MEDIUM.sha256}"'}, False, id="13.1.5 If-Range"),
        pytest.param({"authorization": "Bearer t"}, False, id="a token: S3 takes one credential"),
        pytest.param({"x_api_key": "k"}, False, id="an API key: clients repeat it at the store"),
        pytest.param({"x_origin_verify": "s"}, False, id="the origin secret likewise"),
        pytest.param({"cookie": "media_token=t"}, True, id="a cookie stays with its host"),
        pytest.param({"origin": "https://chat.example", "accept": "*/*"}, True, id="any other field"),
    ],
)
def test_whose_request_may_be_repeated_at_the_store(fields: dict[str, str], *, expected: bool) -> None:
    assert redirectable(get(**fields), decide(get(**fields), MEDIUM), STANDARD) is expected


def test_what_needs_no_bytes_is_answered_by_us() -> None:
    unchanged = get(if_none_match=f'"{MEDIUM.sha256}"')
    head = Asked(method="HEAD", headers={})

    assert decide(unchanged, MEDIUM).status == 304
    assert not redirectable(unchanged, decide(unchanged, MEDIUM), STANDARD)
    assert not redirectable(head, decide(head, MEDIUM), STANDARD), "the signature is one of a GET"


@given(left=st.floats(0.001, 700_000), now=st.floats(0, 4e9), life=st.integers(1, 518_400))
def test_no_redirect_outlives_its_url(left: float, now: float, life: int) -> None:
    expires_at = int(now + left)
    max_age = fresh_for(expires_at, now=now, life=life)

    assert max_age >= 0
    assert max_age == 0 or now + max_age <= expires_at - life / 2


@pytest.mark.parametrize(
    ("left", "expected"),
    [(660.0, 360), (600.0, 300), (600.9, 300), (599.1, 299), (300.0, 0), (1.0, 0)],
)
def test_half_of_the_life_is_left_to_play_it(left: float, expected: int) -> None:
    assert fresh_for(1_790_000_000, now=1_790_000_000 - left, life=LIFE) == expected


class Gateway:
    """An ASGI application that redirects to one stored medium."""

    def __init__(self, delivery: Redirection) -> None:
        self.filename: str | None = None
        self.content_type = "image/jpeg"
        self._delivery = delivery

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = Asked(method=scope["method"], headers=joined_headers(scope["headers"]), filename=self.filename)
        decision = decide(asked, replace(MEDIUM, content_type=self.content_type))
        found = await self._delivery.hand_over(asked, decision, "m", "m", tier=STANDARD, is_playlist=False, peer="")
        assert found is not None
        await send_bodyless(Decision(307, found.headers, ()), send)


@pytest.fixture
async def gateway(s3: dict[str, str], tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway before moto's real server."""
    config = S3Config(
        bucket=s3["AWS_S3_BUCKET"],
        endpoint_url=s3["AWS_ENDPOINT_URL_S3"],
        access_key_id="AKIDEXAMPLE",
        secret_access_key=S3_SECRET,
    )
    path = tmp_path / "medium"
    path.write_bytes(BODY)
    async with S3Store(config) as store:
        await store.put("m", path, content_type="application/x-as-stored")
        yield Gateway(Redirection(store, life=LIFE))


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client that follows redirects from the gateway to the store."""
    mounts = {"all://gateway": httpx.ASGITransport(gateway)}
    async with httpx.AsyncClient(
        base_url="http://gateway", mounts=mounts, verify=NO_TLS, follow_redirects=True
    ) as opened:
        yield opened


@pytest.mark.parametrize(
    "filename",
    [
        pytest.param(None, id="none"),
        pytest.param("receipt.jpg", id="plain"),
        pytest.param("my receipt (2) + copy.jpg", id="spaces and a plus sign"),
        pytest.param("Bob's; x=1&y=2#z?.jpg", id="separators"),
        pytest.param("€ rates.jpg", id="6266-5 euro"),
        pytest.param("发票.pdf", id="8187-3.2.3 Chinese"),
        pytest.param("100%41.jpg", id="6266-D an escape lookalike"),
        pytest.param('a"; filename="b.exe', id="quotes"),
        pytest.param("a\r\nSet-Cookie: b=c.jpg", id="header injection"),
        pytest.param("می\u200cشود.pdf", id="a joiner"),
        pytest.param("😀" * 500 + ".jpeg", id="too long"),
    ],
)
async def test_a_client_that_follows_gets_the_medium_as_from_us(
    gateway: Gateway, client: httpx.AsyncClient, filename: str | None
) -> None:
    gateway.filename = filename

    response = await client.get("/")

    assert [hop.status_code for hop in response.history] == [307]
    assert (response.status_code, response.content) == (200, BODY)
    assert response.headers["content-type"] == "image/jpeg"
    expected = content_disposition(filename, attachment=False, content_type="image/jpeg")
    assert response.headers["content-disposition"] == expected
    assert response.headers["cache-control"] == "max-age=86400, private, immutable, no-transform"


async def test_a_type_that_a_browser_could_run_is_an_attachment_there_too(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    gateway.content_type, gateway.filename = "image/svg+xml", "logo.svg"

    response = await client.get("/")

    assert response.headers["content-type"] == "image/svg+xml"
    assert response.headers["content-disposition"] == 'attachment; filename="logo.svg"'


async def test_a_client_that_follows_gets_its_range(client: httpx.AsyncClient) -> None:
    response = await client.get("/", headers={"Range": "bytes=10-19"})

    assert (response.status_code, response.content) == (206, BODY[10:20])
    assert response.headers["content-range"] == "bytes 10-19/100"


@given(st.text(st.characters(exclude_categories=()), max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_file_name_arrives(gateway: Gateway, client: httpx.AsyncClient, filename: str) -> None:
    gateway.filename = filename

    response = await client.get("/")

    expected = content_disposition(filename, attachment=False, content_type="image/jpeg")
    assert response.headers["content-disposition"] == expected
