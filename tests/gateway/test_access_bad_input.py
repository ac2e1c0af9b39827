"""What somebody may send to get around a credential: fields, targets and bodies that two readers read differently."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from gateway.app import create_app
from gateway.protocol import LeanProtocol
from gateway.signing import Signer
from tests.databases import Databases
from tests.gateway.access import ACCESS, bearer, token
from tests.gateway.problems import problem_type
from tests.gateway.raw import RawAnswer, send
from tests.gateway.scene import OpenScene, Scene
from tests.running import API_KEY, SIGNING_KEY, serving, settings_for

KEY = API_KEY.encode()
FAR = 9_999_999_999
UNKNOWN = b"/media/messages/unknown"  # 404 for who is let in


@pytest.fixture
async def url(tmp_path: Path, sqlite_databases: Databases) -> AsyncIterator[str]:
    """A gateway as it is served, with the parser of its own server."""
    sqlite_databases.new(tmp_path)
    async with serving(create_app(settings_for(tmp_path, **ACCESS)), http=LeanProtocol) as served:
        yield served


async def ask(
    url: str, fields: bytes, *, target: bytes = UNKNOWN, method: bytes = b"GET", body: bytes = b""
) -> RawAnswer:
    """Send a request with these lines among its fields."""
    lines = b"".join(each + b"\r\n" for each in (b"Host: x", b"Connection: close", fields))
    return await send(url, method + b" " + target + b" HTTP/1.1\r\n" + lines + b"\r\n" + body)


FIELDS: dict[str, tuple[bytes, int]] = {
    "9110-5.5 whitespace around a value": (b"X-API-Key: \t " + KEY + b" \t", 404),
    "9110-5.1 a name in any case": (b"x-Api-kEY: " + KEY, 404),
    "9110-7.6.1 named as one of the connection's": (b"Connection: X-API-Key\r\nX-API-Key: " + KEY, 404),
    "9112-5.1 whitespace before the colon": (b"X-API-Key : " + KEY, 400),
    "9112-5.1 a tab before the colon": (b"X-API-Key\t: " + KEY, 400),
    "9112-5.2 a folded line": (b"X-API-Key:\r\n " + KEY, 400),
    "9112-5.2 a line folded inside": (b"X-API-Key: test\r\n -api-key", 400),
    "9112-2.2 a bare LF": (b"A: b\nX-API-Key: " + KEY, 400),
    "9112-2.2 a bare CR": (b"A: b\rX-API-Key: " + KEY, 400),
    "9110-5.5 NUL behind": (b"X-API-Key: " + KEY + b"\0", 400),
    "9110-5.5 NUL inside": (b"X-API-Key: test\0-api-key", 400),
    "9110-5.5 another control character": (b"X-API-Key: " + KEY + b"\x0b", 400),
    "9110-5.5 DEL": (b"X-API-Key: " + KEY + b"\x7f", 400),
    "9110-5.1 no name": (b": x\r\nX-API-Key: " + KEY, 400),
    "9112-5 no colon": (b"X-API-Key\r\nX-API-Key: " + KEY, 400),
    "a no-break space behind": (b"X-API-Key: " + KEY + b"\xa0", 403),
    "twice": (b"X-API-Key: " + KEY + b"\r\nX-API-Key: " + KEY, 403),
    "right, then wrong": (b"X-API-Key: " + KEY + b"\r\nX-API-Key: wrong", 403),
    "wrong, then right": (b"X-API-Key: wrong\r\nX-API-Key: " + KEY, 403),
    "a list": (b"X-API-Key: " + KEY + b", wrong", 403),
    "in quotes": (b'X-API-Key: "' + KEY + b'"', 403),
    "underscores, as CGI has them": (b"X_API_Key: " + KEY, 401),
    "9112-6.1 both lengths": (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\nX-API-Key: " + KEY, 400),
    "9112-6.3 two lengths": (b"Content-Length: 0\r\nContent-Length: 5\r\nX-API-Key: " + KEY, 400),
    "9112-6.3 a length with a sign": (b"Content-Length: +0\r\nX-API-Key: " + KEY, 400),
    "9112-6.1 an unknown encoding": (b"Transfer-Encoding: xchunked\r\nX-API-Key: " + KEY, 400),
    "9112-6.1 chunked twice": (b"Transfer-Encoding: chunked, chunked\r\nX-API-Key: " + KEY, 400),
    "9112-6.1 chunked, then identity": (b"Transfer-Encoding: chunked, identity\r\nX-API-Key: " + KEY, 400),
}


async def test_a_field_is_read_in_one_way_or_refused(url: str) -> None:
    for target in (UNKNOWN, UNKNOWN + b"/info"):
        answers = {title: await ask(url, fields, target=target) for title, (fields, _) in FIELDS.items()}
        assert {title: answer.status for title, answer in answers.items()} == {
            title: status for title, (_, status) in FIELDS.items()
        }
        for answer in answers.values():  # the server's own refusals too
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["cache-control"] == "no-store"
            assert json.loads(answer.body)["request_id"] == answer.headers["x-request-id"]


SMUGGLERS = {
    "CL.TE": b"Content-Length: 4\r\nTransfer-Encoding: chunked",
    "TE.CL": b"Transfer-Encoding: chunked\r\nContent-Length: 4",
    "TE.TE": b"Transfer-Encoding: xchunked\r\nTransfer-Encoding: chunked\r\nContent-Length: 4",
    "CL.CL": b"Content-Length: 4\r\nContent-Length: 0",
    "a space before the colon": b"Transfer-Encoding : chunked\r\nContent-Length: 4",
}


async def test_no_second_request_hides_in_the_body_of_one_that_is_ambiguous(url: str) -> None:
    """RFC 9112 section 11.2: a proxy that reads another length would take its answer for somebody else's."""
    hidden = b"GET /media/messages HTTP/1.1\r\nHost: x\r\nX-API-Key: " + KEY + b"\r\n\r\n"
    for title, smuggler in SMUGGLERS.items():
        head = b"POST /media/urls HTTP/1.1\r\nHost: x\r\n" + smuggler + b"\r\n\r\n"
        answer = await send(url, head + b"0\r\n\r\n" + hidden)
        assert (answer.status, answer.headers["connection"]) == (400, "close"), title
        assert b"HTTP/1.1" not in answer.body
        assert b"next_cursor" not in answer.body


