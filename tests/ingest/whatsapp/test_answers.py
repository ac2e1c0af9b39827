"""What the provider's answers mean, row by row of what is known of them."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.whatsapp.answers import (
    BUSY_RETRY_AFTER,
    MAX_ANSWER_BYTES,
    MAX_RETRY_AFTER,
    classify,
    normalise_sha256,
    parse_resolved,
)
from storage.errors import OriginBusy, OriginError, OriginFailed, OriginGone, OriginRefused

HEX = "7b23ba8a9008b1e2fc492f70df3019d992c70c2e8cbfaa97ad00e6b4c860fb79"  # of b"hello media\n"
BASE64 = "eyO6ipAIseL8SS9w3zAZ2ZLHDC6Mv6qXrQDmtMhg+3k="
URL = "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1&ext=2&hash=ARm"
NOW = 1_790_416_800.0  # 2026-09-26T10:00:00Z


def error_body(code: int | None, subcode: int | None = None, kind: str = "OAuthException", **more: Any) -> bytes:
    error = {"message": "(#1) …", "type": kind, "code": code, "error_subcode": subcode, **more}
    return json.dumps({"error": {key: value for key, value in error.items() if value is not None}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(401, error_body(0), OriginRefused, id="0 authentication"),
        pytest.param(401, error_body(190, 460), OriginRefused, id="190 token expired"),
        pytest.param(400, error_body(190), OriginRefused, id="190 whatever the status"),
        pytest.param(500, error_body(3), OriginRefused, id="3 capability, as HTTP 500"),
        pytest.param(403, error_body(10), OriginRefused, id="10 permission"),
        pytest.param(403, error_body(200), OriginRefused, id="200 the first permission"),
        pytest.param(403, error_body(299), OriginRefused, id="299 the last permission"),
        pytest.param(403, error_body(131005), OriginRefused, id="131005 access denied"),
        pytest.param(400, error_body(100, 33, "GraphMethodException"), OriginGone, id="100/33 unknown ID"),
        pytest.param(400, error_body(100, 33), OriginGone, id="100/33 by its subcode alone"),
        pytest.param(400, error_body(100, None, "GraphMethodException"), OriginGone, id="100 by its type alone"),
        pytest.param(400, error_body(100), OriginFailed, id="100 of another parameter"),
        pytest.param(404, error_body(803), OriginGone, id="803 unknown alias"),
        pytest.param(400, error_body(33), OriginGone, id="33 number deleted"),
        pytest.param(400, error_body(131052), OriginGone, id="131052 never fetched from the user"),
        pytest.param(400, error_body(4), OriginBusy, id="4 app limit, as HTTP 400"),
        pytest.param(400, error_body(80007), OriginBusy, id="80007 account limit, as HTTP 400"),
        pytest.param(400, error_body(130429, 2494055), OriginBusy, id="130429 throughput, as HTTP 400"),
        pytest.param(400, error_body(1), OriginFailed, id="1 unknown"),
        pytest.param(503, error_body(2), OriginFailed, id="2 outage"),
        pytest.param(500, error_body(131000), OriginFailed, id="131000 unknown"),
        pytest.param(500, error_body(131016), OriginFailed, id="131016 unavailable"),
        pytest.param(500, error_body(131057), OriginFailed, id="131057 maintenance"),
        pytest.param(400, error_body(131053), OriginFailed, id="131053 is about uploads"),
        pytest.param(400, error_body(987654), OriginFailed, id="a code nobody knows"),
        pytest.param(403, error_body(368), OriginRefused, id="an unknown code leaves it to the status"),
        pytest.param(400, error_body(None), OriginFailed, id="no code"),
        pytest.param(400, b'{"error":{"code":true}}', OriginFailed, id="true is no code 1"),
        pytest.param(400, b'{"error":"no"}', OriginFailed, id="error is no object"),
        pytest.param(400, b"[]", OriginFailed, id="JSON, but no object"),
        pytest.param(400, b"[" * 50_000, OriginFailed, id="JSON nested without end"),
        pytest.param(401, b"", OriginRefused, id="HTTP 401"),
        pytest.param(403, b"<html>", OriginRefused, id="HTTP 403"),
        pytest.param(429, b"", OriginBusy, id="HTTP 429"),
        pytest.param(500, b"<html>", OriginFailed, id="HTTP 500 in HTML"),
        pytest.param(502, b"", OriginFailed, id="HTTP 502"),
        pytest.param(404, b"", OriginFailed, id="HTTP 404"),
        pytest.param(204, b"", OriginFailed, id="a success without a medium"),
    ],
)
def test_an_error_is_told_by_its_code_and_then_by_its_status(
    status: int, body: bytes, expected: type[OriginError]
) -> None:
    assert type(classify(status, {}, body, now=NOW)) is expected


def usage(*minutes: object) -> str:
    return json.dumps({"100": [{"type": "whatsapp", "estimated_time_to_regain_access": m} for m in minutes]})


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"retry-after": "7"}, 7.0, id="RFC 9110 10.2.3 seconds"),
        pytest.param({"retry-after": "Sat, 26 Sep 2026 10:02:00 GMT"}, 120.0, id="RFC 9110 10.2.3 date"),
        pytest.param({"retry-after": "Sat, 26 Sep 2026 09:00:00 GMT"}, 1.0, id="a date that has passed"),
        pytest.param({"retry-after": "99999999"}, MAX_RETRY_AFTER, id="bounded"),
        pytest.param({"retry-after": "soon"}, BUSY_RETRY_AFTER, id="neither"),
        pytest.param({"x-business-use-case-usage": usage(19)}, 19 * 60.0, id="usage header, in minutes"),
        pytest.param({"x-business-use-case-usage": usage(3, 5, 0)}, 5 * 60.0, id="the longest of several"),
        pytest.param({"retry-after": "7", "x-business-use-case-usage": usage(19)}, 7.0, id="Retry-After comes first"),
        pytest.param({"x-business-use-case-usage": usage(0)}, BUSY_RETRY_AFTER, id="usage header of no limit"),
        pytest.param({"x-business-use-case-usage": usage("x", None)}, BUSY_RETRY_AFTER, id="usage header of nonsense"),
        pytest.param({"x-business-use-case-usage": "]"}, BUSY_RETRY_AFTER, id="usage header without JSON"),
        pytest.param({}, BUSY_RETRY_AFTER, id="nothing"),
    ],
)
def test_a_limit_says_when_to_come_back(headers: dict[str, str], expected: float) -> None:
    assert classify(400, headers, error_body(4), now=NOW).retry_after == expected


def test_a_failure_keeps_a_retry_after_and_invents_none() -> None:
    assert classify(503, {"retry-after": "30"}, b"", now=NOW).retry_after == 30.0
    assert classify(503, {}, b"", now=NOW).retry_after is None


def test_an_error_names_the_facts_that_support_asks_for_and_no_text_of_the_provider() -> None:
    body = error_body(190, 460, message="token EAAG… of app 5", fbtrace_id="AzX_9-q")
    assert str(classify(401, {}, body, now=NOW)) == (
        "The provider refused our credentials (HTTP 401, code 190/460, trace AzX_9-q)."
    )
    assert "<b>" not in str(classify(401, {}, error_body(190, fbtrace_id="<b>"), now=NOW))


@pytest.mark.parametrize(
    "declared",
    [
        pytest.param(HEX, id="hex, of GET /{media-id}"),
        pytest.param(HEX.upper(), id="upper-case hex"),
        pytest.param(BASE64, id="base64, of a webhook"),
        pytest.param(BASE64.rstrip("="), id="unpadded"),
        pytest.param(BASE64.replace("+", "-"), id="URL-safe alphabet"),
    ],
)
def test_a_hash_is_read_in_each_known_form(declared: str) -> None:
    assert normalise_sha256(declared) == HEX


def test_an_absent_hash_stays_absent() -> None:
    assert normalise_sha256(None) is None


@pytest.mark.parametrize("declared", ["", "abc", HEX[1:], HEX + "0", "g" * 64, BASE64[1:], BASE64 + "=", 5, b"x", []])
def test_a_hash_that_is_none_is_an_error(declared: object) -> None:
    with pytest.raises(ValueError, match="sha256"):
        normalise_sha256(declared)


@given(st.binary(min_size=32, max_size=32))
def test_hex_and_base64_of_a_digest_are_the_same_hash(digest: bytes) -> None:
    encoded = base64.b64encode(digest).decode()
    assert normalise_sha256(encoded) == normalise_sha256(digest.hex()) == digest.hex()


def resolved(**changes: object) -> bytes:
    answer = {"messaging_product": "whatsapp", "url": URL, "mime_type": "image/jpeg", "sha256": HEX, "file_size": "12"}
    return json.dumps({key: value for key, value in {**answer, **changes}.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    ("changes", "sha256", "size", "mime_type"),
    [
        pytest.param({}, HEX, 12, "image/jpeg", id="as documented"),
        pytest.param({"file_size": 12}, HEX, 12, "image/jpeg", id="size as a number"),
        pytest.param({"file_size": 0}, HEX, 0, "image/jpeg", id="nothing is a size too"),
        pytest.param({"file_size": ...}, HEX, None, "image/jpeg", id="size absent"),
        pytest.param({"file_size": None}, HEX, None, "image/jpeg", id="size null"),
        pytest.param({"sha256": BASE64}, HEX, 12, "image/jpeg", id="hash in base64"),
        pytest.param({"sha256": ...}, None, 12, "image/jpeg", id="hash absent"),
        pytest.param({"mime_type": ...}, HEX, 12, None, id="type absent"),
        pytest.param({"mime_type": 5}, HEX, 12, None, id="type of another type"),
        pytest.param({"download_url": "x", "id": 5}, HEX, 12, "image/jpeg", id="unknown keys"),
    ],
)
def test_a_resolve_answer_is_read_in_each_known_form(
    changes: dict[str, object], sha256: str | None, size: int | None, mime_type: str | None
) -> None:
    answer = parse_resolved(resolved(**changes))
    assert (answer.url, answer.sha256, answer.size, answer.mime_type) == (URL, sha256, size, mime_type)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(resolved(url=...), id="no url"),
        pytest.param(resolved(url=None), id="url null"),
        pytest.param(resolved(url=""), id="url empty"),
        pytest.param(resolved(url=["x"]), id="url of another type"),
        pytest.param(resolved(sha256="abc"), id="garbage for a hash"),
        pytest.param(resolved(file_size="12 KB"), id="garbage for a size"),
        pytest.param(resolved(file_size=-1), id="a negative size"),
        pytest.param(resolved(file_size=1.5), id="half a byte"),
        pytest.param(resolved(file_size=True), id="true for a size"),
        pytest.param(resolved(file_size="9" * 5000), id="a size of 5,000 digits"),
        pytest.param(b'{"file_size": ' + b"9" * 5000 + b"}", id="a number of 5,000 digits"),
        pytest.param(resolved(padding="x" * MAX_ANSWER_BYTES), id="too long"),
        pytest.param(b"[" * 50_000, id="nested without end"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"<html>", id="no JSON"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_resolve_answer_that_makes_no_sense_is_a_failure(body: bytes) -> None:
    with pytest.raises(OriginFailed) as caught:
        parse_resolved(body)
    assert "hash=" not in str(caught.value)


def test_the_url_is_kept_out_of_the_repr() -> None:
    assert "ARm" not in repr(parse_resolved(resolved()))


@given(st.binary(max_size=200) | st.from_type(dict).map(lambda value: json.dumps(value, default=str).encode()))
def test_no_body_at_all_raises_anything_else(body: bytes) -> None:
    assert isinstance(classify(400, {}, body, now=NOW), OriginError)
    with pytest.raises(OriginFailed):
        parse_resolved(body)
