"""Presigned URLs: what a client that has nothing else gets from the store, and what they tell of us."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import ObjectNotFound, StoreForbidden
from storage.local import LocalStore
from storage.memory import MemoryStore
from storage.middleware import LimitedStore, MeteredStore, RetryingStore
from storage.s3 import R2Store, S3Config, S3Store
from storage.store import ObjectStore, Presigner
from tests.running import NO_TLS
from tests.storage.presigning import KEY, NOW, SECRET, expected_signature, presign, presigned, query_of

MakeFile = Callable[[bytes], Path]
OpenStore = Callable[..., Awaitable[S3Store]]

CONTENT = bytes(range(250))


@pytest.fixture
async def open_store() -> AsyncIterator[OpenStore]:
    """Open stores that are closed after the test."""
    async with AsyncExitStack() as stack:

        async def opened(config: S3Config, kind: type[S3Store] = S3Store) -> S3Store:
            return await stack.enter_async_context(kind(config, clock=lambda: NOW))

        yield opened


@pytest.fixture
async def store(open_store: OpenStore, s3_config: S3Config, make_file: MakeFile) -> S3Store:
    """A store at moto's real server, with one object."""
    opened = await open_store(s3_config)
    await opened.put(KEY, make_file(CONTENT), content_type="application/x-as-stored")
    return opened


async def fetched(url: str, **fields: str) -> httpx.Response:
    """Get a URL as a client would that knows nothing else."""
    return await asyncio.to_thread(httpx.get, url, headers=fields, verify=NO_TLS)


