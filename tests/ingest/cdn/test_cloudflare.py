"""Purging Cloudflare, over real sockets: what is asked of it, and what its answers mean."""

import json
import logging
import traceback
from collections.abc import Callable

import pytest

from ingest.cdn.cloudflare import CloudflarePurge
from ingest.cdn.purge import PurgeError, PurgeFailed, PurgeItem, PurgeRefused, PurgeThrottled
from tests.ingest.cdn.conftest import NOON, ScriptedApi, answer, items
from tests.running import NO_TLS, free_port

TOKEN = "cf-secret-token"
ZONE = "023e105f4ecef8ad9ca31a8372d0c353"
TAKEN = answer(b'{"success": true, "errors": [], "messages": [], "result": {"id": "%s"}}' % ZONE.encode())
REFUSED = b'{"success": false, "errors": [{"code": 10000, "message": "Authentication error: cf-secret-token"}]}'


Zone = Callable[..., CloudflarePurge]


@pytest.fixture
def zone(api: ScriptedApi) -> Zone:
    def make(base_url: str = api.url, timeout: float = 10, host: str | None = None) -> CloudflarePurge:
        return CloudflarePurge(ZONE, TOKEN, host=host, base_url=base_url, timeout=timeout, ssl_context=NO_TLS)

    return make


async def test_tags_are_purged(api: ScriptedApi, zone: Zone) -> None:
    api.script = [TAKEN]
    async with zone() as purger:
        await purger.purge([*items(2), PurgeItem(message_id="wamid.HBgL==", deleted_at=NOON)])
    (head,) = api.heads
    assert head.startswith(f"POST /zones/{ZONE}/purge_cache HTTP/1.1\r\n")
    assert f"Authorization: Bearer {TOKEN}\r\n" in head
    assert "Content-Type: application/json\r\n" in head
    (order,) = api.orders
    assert list(order) == ["tags"]
    assert order["tags"][:2] == ["m-m0", "m-m1"]
    assert order["tags"][2].startswith("m-~")


async def test_prefixes_of_urls_are_purged_where_a_host_is_named(api: ScriptedApi, zone: Zone) -> None:
    api.script = [TAKEN]
    async with zone(host="cdn.example.com") as purger:
        await purger.purge([PurgeItem(message_id="wamid.HBgL==", deleted_at=NOON)])
    assert api.orders == [{"prefixes": ["cdn.example.com/media/messages/wamid.HBgL%3D%3D"]}]


@pytest.mark.parametrize("host", [None, "cdn.example.com"])
@pytest.mark.parametrize(
    ("count", "requests"), [(0, []), (1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])]
)
async def test_a_request_names_a_hundred_at_most(
    api: ScriptedApi, zone: Zone, host: str | None, count: int, requests: list[int]
) -> None:
    api.script = [TAKEN]
    async with zone(host=host) as purger:
        await purger.purge(items(count) * 2)
        assert purger.batch_size == 100
    assert [len(names) for order in api.orders for names in order.values()] == requests


