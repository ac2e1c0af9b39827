"""The names under which CDNs know media, and what their answers mean."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.signing import Signer
from ingest.cdn.purge import (
    PurgeFailed,
    PurgeItem,
    PurgeRefused,
    PurgeThrottled,
    media_path,
    refusal,
    tags_for,
)
from storage.record import MediaRecord, Status, valid_message_id
from tests.ingest.cdn.conftest import NOON

# printf %s 'wamid.HBgL==' | sha256sum
WAMID_TAG = "m-~e8f0372032642380f28252db42da61ef8aa7ed1d843514955fe4204efec836c5"
names = st.text(max_size=255).filter(valid_message_id)


def record(message_id: str = "m1", workspace_id: str = "w1", conversation_id: str | None = None) -> MediaRecord:
    values = dict.fromkeys(MediaRecord.__slots__)
    values |= {"message_id": message_id, "workspace_id": workspace_id, "conversation_id": conversation_id}
    return MediaRecord(**values | {"status": Status.COMPLETED, "attempts": 0, "created_at": NOON, "updated_at": NOON})  # type: ignore[arg-type] # most is None


@given(names)
def test_the_path_is_that_of_every_minted_url(message_id: str) -> None:
    assert Signer({}, public_url="https://media.example.com").unsigned(message_id) == (
        f"https://media.example.com{media_path(message_id)}"
    )


@pytest.mark.parametrize(
    ("message_id", "path"),
    [
        ("1", "/media/messages/1"),
        ("wamid.HBgL==", "/media/messages/wamid.HBgL%3D%3D"),
        ("a/b?c#d", "/media/messages/a%2Fb%3Fc%23d"),
        ("*", "/media/messages/%2A"),
        ("..", "/media/messages/%2E%2E"),
        ("ü", "/media/messages/%C3%BC"),
    ],
)
def test_an_id_is_one_segment_of_the_path(message_id: str, path: str) -> None:
    assert PurgeItem(message_id=message_id, deleted_at=NOON).path == path


def test_tags_name_message_and_workspace_and_the_conversation_where_it_is_known() -> None:
    assert tags_for(record("1234", "default")) == "m-1234,w-default"
    assert tags_for(record("1234", "default", "chat-7")) == "m-1234,w-default,c-chat-7"


@pytest.mark.parametrize("message_id", ["1234", "0190b5a2-5f4e-7c1d-9c1b-2f6f1f6c2a11", "a.b_c:d-e", "x" * 64])
def test_a_short_lower_case_name_is_its_own_tag(message_id: str) -> None:
    assert PurgeItem(message_id=message_id, deleted_at=NOON).tag == f"m-{message_id}"


@pytest.mark.parametrize("message_id", ["wamid.HBgL==", "A", "a b", "a,b", "a\u00a0b", "ü", "x" * 65, "~", "#1", "*"])
def test_any_other_name_is_hashed(message_id: str) -> None:
    assert PurgeItem(message_id="wamid.HBgL==", deleted_at=NOON).tag == WAMID_TAG
    assert re.fullmatch(r"m-~[0-9a-f]{64}", PurgeItem(message_id=message_id, deleted_at=NOON).tag)


@given(st.tuples(names, names, st.none() | names))
def test_tags_keep_within_the_limits_of_both_cdns(about: tuple[str, str, str | None]) -> None:
    """CloudFront: 33 to 126 without a comma, 256 characters, 50 tags. Cloudflare: printable ASCII, no spaces, 1,024."""
    tags = tags_for(record(*about)).split(",")
    assert len(tags) == 2 + (about[2] is not None)
    assert all(re.fullmatch(r"[!-+\--~]{3,67}", tag) for tag in tags)


@given(names, names)
def test_two_messages_share_no_tag_even_where_case_is_ignored(one: str, other: str) -> None:
    tags = [PurgeItem(message_id=name, deleted_at=NOON).tag.lower() for name in (one, other)]
    assert (tags[0] == tags[1]) is (one == other)


@given(names)
def test_a_purge_names_the_tag_that_the_answers_had_and_not_the_workspace(message_id: str) -> None:
    tag = PurgeItem(message_id=message_id, deleted_at=NOON).tag
    assert tags_for(record(message_id)).split(",") == [tag, "w-w1"]


@pytest.mark.parametrize(
    ("status", "retry_after", "kind", "permanent", "wait"),
    [
        (400, None, PurgeRefused, True, None),
        (401, None, PurgeRefused, True, None),
        (403, "5", PurgeRefused, True, None),
        (404, None, PurgeRefused, True, None),
        (413, None, PurgeRefused, True, None),
        (408, None, PurgeFailed, False, None),
        (429, None, PurgeThrottled, False, 60),
        (429, "7", PurgeThrottled, False, 7),
        (429, "999999", PurgeThrottled, False, 3600),
        (429, "Fri, 20 Nov 2026 12:00:00 GMT", PurgeThrottled, False, 60),
        (429, "-1", PurgeThrottled, False, 60),
        (500, None, PurgeFailed, False, None),
        (503, "30", PurgeFailed, False, 30),
        (520, None, PurgeFailed, False, None),
        (302, None, PurgeFailed, False, None),
        (200, None, PurgeFailed, False, None),
    ],
)
def test_what_a_status_means(
    status: int,
    retry_after: str | None,
    kind: type,
    permanent: bool,  # noqa: FBT001 a table
    wait: int | None,
) -> None:
    error = refusal(status, f"HTTP {status}", retry_after)
    assert type(error) is kind
    assert error.permanent is permanent
    assert error.retry_after == wait
    assert str(error).endswith(f"(HTTP {status}).")


def test_a_deletion_is_told_from_an_earlier_one_of_the_same_message() -> None:
    first = PurgeItem(message_id="m1", deleted_at=NOON)
    assert first != replace(first, deleted_at=NOON + timedelta(days=1))
