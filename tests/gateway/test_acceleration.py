"""Which requests nginx may take over, and what it is told."""

from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.acceleration import FILES, LIFE, Acceleration, deliverable, local_file
from gateway.delivery import STANDARD
from gateway.forwarded import Networks
from gateway.responses import Asked, decide
from storage.errors import StoreForbidden, StoreUnavailable
from storage.local import LocalStore
from storage.record import key_part
from tests.gateway.test_delivery import MEDIUM, Presigning, get

NGINX = "10.0.0.7"
OFFER = {"x_sendfile_type": "X-Accel-Redirect"}


async def handed_over(
    asked: Asked,
    store: Presigning | None = None,
    *,
    peer: str = NGINX,
    key: str | None = "media/m/1",
    tier: str = STANDARD,
    is_playlist: bool = False,
) -> dict[str, str] | None:
    """Return the fields that nginx gets, if it is to send the medium."""
    acceleration = Acceleration(store, Networks.parse("10.0.0.0/24"))
    found = await acceleration.hand_over(
        asked, decide(asked, MEDIUM), "m", key, tier=tier, is_playlist=is_playlist, peer=peer
    )
    return {name.decode(): value.decode() for name, value in found.headers} if found is not None else None


async def test_nginx_is_told_where_the_bytes_are_and_all_fields_that_it_does_not_know() -> None:
    store = Presigning()

    fields = await handed_over(get(**OFFER), store)

    assert fields == {
        "x-accel-redirect": "/.media/store",
        "x-media-object": "/bucket/media/m/1?X-Amz-Signature=0a",
        "x-media-object-host": "store.example",
        "content-length": "0",
        "content-type": "image/jpeg",
        "x-media-content-disposition": "inline",
        "x-media-cache-control": "max-age=86400, private, immutable, no-transform",
        "etag": f'"{MEDIUM.sha256}"',
        "last-modified": "Sat, 21 Nov 2026 00:00:00 GMT",
        "repr-digest": fields["repr-digest"] if fields else "",
        "content-security-policy": fields["content-security-policy"] if fields else "",
        "cross-origin-resource-policy": "cross-origin",
        "x-content-type-options": "nosniff",
        "x-media-source": "storage",
        "x-media-variant": "original",
    }


async def test_all_readers_of_an_object_share_a_url_that_shows_nothing_to_a_browser() -> None:
    store = Presigning()

    await handed_over(get(**OFFER), store)

    assert store.asked == [
        {
            "key": "media/m/1",
            "life": LIFE,
            "content_type": "application/octet-stream",
            "content_disposition": "attachment",
            "cache_control": "no-store",
        }
    ]


@pytest.mark.parametrize(
    ("peer", "offer", "expected"),
    [
        pytest.param(NGINX, OFFER, True, id="nginx"),
        pytest.param(f"::ffff:{NGINX}", OFFER, True, id="the same, mapped into IPv6"),
        pytest.param("10.0.1.7", OFFER, False, id="somebody who says so"),
        pytest.param("", OFFER, False, id="a socket of the file system"),
        pytest.param(NGINX, {}, False, id="another proxy that is trusted"),
        pytest.param(NGINX, {"x_sendfile_type": "X-Sendfile"}, False, id="Apache"),
        pytest.param(NGINX, {"x_sendfile_type": "X-Accel-Redirect, X-Accel-Redirect"}, False, id="twice"),
    ],
)
async def test_only_a_trusted_nginx_that_offers_it_learns_of_the_store(
    peer: str, offer: dict[str, str], *, expected: bool
) -> None:
    store = Presigning()

    fields = await handed_over(get(**offer), store, peer=peer)

    assert (fields is not None) is expected
    assert bool(store.asked) is expected


@pytest.mark.parametrize("answer", [None, StoreForbidden(), StoreUnavailable()], ids=["none", "no credentials", "down"])
async def test_what_cannot_be_presigned_is_sent_by_us(answer: StoreForbidden | StoreUnavailable | None) -> None:
    assert await handed_over(get(**OFFER), Presigning(answer=answer)) is None


