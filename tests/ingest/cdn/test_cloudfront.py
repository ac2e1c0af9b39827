"""Purging CloudFront: over moto's real HTTP server, and over one that fails as AWS does."""

import os
import traceback
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from aiobotocore.session import AioSession
from botocore.loaders import Loader

from ingest.cdn.cloudfront import CloudFrontInvalidation
from ingest.cdn.purge import PurgeError, PurgeFailed, PurgeItem, PurgeRefused, PurgeThrottled
from tests.ingest.cdn.conftest import KEYS, NOON, ScriptedApi, answer, invalidations, items
from tests.running import free_port

SESSION_TOKEN = "FwoGZXIvYXdzEXAMPLE"
DISTRIBUTION = "EDFDVBD6EXAMPLE"
NAMESPACE = "{http://cloudfront.amazonaws.com/doc/2020-05-31/}"
CREATED = answer(b"<Invalidation><Id>I1</Id><Status>InProgress</Status></Invalidation>", status="201 Created")


@pytest.fixture(scope="module")
def description() -> Loader:
    """Botocore's description of CloudFront, read once for all tests."""
    return AioSession().get_component("data_loader")


@pytest.fixture(autouse=True)
def aws_session(description: Loader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep credentials and settings of this machine out of the tests."""

    def session() -> AioSession:
        made = AioSession()
        made.register_component("data_loader", description)
        return made

    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setattr("ingest.cdn.cloudfront.get_session", session)


def purger_of(url: str, distribution: str = DISTRIBUTION, **options: Any) -> CloudFrontInvalidation:
    return CloudFrontInvalidation(distribution, endpoint_url=url, **KEYS | {"timeout": 10} | options)


async def test_a_path_is_purged_with_every_query_and_all_below_it(aws: Any, moto_url: str, distribution: str) -> None:
    async with purger_of(moto_url, distribution) as purger:
        await purger.purge([PurgeItem(message_id="wamid.HBgL==", deleted_at=NOON)])
    taken = [batch["Paths"] for batch in await invalidations(aws, distribution)]
    path = "/media/messages/wamid.HBgL%3D%3D"
    assert taken == [
        {"Quantity": 1, "Items": [path]},
        {"Quantity": 2, "Items": [f"{path}/*", f"{path}?*"]},
    ]


async def test_a_tag_is_purged_where_the_distribution_has_tags(aws: Any, moto_url: str, distribution: str) -> None:
    async with purger_of(moto_url, distribution, by_tag=True) as purger:
        await purger.purge([*items(2), *items(2)])
    (batch,) = await invalidations(aws, distribution)
    assert batch["Paths"] == {"Quantity": 2, "Items": ["#m-m0", "#m-m1"]}


async def test_a_distribution_that_does_not_exist_is_refused(moto_url: str) -> None:
    async with purger_of(moto_url, "ENOTTHERE") as purger:
        with pytest.raises(PurgeRefused) as caught:
            await purger.purge(items(1))
    assert str(caught.value) == "The CDN refuses the purge (HTTP 404, NoSuchDistribution)."


def requests(api: ScriptedApi) -> list[tuple[str, list[str]]]:
    """Return reference and paths of each invalidation that was asked for."""
    documents = [ET.fromstring(body) for body in api.bodies]  # noqa: S314 our own request
    return [
        (
            document.findtext(f"{NAMESPACE}CallerReference") or "",
            [p.text or "" for p in document.iter(f"{NAMESPACE}Path")],
        )
        for document in documents
    ]


@pytest.mark.parametrize(
    ("by_tag", "count", "sizes"),
    [
        pytest.param(False, 0, [], id="nothing"),
        pytest.param(False, 7, [7, 14], id="one batch by path"),
        pytest.param(False, 20, [20, 15, 15, 10], id="15 wildcards in progress"),
        pytest.param(True, 1000, [1000], id="one batch by tag"),
        pytest.param(True, 2500, [1000, 1000, 500], id="3,000 items in progress"),
    ],
)
async def test_requests_keep_within_the_limits(api: ScriptedApi, by_tag: bool, count: int, sizes: list[int]) -> None:  # noqa: FBT001 a table
    api.script = [CREATED]
    async with purger_of(api.url, by_tag=by_tag) as purger:
        await purger.purge(items(count))
        assert purger.batch_size == (1000 if by_tag else 7)
    asked = requests(api)
    assert [len(paths) for _, paths in asked] == sizes
    assert len({reference for reference, _ in asked}) == len(sizes)
    named = [path for _, paths in asked for path in paths]
    assert len(set(named)) == len(named) == count * (1 if by_tag else 3)


def forgets(item: str, path: str) -> bool:
    """Whether an invalidation reaches a path: ``*`` is the last character, and stands for any others or none."""
    return path.startswith(item[:-1]) if item.endswith("*") else path == item


@pytest.mark.parametrize(
    ("path", "forgotten"),
    [
        ("/media/messages/1", True),
        ("/media/messages/1?variant=webp", True),
        ("/media/messages/1/hls/master.m3u8", True),
        ("/media/messages/12", False),
        ("/media/messages/1.5", False),
        ("/media/messages/1%2F2", False),
        ("/media/messages/", False),
    ],
)
async def test_what_a_purge_by_path_reaches(api: ScriptedApi, path: str, forgotten: bool) -> None:  # noqa: FBT001 a table
    api.script = [CREATED]
    async with purger_of(api.url) as purger:
        await purger.purge([PurgeItem(message_id="1", deleted_at=NOON)])
    assert any(forgets(item, path) for _, items in requests(api) for item in items) is forgotten


# "If you make a second invalidation request with the same value for CallerReference, and if the rest of the request is
# the same, CloudFront doesn't create a new invalidation request" (API_InvalidationBatch).


async def test_the_same_batch_has_the_same_reference_in_whatever_order(api: ScriptedApi) -> None:
    api.script = [CREATED]
    for batch in (items(3), items(3)[::-1]):
        async with purger_of(api.url) as purger:
            await purger.purge(batch)
    first, second = requests(api)[:2], requests(api)[2:]
    assert first == second


async def test_a_later_deletion_of_the_same_message_has_a_reference_of_its_own(api: ScriptedApi) -> None:
    api.script = [CREATED]
    (item,) = items(1)
    async with purger_of(api.url, by_tag=True) as purger:
        await purger.purge([item])
        await purger.purge([replace(item, deleted_at=NOON + timedelta(days=1))])
    (one, paths), (other, same_paths) = requests(api)
    assert paths == same_paths
    assert one != other


# What AWS answers.


def aws_error(status: str, code: str, message: str = "", *headers: str) -> bytes:
    document = (
        f'<?xml version="1.0"?><ErrorResponse xmlns="{NAMESPACE[1:-1]}"><Error><Type>Sender</Type><Code>{code}</Code>'
        f"<Message>{message}</Message></Error><RequestId>r1</RequestId></ErrorResponse>"
    )
    return answer(document.encode(), "Content-Type: text/xml", *headers, status=status)


LEAK = f"The Canonical String should have been x-amz-security-token:{SESSION_TOKEN}"


BAD_REQUEST, FORBIDDEN = "400 Bad Request", "403 Forbidden"


@pytest.mark.parametrize(
    ("reply", "kind", "wait", "facts"),
    [
        (aws_error(BAD_REQUEST, "TooManyInvalidationsInProgress"), PurgeThrottled, 60, "TooManyInvalidations"),
        (aws_error(BAD_REQUEST, "Throttling"), PurgeThrottled, 60, "Throttling"),
        (aws_error("429 Too Many Requests", "Slow", "", "Retry-After: 9"), PurgeThrottled, 9, "HTTP 429, Slow"),
        (aws_error(BAD_REQUEST, "InvalidArgument"), PurgeRefused, None, "HTTP 400, InvalidArgument"),
        (aws_error("413 Too Large", "BatchTooLarge"), PurgeRefused, None, "HTTP 413, BatchTooLarge"),
        (aws_error(FORBIDDEN, "AccessDenied"), PurgeRefused, None, "HTTP 403, AccessDenied"),
        (aws_error(FORBIDDEN, "SignatureDoesNotMatch", LEAK), PurgeRefused, None, "HTTP 403, SignatureDoesNotMatch"),
        (aws_error(FORBIDDEN, LEAK), PurgeRefused, None, "(HTTP 403)"),
        (aws_error("500 Internal Server Error", "InternalError"), PurgeFailed, None, "HTTP 500, InternalError"),
        (aws_error("503 Unavailable", "Unavailable", "", "Retry-After: 30"), PurgeFailed, 30, "HTTP 503, Unavailable"),
        (answer(b"<html>busy</html>", status="502 Bad Gateway"), PurgeFailed, None, "HTTP 502"),
        (answer(b"<Invalidation><", status="201 Created"), PurgeFailed, None, "ResponseParserError"),
        (b"", PurgeFailed, None, "ConnectionClosedError"),
        (b"HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n<", PurgeFailed, None, "Error)"),
    ],
    ids=[
        "too many in progress", "throttled", "429", "argument", "413", "denied", "signature", "no code", "500", "503",
        "HTML", "malformed XML", "no answer", "breaks off",
    ],
)  # fmt: skip
async def test_what_an_answer_means(
    api: ScriptedApi, reply: bytes, kind: type[PurgeError], wait: float | None, facts: str
) -> None:
    api.script = [reply]
    async with purger_of(api.url, by_tag=True, session_token=SESSION_TOKEN) as purger:
        with pytest.raises(PurgeError) as caught:
            await purger.purge(items(1))
    assert type(caught.value) is kind
    assert caught.value.retry_after == wait
    assert facts in str(caught.value)
    told = "".join(traceback.format_exception(caught.value))
    assert not [secret for secret in (SESSION_TOKEN, KEYS["secret_access_key"]) if secret in told]
    assert len(api.bodies) == 1  # the queue tries again, and nobody else


async def test_an_api_that_hangs_is_left(api: ScriptedApi) -> None:
    api.script = [None]
    async with purger_of(api.url, timeout=0.2) as purger:
        with pytest.raises(PurgeFailed) as caught:
            await purger.purge(items(1))
    assert not caught.value.permanent


async def test_an_api_that_is_not_there_is_a_passing_failure() -> None:
    async with purger_of(f"http://127.0.0.1:{free_port()}") as purger:
        with pytest.raises(PurgeFailed, match="EndpointConnectionError"):
            await purger.purge(items(1))


async def test_without_credentials_nothing_is_asked(api: ScriptedApi) -> None:
    async with CloudFrontInvalidation(DISTRIBUTION, endpoint_url=api.url) as purger:
        with pytest.raises(PurgeRefused, match="no credentials"):
            await purger.purge(items(1))
    assert api.bodies == []


async def test_what_was_too_much_is_purged_by_trying_again(api: ScriptedApi) -> None:
    """What AWS has taken before, it takes for the same: only the rest is new to it."""
    api.script = [CREATED, aws_error("400 Bad Request", "TooManyInvalidationsInProgress"), CREATED]
    async with purger_of(api.url) as purger:
        with pytest.raises(PurgeThrottled):
            await purger.purge(items(3))
        await purger.purge(items(3))
    plain, refused, again, wildcards = requests(api)
    assert plain == again
    assert refused == wildcards


def test_a_purger_does_not_show_its_keys() -> None:
    assert KEYS["secret_access_key"] not in repr(purger_of("http://127.0.0.1"))