@pytest.mark.parametrize(
    ("reply", "kind", "wait"),
    [
        pytest.param(answer(b"{}", "Retry-After: 12", status="429 Too Many Requests"), PurgeThrottled, 12, id="429"),
        pytest.param(answer(b"", status="429 Too Many Requests"), PurgeThrottled, 60, id="429 without Retry-After"),
        pytest.param(answer(REFUSED, status="403 Forbidden"), PurgeRefused, None, id="403"),
        pytest.param(answer(REFUSED, status="401 Unauthorized"), PurgeRefused, None, id="401"),
        pytest.param(answer(b"<html>", status="404 Not Found"), PurgeRefused, None, id="404 without JSON"),
        pytest.param(answer(b"", status="500 Internal Server Error"), PurgeFailed, None, id="500"),
        pytest.param(answer(b"", status="520 Unknown"), PurgeFailed, None, id="520"),
        pytest.param(answer(b"", "Location: /", status="302 Found"), PurgeFailed, None, id="a redirect"),
        pytest.param(answer(b'{"success": tr'), PurgeFailed, None, id="malformed JSON"),
        pytest.param(answer(b"[" * 60_000), PurgeFailed, None, id="deep JSON"),
        pytest.param(answer(b"[true]"), PurgeFailed, None, id="JSON of another shape"),
        pytest.param(answer(b'{"success": "true"}'), PurgeFailed, None, id="a text instead of true"),
        pytest.param(answer(b'{"success": false, "errors": [7, {"code": "x"}]}'), PurgeFailed, None, id="no success"),
        pytest.param(answer(b" " * 200_000 + b'{"success": true}'), PurgeFailed, None, id="too long"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", PurgeFailed, None, id="breaks off"),
        pytest.param(b"", PurgeFailed, None, id="no answer"),
        pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n", PurgeFailed, None, id="not HTTP"),
    ],
)
async def test_every_other_answer_is_an_error_that_holds_no_secret(
    api: ScriptedApi, zone: Zone, reply: bytes, kind: type[PurgeError], wait: float | None
) -> None:
    api.script = [reply]
    async with zone() as purger:
        with pytest.raises(PurgeError) as caught:
            await purger.purge(items(1))
    assert type(caught.value) is kind
    assert caught.value.retry_after == wait
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    assert len(api.heads) == 1


async def test_an_error_tells_cloudflares_codes(api: ScriptedApi, zone: Zone) -> None:
    errors = {"success": False, "errors": [{"code": code, "message": "m"} for code in (1134, 2, 3, 4)]}
    api.script = [answer(json.dumps(errors).encode(), status="400 Bad Request")]
    async with zone() as purger:
        with pytest.raises(PurgeRefused) as caught:
            await purger.purge(items(1))
    assert str(caught.value) == "The CDN refuses the purge (HTTP 400, code 1134, code 2, code 3)."


async def test_an_api_that_hangs_is_left(api: ScriptedApi, zone: Zone) -> None:
    api.script = [None]
    async with zone(timeout=0.1) as purger:
        with pytest.raises(PurgeFailed) as caught:
            await purger.purge(items(1))
    assert not caught.value.permanent


async def test_an_api_that_is_not_there_is_a_passing_failure(zone: Zone) -> None:
    async with zone(f"http://127.0.0.1:{free_port()}") as purger:
        with pytest.raises(PurgeFailed) as caught:
            await purger.purge(items(1))
    assert str(caught.value) == "The CDN could not be asked to purge (ConnectError)."


async def test_what_failed_can_be_purged_again(api: ScriptedApi, zone: Zone) -> None:
    api.script = [TAKEN, answer(b"", status="429 Too Many Requests"), TAKEN]
    async with zone() as purger:
        with pytest.raises(PurgeThrottled):
            await purger.purge(items(150))
        await purger.purge(items(150))
    assert [len(order["tags"]) for order in api.orders] == [100, 50, 100, 50]


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "naïve", "nul\0"])
def test_a_token_that_no_header_can_carry_is_refused_without_being_quoted(token: str) -> None:
    with pytest.raises(ValueError, match="API token") as caught:
        CloudflarePurge(ZONE, token, ssl_context=NO_TLS)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("zone_id", ["", "example.com", "../accounts", "023e/x", "a" * 65])
def test_a_zone_is_named_by_its_id(zone_id: str) -> None:
    with pytest.raises(ValueError, match="zone"):
        CloudflarePurge(zone_id, TOKEN, ssl_context=NO_TLS)


async def test_nothing_that_is_logged_holds_the_token(
    api: ScriptedApi, zone: Zone, caplog: pytest.LogCaptureFixture
) -> None:
    api.script = [TAKEN]
    with caplog.at_level(logging.DEBUG):
        async with zone() as purger:
            await purger.purge(items(1))
        assert TOKEN not in repr(purger)
    assert TOKEN not in caplog.text