async def test_what_only_we_can_give_is_sent_by_us() -> None:
    assert await handed_over(get(**OFFER), key=None) is None, "not stored, or elsewhere"
    assert await handed_over(get(**OFFER), is_playlist=True) is None, "its URIs are written for the request"
    assert await handed_over(get(**OFFER), tier="GLACIER") is None, "has to be restored first"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, True, id="no Range"),
        pytest.param({"range": "bytes=0-"}, True, id="14.1.2 open-ended"),
        pytest.param({"range": "bytes=0-1"}, True, id="14.1.2 first and last position"),
        pytest.param({"range": "BYTES=-10"}, True, id="14.1.2 a suffix, 14.1 in any case"),
        pytest.param({"range": "bytes=0-999999999999999999"}, True, id="14.1.2 past the end"),
        pytest.param({"range": "bytes=0-9999999999999999999"}, False, id="14.1.2 past 64 bits: 416 of nginx"),
        pytest.param({"range": "bytes= 0-1"}, False, id="5.6.1.2 white space"),
        pytest.param({"range": "bytes=0-1,5-9"}, False, id="15.3.7.2 several: multipart of ours"),
        pytest.param({"range": "bytes=0-5,3-9"}, False, id="15.3.7.2 several that we merge"),
        pytest.param({"range": "bytes=0-5,"}, False, id="5.6.1.2 an empty element"),
        pytest.param({"range": "bytes=5-1"}, False, id="14.1.1 malformed: ignored by us, 416 of nginx"),
        pytest.param({"range": "lines=1-2"}, False, id="14.2 another unit"),
        pytest.param({"range": "bytes=0-1", "if_range": f'"{MEDIUM.sha256}"'}, True, id="13.1.5 true: nginx agrees"),
        pytest.param({"range": "bytes=0-1", "if_range": '"other"'}, False, id="13.1.5 false: a store does not know"),
        pytest.param({"if_none_match": '"other"'}, True, id="13.1.2 lets pass"),
        pytest.param({"if_none_match": f'"{MEDIUM.sha256}"'}, False, id="13.1.2 304"),
        pytest.param({"if_modified_since": "Wed, 21 Oct 2015 07:28:00 GMT"}, True, id="13.1.3 lets pass"),
        pytest.param({"if_match": f'"{MEDIUM.sha256}"'}, False, id="13.1.1 nginx would say 412"),
        pytest.param({"if_unmodified_since": "Sat, 21 Nov 2026 00:00:00 GMT"}, False, id="13.1.4 the same"),
        pytest.param({"authorization": "Bearer t", "x_api_key": "k"}, True, id="credentials, which end at nginx"),
    ],
)
def test_whose_request_nginx_answers_as_we_do(fields: dict[str, str], *, expected: bool) -> None:
    assert deliverable(get(**fields), decide(get(**fields), MEDIUM), STANDARD) is expected


def test_a_head_needs_no_bytes() -> None:
    head = Asked(method="HEAD", headers={})
    assert not deliverable(head, decide(head, MEDIUM), STANDARD)


@given(st.text(min_size=1, max_size=255))
def test_no_message_id_leads_out_of_the_folder(message_id: str) -> None:
    """What nginx opens after decoding the path once is the file that the store has written."""
    try:
        key = f"media/{key_part(message_id)}/1"
    except UnicodeEncodeError:  # a lone surrogate is no id
        return
    where = local_file(key)

    assert where is not None
    path = where["X-Accel-Redirect"]
    assert path.isascii()
    assert path.isprintable()
    assert not {"?", "#", "\\"} & set(path)
    assert unquote(path.removeprefix(FILES)) == key
    assert LocalStore(Path("/media")).url(unquote(path.removeprefix(FILES))).startswith("file:///media/media/")


@pytest.mark.parametrize(
    "key", ["../gateway.db", "media/../../etc/passwd", "/etc/passwd", "media//1", ".tmp/1", "media/./1", "media/\0", ""]
)
def test_a_key_that_leads_elsewhere_has_no_location(key: str) -> None:
    assert local_file(key) is None
