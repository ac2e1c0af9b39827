"""Where an issuer's keys may be read from, and how they follow a file that changes."""

import os
from contextlib import aclosing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.jwks import MAX_DOCUMENT, Freshness, Jwks, checked_url, open_jwks
from tests.gateway.issuer import Clock, document, knows, signing
from tests.running import NO_TLS, PATIENCE

OLD, NEW = signing("RS256", "old"), signing("RS256", "new")
AT_ONCE = Freshness(max_age=0, cooldown=0, grace=PATIENCE, patience=PATIENCE, stale=3600)


@pytest.mark.parametrize(
    ("location", "fault"),
    [
        pytest.param("http://id.example.com/jwks.json", "https", id="plain http"),
        pytest.param("http://10.0.0.1/jwks.json", "https", id="plain http in a private network"),
        pytest.param("http://localhost.example.com/", "https", id="a name that looks like loopback"),
        pytest.param("http://127.0.0.1@evil.example/", "https", id="loopback as a user"),
        pytest.param("file:///etc/jwks.json", "https", id="another scheme"),
        pytest.param("ftp://id.example.com/jwks.json", "https", id="ftp"),
        pytest.param("https://", "https", id="no host"),
        pytest.param("https://user:secret@id.example.com/", "password", id="a password"),
        pytest.param("https://[::1/", "no URL", id="malformed"),
    ],
)
async def test_only_https_or_loopback_is_asked(location: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as refusal:
        async with open_jwks(location, ssl_context=NO_TLS):
            pass
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "location",
    ["https://id.example.com/jwks", "HTTPS://id", "http://127.0.0.1:8080/", "http://[::1]/", "http://localhost/"],
)
def test_https_and_loopback_are_urls_of_keys(location: str) -> None:
    assert checked_url(location).host


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "jwks.json"
    publish(file, document(OLD.jwk()))
    return file


def publish(path: Path, content: bytes | None) -> None:
    """Replace the file, or with None remove it."""
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)


async def test_a_changed_file_is_read_again(path: Path) -> None:
    async with open_jwks(str(path), AT_ONCE) as jwks:
        assert await knows(jwks, "old")
        publish(path, document(NEW.jwk()))
        assert await knows(jwks, "new")
        assert not await knows(jwks, "old")


async def test_a_file_is_looked_at_when_its_keys_are_old() -> None:
    clock = Clock()
    freshness = Freshness(max_age=5, cooldown=5, grace=PATIENCE, patience=PATIENCE, stale=3600)
    reads: list[float] = []

    async def read() -> bytes:
        reads.append(clock.now)
        return document(OLD.jwk())

    async with aclosing(Jwks(read, freshness, clock=clock)) as jwks:
        for _ in range(3):
            assert await knows(jwks, "old")
            clock.now += 4
            assert await knows(jwks, "old")
            clock.now += 1
    assert reads == [1000, 1005, 1010]


@pytest.mark.parametrize("content", [None, b"", document(OLD.jwk())[:100]], ids=["missing", "emptied", "half written"])
async def test_a_broken_file_leaves_the_keys(path: Path, content: bytes | None) -> None:
    async with open_jwks(str(path), AT_ONCE) as jwks:
        publish(path, content)
        with capture_logs() as logs:
            assert await knows(jwks, "old")
        assert logs[0]["event"] == "JWKS could not be read"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(None, "cannot be read: No such file", id="missing"),
        pytest.param(b"", "is not JSON", id="empty"),
        pytest.param(b"{}", "is not a JWK Set", id="no set"),
        pytest.param(document(), "has no key for ES256, EdDSA, RS256", id="no keys"),
        pytest.param(document(OLD.jwk(use="enc")), "has no key for", id="no key of ours"),
        pytest.param(document(OLD.jwk(d="AQ")), "symmetric or private", id="private"),
        pytest.param(b" " * (MAX_DOCUMENT + 1), "is larger than 262144 bytes", id="too large"),
    ],
)
async def test_a_wrong_file_stops_the_start(path: Path, content: bytes | None, fault: str) -> None:
    publish(path, content)
    with pytest.raises(ValueError, match=fault):
        async with open_jwks(str(path)):
            pass


async def test_what_is_no_file_stops_the_start(path: Path) -> None:
    with pytest.raises(ValueError, match="is not a file"):
        async with open_jwks(str(path.parent)):
            pass
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)  # nobody writes into it: reading would wait for ever
    with pytest.raises(ValueError, match="is not a file"):
        async with open_jwks(str(pipe)):
            pass