TARGETS: dict[str, tuple[bytes, int]] = {
    "9112-3.2.2 the absolute form": (b"http://elsewhere.example" + UNKNOWN, 404),
    "9112-3.2.2 with somebody's name": (b"http://user:password@elsewhere.example" + UNKNOWN, 404),
    "two slashes": (b"/" + UNKNOWN, 404),
    "a step up": (b"/media/../media/messages/unknown", 404),
    "an encoded step up": (b"/media/%2e%2e/media/messages/unknown", 404),
    "an encoded slash": (b"/media%2Fmessages/unknown", 404),
    "a backslash": (b"/media\\messages\\unknown", 404),
    "a matrix parameter": (b"/media/messages;x=1/unknown", 404),
    "another case": (b"/Media/Messages/unknown", 404),
    "a slash behind": (UNKNOWN + b"/", 404),
    "a dot behind": (UNKNOWN + b"/info.", 404),
    "a tab": (b"/media/messages\t/unknown", 400),
    "a raw CR": (b"/media/messages/unknown\r", 400),
    "a raw byte": (b"/media/messages/\xfc", 400),
    "half of an escape": (b"/media/messages/%2", 404),
    "no escape": (b"/media/messages/%zz", 404),
}


async def test_a_target_is_no_way_around_a_credential(url: str) -> None:
    """Only what names nothing at all may be told from a closed door by who has no credential."""
    for title, (target, status) in TARGETS.items():
        with_key, without = await ask(url, b"X-API-Key: " + KEY, target=target), await ask(url, b"A: b", target=target)
        assert with_key.status == status, title
        assert without.status in {status, 401}, title


IDS: dict[str, tuple[str, bytes, int]] = {
    "3986-2.1 hex digits in lower case": ("a/b", b"a%2fb", 200),
    "3986-2.3 what need not be encoded": ("a/b", b"%61%2F%62", 200),
    "encoded twice": ("a/b", b"a%252Fb", 403),
    "not encoded": ("a/b", b"a/b", 404),
    "encoded twice, signed as such": ("a%2Fb", b"a%252Fb", 404),
    "encoded once, signed as twice": ("a%2Fb", b"a%2Fb", 403),
    "another case": ("a/b", b"A%2Fb", 403),
    "another normal form": ("\u00e9", b"e%CC%81", 403),
    "a NUL behind": ("a/b", b"a%2Fb%00", 404),
    "a line break behind": ("a/b", b"a%2Fb%0A", 404),
    "a space behind": ("a/b", b"a%2Fb%20", 403),
    "an overlong slash": ("a/b", b"a%C0%AFb", 404),
    "full width": ("a/b", quote("\uff41/b", safe="").encode(), 403),
}


async def test_a_signature_is_for_one_id_however_that_is_encoded(scene: Scene) -> None:
    await scene.message(message_id="a/b")
    got = {}
    for title, (signed, segment, _) in IDS.items():
        query = urlsplit(scene.gateway.signer.mint(signed).url).query.encode()
        answer = await ask(scene.gateway.url, b"A: b", target=b"/media/messages/" + segment + b"?" + query)
        got[title] = answer.status
    assert got == {title: status for title, (_, _, status) in IDS.items()}