def test_the_signature_of_the_standard_is_the_one_that_is_expected_here() -> None:
    # "Authenticating Requests: Using Query Parameters" of Amazon's S3 API Reference.
    url = (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    )

    signature = expected_signature(url, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")

    assert signature == "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"


async def test_whoever_has_the_url_gets_the_object_as_it_was_asked_for(store: S3Store) -> None:
    url = (await presigned(store)).url

    response = await fetched(url)

    assert (response.status_code, response.content) == (200, CONTENT)
    assert response.headers["content-type"] == "image/jpeg"
    assert response.headers["content-disposition"] == 'inline; filename="a.jpg"'
    assert response.headers["cache-control"] == "private, max-age=86400"


@pytest.mark.parametrize(
    ("wanted", "content_range", "body"),
    [
        ("bytes=0-", "bytes 0-249/250", CONTENT),
        ("bytes=10-19", "bytes 10-19/250", CONTENT[10:20]),
        ("bytes=-5", "bytes 245-249/250", CONTENT[-5:]),
    ],
)
async def test_ranges_are_the_stores(store: S3Store, wanted: str, content_range: str, body: bytes) -> None:
    response = await fetched((await presigned(store)).url, Range=wanted)

    assert (response.status_code, response.headers["content-range"], response.content) == (206, content_range, body)
    assert response.headers["content-type"] == "image/jpeg"


FIELDS = [
    pytest.param('inline; filename="a b.jpg"', id="6266-4.1 a space"),
    pytest.param('inline; filename="a+b.jpg"', id="a plus sign is no space"),
    pytest.param('inline; filename="Bob\'s; x=1&y=2#z?.jpg"', id="what separates parts of a query"),
    pytest.param("inline; filename=\"_.jpg\"; filename*=UTF-8''%E2%82%AC.jpg", id="8187-3.2.1 euro"),
    pytest.param("inline; filename=\"100_41\"; filename*=UTF-8''100%2541", id="an escape stays one"),
    pytest.param('attachment; filename="..%2F\\\\..\\"', id="slashes of either kind"),
    pytest.param("attachment", id="no name"),
]


@pytest.mark.parametrize("disposition", FIELDS)
async def test_a_field_arrives_as_it_was_asked_for(store: S3Store, disposition: str) -> None:
    response = await fetched((await presigned(store, disposition=disposition)).url)

    assert response.headers["content-disposition"] == disposition


@pytest.mark.parametrize("key", ["media/wamid.HBg==/a+b c", "media/%2F@'(1)!*~$&;:,", "media/zoë/日本?x=#"])
async def test_any_key_has_a_url_with_a_true_signature(store: S3Store, make_file: MakeFile, key: str) -> None:
    await store.put(key, make_file(CONTENT), content_type="image/jpeg")

    url = (await presigned(store, key)).url

    assert url.isascii()
    assert query_of(url)["X-Amz-Signature"] == expected_signature(url, SECRET)
    assert (await fetched(url)).content == CONTENT


@given(
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
    disposition=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=200),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_url_says_what_was_asked_for_and_its_signature_covers_it(
    store: S3Store, key: str, disposition: str
) -> None:
    url = (await presigned(store, key, disposition=disposition)).url

    assert unquote(urlsplit(url).path).endswith(f"/{key}")
    assert query_of(url)["response-content-disposition"] == disposition
    assert query_of(url)["X-Amz-Signature"] == expected_signature(url, SECRET)


@pytest.mark.parametrize(
    ("config", "kind", "expected"),
    [
        pytest.param(
            S3Config(bucket="b", region="eu-west-1"),
            S3Store,
            "https://b.s3.eu-west-1.amazonaws.com/k",
            id="AWS: the bucket is part of the host",
        ),
        pytest.param(
            S3Config(bucket="b.c", region="eu-west-1"),
            S3Store,
            "https://s3.eu-west-1.amazonaws.com/b.c/k",
            id="a name with dots fits no certificate",
        ),
        pytest.param(
            S3Config(bucket="b", endpoint_url="https://minio.example:9000"),
            S3Store,
            "https://minio.example:9000/b/k",
            id="another endpoint: the bucket is part of the path",
        ),
        pytest.param(
            S3Config.for_r2(account_id="0af", bucket="b", access_key_id="i", secret_access_key=SECRET),
            R2Store,
            "https://0af.r2.cloudflarestorage.com/b/k",
            id="R2",
        ),
    ],
)
async def test_where_a_url_leads(open_store: OpenStore, config: S3Config, kind: type[S3Store], expected: str) -> None:
    store = await open_store(replace(config, access_key_id="AKIDEXAMPLE", secret_access_key=SECRET), kind)

    url = (await presigned(store, "k")).url

    assert url.partition("?")[0] == expected
    assert query_of(url)["X-Amz-Credential"] == f"AKIDEXAMPLE/20260921/{config.region}/s3/aws4_request"
    assert query_of(url)["X-Amz-SignedHeaders"] == "host"
    assert query_of(url)["X-Amz-Signature"] == expected_signature(url, SECRET)


async def test_a_virtual_hosted_bucket_is_reached(
    open_store: OpenStore, s3_config: S3Config, aws_endpoint: str, make_file: MakeFile
) -> None:
    store = await open_store(replace(s3_config, endpoint_url=aws_endpoint, addressing_style="virtual"))
    await store.put(KEY, make_file(CONTENT), content_type="image/jpeg")

    url = (await presigned(store)).url

    assert urlsplit(url).hostname == f"{s3_config.bucket}.s3.us-east-1.amazonaws.com"
    assert (await fetched(url)).content == CONTENT


async def test_a_session_token_is_part_of_the_url_and_of_what_is_signed(
    open_store: OpenStore, s3_config: S3Config
) -> None:
    store = await open_store(replace(s3_config, session_token="token+of/a role=="))

    url = (await presigned(store)).url

    assert query_of(url)["X-Amz-Security-Token"] == "token+of/a role=="
    assert query_of(url)["X-Amz-Signature"] == expected_signature(url, SECRET)


async def test_the_secret_is_nowhere_and_the_url_in_no_repr_or_log(
    open_store: OpenStore, s3_config: S3Config, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = await open_store(replace(s3_config, session_token="token-of-a-role"))

    found = await presigned(store)

    assert SECRET not in unquote(found.url)
    assert set(query_of(found.url)) == {
        "response-cache-control",
        "response-content-disposition",
        "response-content-type",
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
    }
    seen = f"{found!r} {found} {caplog.text}"
    for secret in (SECRET, "token-of-a-role", query_of(found.url)["X-Amz-Signature"]):
        assert secret not in seen


@pytest.mark.parametrize(
    "disposition",
    [
        pytest.param("", id="nothing"),
        pytest.param('inline; filename="é.jpg"', id="5987-1 no field is beyond ASCII"),
        pytest.param("inline\r\nSet-Cookie: a=b", id="9110-5.5 line breaks"),
        pytest.param("inline\t", id="a control character"),
        pytest.param("attachment; filename=" + "%" * 2600, id="9110-4.1 longer than every server takes"),
    ],
)
async def test_what_no_url_can_carry_is_not_presigned(store: S3Store, disposition: str) -> None:
    assert await presign(store, disposition=disposition) is None


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        pytest.param("", ObjectNotFound, id="the bucket itself"),
        pytest.param("media/\ud800", StoreForbidden, id="a surrogate"),
    ],
)
async def test_a_key_that_no_store_can_hold_is_refused(store: S3Store, key: str, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        await presigned(store, key)


async def test_without_credentials_nothing_is_signed(open_store: OpenStore) -> None:
    store = await open_store(S3Config(bucket="b"))

    with pytest.raises(StoreForbidden):
        await presigned(store)


def unobserved(backend: str, operation: str, outcome: str, seconds: float) -> None:
    raise AssertionError(operation)


async def test_a_wrapper_presigns_as_what_it_wraps_and_waits_for_nothing(store: S3Store) -> None:
    limited = LimitedStore(store, 1, timeout=0)
    wrapped = MeteredStore(RetryingStore(limited), unobserved)

    async with limited.open(KEY):
        assert await presigned(wrapped) == await presigned(store)


@pytest.mark.parametrize("wrap", [RetryingStore, lambda inner: LimitedStore(inner, 1)], ids=["retrying", "limited"])
def test_every_wrapper_may_be_asked(wrap: Callable[[ObjectStore], ObjectStore]) -> None:
    assert isinstance(wrap(MemoryStore()), Presigner)


async def test_files_and_memory_have_no_urls(tmp_path: Path) -> None:
    for inner in (LocalStore(tmp_path), MemoryStore()):
        assert not isinstance(inner, Presigner)
        wrapped = MeteredStore(RetryingStore(inner), unobserved)
        assert await presign(wrapped) is None
