"""The table of errors: every class of every tree has its row, and every row is a good answer."""

import json
import re
from collections.abc import Iterator

import pytest
from starlette.responses import Response

from gateway.errors import TABLE, BadRequest, GatewayError, MethodNotAllowed, NotReady, problem, row_of
from storage.errors import (
    MediaError,
    ObjectFrozen,
    OriginBusy,
    OriginError,
    OriginFailed,
    OriginGone,
    OriginLied,
    OriginRefused,
    OriginTimeout,
    OriginTooLarge,
    StoreFull,
    StoreUnavailable,
)

SECRET = "https://lookaside.example/?hash=secret"


def tree(root: type[Exception]) -> Iterator[type[Exception]]:
    """Walk all classes below one, wherever they are declared."""
    for kind in root.__subclasses__():
        yield kind
        yield from tree(kind)


CLASSES = sorted({*tree(GatewayError), *tree(MediaError), MediaError}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_has_a_row(kind: type[Exception]) -> None:
    assert any(ancestor in TABLE for ancestor in kind.__mro__)
    row = row_of(kind())
    assert 400 <= row.status < 600
    assert row.title[0].isupper()


def test_no_row_is_for_nobody() -> None:
    assert set(TABLE) <= set(CLASSES)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_makes_a_whole_document(kind: type[Exception]) -> None:
    response = problem(kind(), "request-1")
    document = document_of(response)
    assert set(document) == {"type", "title", "status", "detail", "request_id"}
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", str(document["type"]))
    assert document["status"] == response.status_code == row_of(kind()).status
    assert document["request_id"] == "request-1"
    assert str(document["detail"]).endswith(".")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (OriginGone(), 410, "media-expired"),
        (OriginBusy(), 503, "provider-busy"),
        (OriginRefused(), 502, "provider-error"),
        (OriginFailed(), 502, "provider-error"),
        (OriginLied(), 502, "provider-error"),
        (OriginTooLarge(), 502, "provider-error"),
        (OriginTimeout(), 504, "provider-timeout"),
        (ObjectFrozen(), 503, "media-frozen"),
        (StoreUnavailable(), 503, "storage-unavailable"),
        (StoreFull(), 503, "storage-full"),
    ],
)
def test_the_table_of_the_contract(error: MediaError, status: int, kind: str) -> None:
    response = problem(error, "")
    assert (response.status_code, document_of(response)["type"]) == (status, kind)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(OriginBusy(retry_after=90), "90", id="10.2.3 what the provider said"),
        pytest.param(OriginBusy(retry_after=0.2), "1", id="10.2.3 whole seconds"),
        pytest.param(OriginBusy(retry_after=1.01), "2", id="10.2.3 never too early"),
        pytest.param(OriginBusy(retry_after=-5), "1", id="10.2.3 never in the past"),
        pytest.param(OriginBusy(), "30", id="15.6.4 the row's own"),
        pytest.param(ObjectFrozen(), "3600", id="15.6.4 a restore takes hours"),
        pytest.param(OriginGone(), None, id="15.5.11 gone for good"),
        pytest.param(BadRequest(), None, id="15.5.1 the same again is as bad"),
    ],
)
def test_when_to_come_back(error: Exception, expected: str | None) -> None:
    assert problem(error, "").headers.get("retry-after") == expected


def test_every_503_says_when_to_come_back() -> None:
    unavailable = [kind for kind in CLASSES if row_of(kind()).status == 503]
    assert len(unavailable) > 5
    assert all("retry-after" in problem(kind(), "").headers for kind in unavailable)


def test_what_the_provider_said_is_not_passed_on() -> None:
    for kind in (kind for kind in CLASSES if issubclass(kind, OriginError)):
        assert SECRET not in bytes(problem(kind(SECRET), "").body).decode()


def test_an_error_that_nobody_expected_says_nothing_of_itself() -> None:
    response = problem(RuntimeError(SECRET), "")
    assert (response.status_code, document_of(response)["type"]) == (500, "internal-error")
    assert SECRET not in bytes(response.body).decode()


def test_an_error_brings_its_own_headers_and_members() -> None:
    assert problem(MethodNotAllowed(headers={"Allow": "GET"}), "").headers["allow"] == "GET"
    assert document_of(problem(NotReady(members={"checks": {"a": "b"}}), ""))["checks"] == {"a": "b"}


def document_of(response: Response) -> dict[str, object]:
    """Read the body of a response."""
    document: dict[str, object] = json.loads(bytes(response.body))
    return document