def mixed(good: dict[str, str]) -> dict[str, tuple[str, int]]:
    """Return ways to write a query, each with what it gets; of what is repeated the first counts, for all readers."""
    exp, kid, sig = (f"{name}={good[name]}" for name in ("exp", "kid", "sig"))
    whole = f"{exp}&{kid}&{sig}"
    return {
        "as minted": (whole, 200),
        "in another order": (f"{sig}&{exp}&{kid}", 200),
        "with more behind": (f"{whole}&retry=2&sig=x&exp=1&kid=x", 200),
        "another variant behind": (f"{whole}&variant=thumbnail", 403),  # the first that is there
        "with as much before": (f"retry=2&sig=x&{whole}", 403),
        "an expired time before": (f"exp=1&{whole}", 403),
        "another variant before": (f"variant=thumbnail&{whole}", 403),
        "an empty variant": (f"variant=&{whole}", 403),
        "the variant named": (f"{whole}&variant=original", 200),
        "saved": (f"download=1&{whole}", 403),
        "saved, in other words": (f"download=true&{whole}", 200),  # which mean nothing
        "names in capitals": (whole.replace("exp", "EXP"), 403),
        "names encoded": (whole.replace("exp", "%65xp"), 200),
        "a list, as PHP has it": (whole.replace("sig", "sig[]"), 403),
        "semicolons": (whole.replace("&", ";"), 403),
        "encoded ampersands": (whole.replace("&", "%26"), 403),
        "no sig": (f"{exp}&{kid}", 403),
        "no kid": (f"{exp}&{sig}", 403),
        "no exp": (f"{kid}&{sig}", 403),
        "sig with padding": (f"{whole}=", 403),
        "sig with a space": (f"{whole}%20", 403),
        "sig with NUL": (f"{whole}%00", 403),
        "sig without its end": (whole[:-1], 403),
        "exp with a zero before": (whole.replace("exp=", "exp=0"), 403),
        "exp with a sign": (whole.replace("exp=", "exp=%2B"), 403),
        "exp with a space": (whole.replace("exp=", "exp=%20"), 403),
        "exp with an underscore": (whole.replace("exp=", "exp=1_"), 403),
        "exp as a fraction": (whole.replace("&kid", ".0&kid"), 403),
        "exp in other digits": (whole.replace(good["exp"], quote("٩" * 10)), 403),
        "exp in hex": (whole.replace(good["exp"], hex(FAR)), 403),
        "exp beyond all": (whole.replace(good["exp"], "9" * 400), 403),
        "101 parameters": ("&".join(f"x{number}=" for number in range(100)) + f"&{whole}", 400),
        "more than 4 KiB": (f"{whole}&x={'x' * 4096}", 400),
    }


async def test_a_query_is_read_in_one_way(scene: Scene) -> None:
    message = await scene.message()
    signer = Signer({"k1": SIGNING_KEY.encode()}, public_url="", clock=lambda: FAR - 604_800)
    minted = urlsplit(signer.mint(message.id, expires_in=604_000).url).query
    ways = mixed(dict(pair.split("=", 1) for pair in minted.split("&")))
    got = {title: (await scene.nobody.get(f"{message.path}?{query}")).status_code for title, (query, _) in ways.items()}
    assert got == {title: status for title, (_, status) in ways.items()}


async def test_a_token_opens_the_message_that_is_named_and_none_that_looks_like_it(open_scene: OpenScene) -> None:
    async with open_scene(**ACCESS) as scene:
        for ours, theirs in (("m", "M"), ("a/b", "a%2Fb"), ("\u00e9", "e\u0301"), ("1", "01"), ("x", "x ")):
            mine = await scene.message(message_id=ours)
            other = await scene.message(message_id=theirs, workspace_id="acme")
            assert (await scene.nobody.get(mine.path, headers=bearer(token()))).content == mine.body
            refused = await scene.nobody.get(other.path, headers=bearer(token()))
            assert (refused.status_code, problem_type(refused)) == (404, "not-found")


HOSTS = ["evil.example.com", 'x"y', "x/../y", "x?y", "a b", "[::1", "x:99999", "\xfc"]


async def test_a_host_that_is_made_up_harms_nobody(url: str) -> None:
    """It may only lead who has sent it astray: the answer is private, and JSON whatever it holds."""
    body = b'{"provider_media_id": "1", "ingest": false}'
    length = b"Content-Length: %d\r\nX-API-Key: " % len(body) + KEY
    await ask(url, length, target=b"/media/messages/m", method=b"PUT", body=body)
    for host in HOSTS:
        lines = b"Host: " + host.encode("latin-1") + b"\r\nConnection: close\r\nX-API-Key: " + KEY
        answer = await send(url, b"POST /media/messages/m/url HTTP/1.1\r\n" + lines + b"\r\n\r\n")
        assert answer.status in {200, 400}
        if answer.status == 200:
            assert json.loads(answer.body)["url"].startswith("http")
            assert answer.headers["cache-control"] == "no-store"
