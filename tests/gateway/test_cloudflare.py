"""Cloudflare's token authentication: its "Configure token authentication" and "Functions, HMAC validation"."""

import hashlib
import hmac
import re
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cloudflare import TimedHmac
from gateway.signing import Signer

SECRET = b"mysecrettoken"
LIFETIME = 10_800  # seconds, three hours
AT = 1_484_063_787
SEPARATOR = 8  # len("?verify="), and as many bytes as the rule has it
timed = TimedHmac(SECRET, lifetime=LIFETIME)


def rule_lets_in(uri: str, now: int, key: bytes = SECRET, ttl: int = LIFETIME) -> bool:
    r"""Judge a request as the rule of the module's docstring does: from the text of the documentation, not our code.

    ``MessageMAC`` is ``(.+)(.*)(\d{10})-(.{43,})``: message, separator of a given length, time of issue, MAC.
    """
    if "verify=" not in uri.partition("?")[2]:
        return False
    parts = re.fullmatch(rf"(.+)(.{{{SEPARATOR}}})(\d{{10}})-(.{{43}})", uri, re.ASCII)
    if parts is None:
        return False
    message, _, at, mac = parts.groups()
    expected = hmac.new(key, f"{message}{at}".encode(), hashlib.sha256).digest()
    return now < int(at) + ttl and mac == b64encode(expected, b"-_").decode().removesuffix("=")


@pytest.mark.parametrize(
    ("uri", "signed"),
    [
        ("/images/cat.jpg", "/images/cat.jpg?verify=1484063787-"),
        ("/images/cat.jpg?variant=webp", "/images/cat.jpg?variant=webp&verify=1484063787-"),
        ("/media/messages/wamid.HBg%3D%3D?download=1", "/media/messages/wamid.HBg%3D%3D?download=1&verify=1484063787-"),
        ("/images/cat.jpg?", "/images/cat.jpg?&verify=1484063787-"),
    ],
)
def test_the_token_is_the_last_parameter(uri: str, signed: str) -> None:
    url = timed.sign(uri, AT)
    assert url.startswith(signed)
    assert re.fullmatch(r"[0-9A-Za-z_-]{43}", url.removeprefix(signed))
    assert len(signed) - len(uri) - len("1484063787-") == SEPARATOR
    assert rule_lets_in(url, AT)
    assert timed.verify(url, AT)


def test_the_mac_is_that_of_the_documented_example_code() -> None:
    """Its Python builds ``hmac.new(secret, message + timestamp, sha256)``, and base64 of it."""
    documented = hmac.new(b"mysecrettoken", b"/images/cat.jpg1484063787", hashlib.sha256).digest()
    token = timed.sign("/images/cat.jpg", AT).removeprefix("/images/cat.jpg?verify=1484063787-")
    assert b64decode(token + "=", altchars=b"-_", validate=True) == documented


@pytest.mark.parametrize(
    ("now", "valid"), [(AT, True), (AT + LIFETIME - 1, True), (AT + LIFETIME, False), (AT + 10 * LIFETIME, False)]
)
def test_a_token_ends_with_its_lifetime(now: int, valid: bool) -> None:  # noqa: FBT001 a table
    url = timed.sign("/images/cat.jpg", AT)
    assert timed.verify(url, now) is rule_lets_in(url, now) is valid


def test_an_earlier_time_of_issue_gives_a_shorter_life() -> None:
    end = AT + 60
    url = timed.sign("/images/cat.jpg", end - LIFETIME)
    assert timed.verify(url, end - 1)
    assert not timed.verify(url, end)


def test_the_same_time_of_issue_gives_the_same_url() -> None:
    assert timed.sign("/a", AT) == TimedHmac(SECRET, lifetime=60).sign("/a", AT)
    assert timed.sign("/a", AT) != timed.sign("/a", AT + 1)


def test_another_secret_opens_nothing() -> None:
    url = TimedHmac(b"another", lifetime=LIFETIME).sign("/images/cat.jpg", AT)
    assert not timed.verify(url, AT)
    assert not rule_lets_in(url, AT)


@given(message_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), query=st.booleans())
def test_every_path_of_the_gateway_can_be_signed(message_id: str, query: bool) -> None:  # noqa: FBT001 hypothesis names it
    path = Signer({}, public_url="").unsigned(message_id)
    url = timed.sign(f"{path}?variant=webp" if query else path, AT)
    assert rule_lets_in(url, AT)
    assert timed.verify(url, AT)


@given(st.data())
def test_any_changed_byte_is_refused(data: st.DataObject) -> None:
    uri = data.draw(st.sampled_from(["/media/messages/1", "/media/messages/1?variant=webp"]))
    url = timed.sign(uri, AT)
    position = data.draw(st.integers(0, len(url) - 1))
    other = data.draw(st.characters(exclude_characters=url[position]))
    assert not timed.verify(url[:position] + other + url[position + 1 :], AT)


@pytest.mark.parametrize("separator", ["/info?a=", "?downlo=", "&verify=", "xverify=", "/verify=", "%verify="])
def test_the_token_of_one_url_opens_no_other_by_another_separator(separator: str) -> None:
    """The MAC does not cover the separator: that is what the second line of the rule is for."""
    url = timed.sign("/media/messages/1", AT).replace("?verify=", separator)
    assert len(separator) == SEPARATOR
    assert not rule_lets_in(url, AT)
    assert not timed.verify(url, AT)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/images/cat.jpg",
        "/images/cat.jpg?verify=",
        "/images/cat.jpg?verify=1484063787",
        f"/images/cat.jpg?verify=1484063787-{'A' * 43}",
        f"/images/cat.jpg?verify=1484063787-{'A' * 42}=",
        f"/images/cat.jpg?verify=٠٤٨٤٠٦٣٧٨٧-{'A' * 43}",
        "/images/cat.jpg\ud800?verify=1484063787-" + "A" * 43,
        timed.sign("/images/cat.jpg", AT) + "&retry=2",
        timed.sign("/images/cat.jpg", AT) + "\n",
        timed.sign("/images/cat.jpg", AT) + "=",
    ],
)
def test_what_is_no_token_opens_nothing(uri: str) -> None:
    assert not timed.verify(uri, AT)


@pytest.mark.parametrize(
    "uri", ["", "images/cat.jpg", "https://cdn.example.com/a", "/a b", "/a#t", "/ä", '/a"', "/a\n", "/a\\b"]
)
def test_only_a_path_in_ascii_is_signed(uri: str) -> None:
    with pytest.raises(ValueError, match="only a path"):
        timed.sign(uri, AT)


def test_a_path_is_signed_once() -> None:
    with pytest.raises(ValueError, match="already"):
        timed.sign(timed.sign("/a", AT), AT)


@pytest.mark.parametrize("at", [-1, 0, 999_999_999, 10_000_000_000])
def test_the_time_of_issue_has_ten_digits(at: int) -> None:
    with pytest.raises(ValueError, match="ten digits"):
        timed.sign("/a", at)


@pytest.mark.parametrize(("secret", "lifetime"), [(b"", 60), (b"secret", 0), (b"secret", -1)])
def test_there_is_a_secret_and_a_lifetime(secret: bytes, lifetime: int) -> None:
    with pytest.raises(ValueError, match="Cloudflare"):
        TimedHmac(secret, lifetime=lifetime)


def test_a_signer_does_not_show_its_secret() -> None:
    assert "mysecrettoken" not in repr(timed)
