"""How long presigned URLs live and stay the same, and what ends them early."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.s3 import S3Config, S3Store, signing
from storage.s3.signing import PRESIGNED_KEPT, presigned_window
from storage.store import MAX_PRESIGNED_LIFE
from tests.storage.presigning import LIFE, ROUNDED, SECRET, Clock, expected_signature, presign, presigned, query_of

Serve = Callable[[float], Awaitable[None]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(clock: Clock) -> AsyncIterator[S3Store]:
    """A store that nothing is sent to."""
    config = S3Config(bucket="b", access_key_id="AKIDEXAMPLE", secret_access_key=SECRET)
    async with S3Store(config, clock=clock) as opened:
        yield opened


async def test_a_url_begins_before_now_and_says_when_it_ends(store: S3Store) -> None:
    found = await presigned(store)

    query = query_of(found.url)
    assert query["X-Amz-Date"] == f"{datetime.fromtimestamp(ROUNDED, UTC):%Y%m%dT%H%M%SZ}"
    assert query["X-Amz-Expires"] == "660"
    assert found.expires_at == ROUNDED + 660


@given(
    now=st.floats(0, 4e9),
    life=st.integers(1, MAX_PRESIGNED_LIFE),
)
def test_a_url_lives_as_long_as_asked_for_and_at_most_a_tenth_longer(now: float, life: int) -> None:
    began, lasts = presigned_window(now, life)

    assert began <= now
    assert life <= began + lasts - now <= life + max(1, life / 10)
    assert lasts <= 7 * 24 * 3600, "Signature Version 4 allows no more"


@pytest.mark.parametrize("life", [-1, 0, MAX_PRESIGNED_LIFE + 1])
async def test_a_life_that_cannot_be_signed_is_refused(store: S3Store, life: int) -> None:
    with pytest.raises(ValueError, match="a presigned URL lives from 1 to"):
        await presigned(store, life=life)


async def test_the_same_url_is_given_out_for_a_tenth_of_its_life(store: S3Store, clock: Clock) -> None:
    first = await presigned(store)
    clock.now = ROUNDED + 59.9
    same = await presigned(store)
    clock.now = ROUNDED + 60
    next_one = await presigned(store)

    assert same == first
    assert next_one.url != first.url
    assert next_one.expires_at == first.expires_at + 60


async def test_whatever_differs_has_a_url_of_its_own(store: S3Store) -> None:
    urls = [
        await presigned(store),
        await presigned(store, "another"),
        await presigned(store, life=LIFE * 2),
        await presigned(store, content_type="image/png"),
        await presigned(store, disposition="attachment"),
        await presigned(store, cache_control="no-store"),
    ]

    assert len({found.url for found in urls}) == len(urls)


async def test_what_is_kept_is_signed_once_and_bounded(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    signed: list[str] = []
    sign = signing._signature

    def counting(canonical: str, *rest: Any) -> str:
        signed.append(canonical)
        return sign(canonical, *rest)

    monkeypatch.setattr(signing, "_signature", counting)
    for number in range(PRESIGNED_KEPT + 10):
        await presigned(store, f"media/{number}")
        await presigned(store, f"media/{number}")

    assert len(signed) == PRESIGNED_KEPT + 10
    assert len(store._signatures._presigned) == PRESIGNED_KEPT


@pytest.fixture
async def serve_role(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    """Give the machine a role: whoever asks gets new credentials that end in so many seconds."""
    async with AsyncExitStack() as stack:

        async def serve(seconds: float) -> None:
            given = count(1)

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                body = json.dumps({
                    "AccessKeyId": f"AKIDROLE{next(given)}",
                    "SecretAccessKey": SECRET,
                    "Token": "token-of-a-role",
                    "Expiration": (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(),
                })  # fmt: skip
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
                writer.close()

            server = await stack.enter_async_context(await asyncio.start_server(answer, "127.0.0.1", 0))
            port = server.sockets[0].getsockname()[1]
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{port}/")

        yield serve


async def test_no_url_outlives_the_credentials_of_a_role(clock: Clock, serve_role: Serve) -> None:
    await serve_role(3600)
    async with S3Store(S3Config(bucket="b"), clock=clock) as store:
        assert query_of((await presigned(store, life=600)).url)["X-Amz-Credential"].startswith("AKIDROLE1/")
        assert await presign(store, life=3600) is None


async def test_credentials_that_were_renewed_sign_anew(clock: Clock, serve_role: Serve) -> None:
    await serve_role(800)  # botocore renews what ends within 15 minutes
    async with S3Store(S3Config(bucket="b"), clock=clock) as store:
        first, second = (await presigned(store)).url, (await presigned(store)).url

    assert query_of(first)["X-Amz-Credential"] != query_of(second)["X-Amz-Credential"]
    for url in (first, second):
        assert query_of(url)["X-Amz-Signature"] == expected_signature(url, SECRET)
