"""Keys, ids and cursors: what a host application's own strings become."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.record import Cursor, key_part, valid_message_id
from tests.messages import NOON, record

# UTF-8 has no surrogates, so neither a path nor a parsed body brings one.
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255)
message_ids = ids.filter(valid_message_id)
LONGEST_NAME = 180  # bytes; a file system's limit is 255, and stores append to names


@given(ids)
def test_a_key_part_is_one_safe_component_of_a_path(text: str) -> None:
    part = key_part(text)
    assert part.isascii()
    assert part.isprintable()
    assert not set(part) & set("/\\ \"'<>|*?#&")
    assert part not in {"", ".", ".."}
    assert len(part) <= LONGEST_NAME


@given(ids)
def test_a_short_key_part_tells_its_id(text: str) -> None:
    part = key_part(text)
    if "~" not in part:
        assert unquote(part) == text


@given(ids, ids)
def test_two_ids_never_share_a_key_part(one: str, other: str) -> None:
    assert (key_part(one) == key_part(other)) == (one == other)


def test_no_short_id_can_pass_for_a_long_one() -> None:
    assert key_part(key_part("a" * 255)) != key_part("a" * 255)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("wamid.HBgLMTU1NTAwMDIyMjI=", "wamid.HBgLMTU1NTAwMDIyMjI="),
        ("3fa85f64-5717-4562-b3fc-2c963f66afa6", "3fa85f64-5717-4562-b3fc-2c963f66afa6"),
        ("a/b", "a%2Fb"),
        ("../etc", "..%2Fetc"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("a%2Fb", "a%252Fb"),
        ("~", "%7E"),
        ("é", "%C3%A9"),
    ],
)
def test_a_key_part_keeps_what_is_harmless(text: str, part: str) -> None:
    assert key_part(text) == part


@pytest.mark.parametrize("long", ["a" * 255, "/" * 255, "é" * 255, "%" + "a" * 254], ids=["plain", "/", "é", "%"])
def test_a_long_key_part_ends_in_a_hash(long: str) -> None:
    beginning, _, digest = key_part(long).partition("~")
    assert len(beginning) >= 40
    assert len(digest) == 64
    assert key_part(long[:-1] + "b").partition("~")[2] != digest


def test_the_key_of_an_original_names_message_and_medium() -> None:
    assert record("a/b", provider_media_id="4711").key == "media/a%2Fb/4711"
    assert record("m1", provider_media_id=None).key == "media/m1/original"


def test_a_spool_is_named_for_message_and_medium() -> None:
    names = {
        record("a", provider_media_id="bc").spool,
        record("ab", provider_media_id="c").spool,
        record("a", provider_media_id=None).spool,
        record("a", provider_media_id="None").spool,
    }
    assert len(names) == 4
    assert all(len(bytes.fromhex(name)) == 32 for name in names)


def test_a_record_without_a_provider_has_nothing_to_ask_for() -> None:
    assert record(provider_media_id=None).ref is None


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("1", True),
        ("wamid.HBgL/+=", True),
        ("é 漢字", True),
        ("x" * 255, True),
        ("", False),
        ("x" * 256, False),
        ("a\x00b", False),
        ("a\nb", False),
        ("a\x7f", False),
        ("a\ud800", False),  # half a character: no database takes it
    ],
)
def test_a_message_id_is_any_string_of_1_to_255_characters(text: str, valid: bool) -> None:  # noqa: FBT001 a table's row
    assert valid_message_id(text) is valid


@given(st.datetimes(timezones=st.just(UTC)), message_ids)
def test_a_cursor_comes_back_as_it_was(created_at: datetime, message_id: str) -> None:
    cursor = Cursor(created_at, message_id)
    assert Cursor.decode(cursor.encode()) == cursor


@given(message_ids)
def test_a_cursor_needs_no_escaping_in_a_query(message_id: str) -> None:
    assert set(Cursor(NOON, message_id).encode()) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    )


def _cursor(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


AN_HOUR_EAST = NOON.astimezone(timezone(timedelta(hours=1)))
NOT_CURSORS = {
    "empty": "",
    "no base64": "?",
    "not ASCII": "é",
    "no JSON": "AAAA",
    "no UTF-8": base64.urlsafe_b64encode(b"\xff").decode(),
    "no pair": _cursor([]),
    "a mapping": _cursor({NOON.isoformat(): 1, "m1": 2}),
    "no moment": _cursor(["yesterday", "m1"]),
    "no time zone": _cursor([NOON.replace(tzinfo=None).isoformat(), "m1"]),
    "another time zone": _cursor([AN_HOUR_EAST.isoformat(), "m1"]),
    "a number for an id": _cursor([NOON.isoformat(), 1]),
    "a list for an id": _cursor([NOON.isoformat(), ["m1"]]),
    "an id with NUL": _cursor([NOON.isoformat(), "a\x00"]),
    "half a character": _cursor([NOON.isoformat(), "\ud800"]),
    "deeply nested": base64.urlsafe_b64encode(b"[" * 60_000).decode(),
    "padded": Cursor(NOON, "m12").encode() + "=",
    "with noise": "!" + Cursor(NOON, "m1").encode(),
}


@pytest.mark.parametrize("text", NOT_CURSORS.values(), ids=NOT_CURSORS.keys())
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        Cursor.decode(text)


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_garbage_is_never_taken_for_a_cursor(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        Cursor.decode(text)
