"""Which hosts may be named, which addresses may be dialled, and that the checked address is the dialled one."""

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpcore
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from ingest.whatsapp.dialling import META_HOSTS, GuardedBackend, GuardedTransport, HostRules, is_public
from storage.authorities import Authorities
from storage.errors import OriginFailed


@pytest.mark.parametrize(
    ("entries", "url"),
    [
        pytest.param(META_HOSTS, "https://lookaside.fbsbx.com/a?b=c", id="the documented host"),
        pytest.param(META_HOSTS, "https://lookaside.fbsbx.com:443/", id="its port, written out"),
        pytest.param(META_HOSTS, "https://LOOKASIDE.fbsbx.COM/", id="upper case"),
        pytest.param(META_HOSTS, "https://lookaside.fbsbx.com./", id="trailing dot"),
        pytest.param(META_HOSTS, "https://scontent.xx.fbcdn.net/", id="below a suffix"),
        pytest.param("*.example.org", "https://a.b.example.org/", id="suffix with a star"),
        pytest.param(" a.example , b.example ,", "https://b.example/", id="spaces and an empty entry"),
        pytest.param("media.example", "https://media.example:8443/", id="exact: any port"),
        pytest.param("media.example:8443", "https://media.example:8443/", id="exact: this port"),
        pytest.param(".example.org:8443", "https://a.example.org:8443/", id="suffix: this port"),
        pytest.param("https://media.example", "https://media.example/", id="https, written out"),
        pytest.param("http://media.example:8080", "http://media.example:8080/", id="plain http, named"),
        pytest.param("http://media.example/", "http://media.example/", id="with a slash"),
        pytest.param("127.0.0.1:9000", "http://127.0.0.1:9000/", id="loopback: plain http too"),
        pytest.param("127.0.0.1", "https://127.0.0.1/", id="loopback: https"),
        pytest.param("localhost", "http://localhost:9000/", id="localhost"),
        pytest.param("10.1.2.3", "http://10.1.2.3/", id="private: plain http too"),
        pytest.param("::1", "http://[::1]:9000/", id="IPv6"),
        pytest.param("[::1]:9000", "http://[0:0:0:0:0:0:0:1]:9000/", id="IPv6, another spelling"),
        pytest.param("bücher.example", "https://xn--bcher-kva.example/", id="IDNA in the entry"),
        pytest.param("xn--bcher-kva.example", "https://BÜCHER.example/", id="IDNA in the URL"),
    ],
)
def test_a_url_is_allowed(entries: str, url: str) -> None:
    assert HostRules.parse(entries).check(url).raw_path == httpx.URL(url).raw_path


@pytest.mark.parametrize(
    ("entries", "url"),
    [
        pytest.param(META_HOSTS, "http://lookaside.fbsbx.com/", id="plain http"),
        pytest.param(META_HOSTS, "https://lookaside.fbsbx.com:8443/", id="default host, another port"),
        pytest.param(META_HOSTS, "https://a.fbcdn.net:8443/", id="suffix, another port"),
        pytest.param(META_HOSTS, "https://evilfbcdn.net/", id="suffix without its dot"),
        pytest.param(META_HOSTS, "https://fbcdn.net/", id="the suffix itself"),
        pytest.param(META_HOSTS, "https://lookaside.fbsbx.com.evil.example/", id="a host that begins like it"),
        pytest.param(META_HOSTS, "https://evil.example/lookaside.fbsbx.com", id="in the path"),
        pytest.param(META_HOSTS, "https://lookaside.fbsbx.com@evil.example/", id="as user information"),
        pytest.param(META_HOSTS, "https://user:pw@lookaside.fbsbx.com/", id="user information"),
        pytest.param(META_HOSTS, "https://evil.example\\@lookaside.fbsbx.com/", id="backslash"),
        pytest.param(META_HOSTS, "https://evil.example%2f.fbcdn.net/", id="slash in the host"),
        pytest.param(META_HOSTS, "https://evil.example%00.fbcdn.net/", id="NUL in the host"),
        pytest.param(META_HOSTS, "https://..fbcdn.net/", id="empty label"),
        pytest.param(META_HOSTS, f"https://{'a.' * 150}fbcdn.net/", id="RFC 1035 longer than a name"),
        pytest.param(META_HOSTS, "https://169.254.169.254/latest/meta-data/", id="metadata service"),
        pytest.param(META_HOSTS, "https://[fd00:ec2::254]/", id="metadata service, IPv6"),
        pytest.param(META_HOSTS, "https://127.0.0.1/", id="loopback"),
        pytest.param(META_HOSTS, "https://2130706433/", id="loopback as a number"),
        pytest.param(META_HOSTS, "ftp://lookaside.fbsbx.com/", id="another scheme"),
        pytest.param(META_HOSTS, "file:///etc/passwd", id="a file"),
        pytest.param(META_HOSTS, "//lookaside.fbsbx.com/", id="no scheme"),
        pytest.param(META_HOSTS, "https:///x", id="no host"),
        pytest.param(META_HOSTS, "https://lookaside.fbsbx.com:0/", id="port 0"),
        pytest.param(META_HOSTS, "https://lookaside.fbsbx.com:99999/", id="port 99999"),
        pytest.param(META_HOSTS, "https://lookaside.fbsbx.com:x/", id="no port"),
        pytest.param(META_HOSTS, "", id="nothing"),
        pytest.param("media.example:8443", "https://media.example/", id="exact: another port"),
        pytest.param("media.example", "http://media.example/", id="exact: plain http"),
        pytest.param("https://127.0.0.1", "http://127.0.0.1/", id="loopback: https, written out"),
        pytest.param("http://media.example", "https://media.example/", id="plain http only"),
        pytest.param("lookaside.fbsbx.com", "https://lookaside.fbsbx.com:8443/", id="a default host, written out"),
        pytest.param("127.0.0.1", "http://[::ffff:127.0.0.1]/", id="IPv4-mapped"),
        pytest.param("127.0.0.1", "http://127.1/", id="a short IPv4 address"),
        pytest.param("", "https://lookaside.fbsbx.com/", id="an empty list"),
    ],
)
def test_a_url_is_refused_without_repeating_it(entries: str, url: str) -> None:
    with pytest.raises(OriginFailed) as caught:
        HostRules.parse(entries).check(f"{url}?hash=SECRET" if url else url)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "entry",
    [
        *("*", ".", "*.", ".com", "*com", "*.*.example", "..example.org", ".127.0.0.1", "http://.example.org"),
        *("https://", "ftp://a.example", "http://a://b", "a b", "a.example/path", "a.example?q", "user@a.example"),
        *("a.example:x", "[::1"),
    ],
)
def test_an_entry_that_is_none_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match=r"names|neither") as caught:
        HostRules.parse(f"good.example,{entry}")
    assert repr(entry) in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "host", "expected"),
    [
        pytest.param("simulator", "simulator", True, id="named exactly"),
        pytest.param("http://simulator:8080", "simulator", True, id="with scheme and port"),
        pytest.param("simulator:9", "simulator", False, id="another port"),
        pytest.param(".example.org", "a.example.org", False, id="a suffix"),
        pytest.param(META_HOSTS, "lookaside.fbsbx.com", False, id="a default host"),
        pytest.param("lookaside.fbsbx.com", "lookaside.fbsbx.com", False, id="a default host, written out"),
        pytest.param(META_HOSTS, "127.0.0.1", False, id="not named"),
    ],
)
def test_only_a_host_that_the_operator_named_may_be_inward(entries: str, host: str, *, expected: bool) -> None:
    assert HostRules.parse(entries).allow_inward(host, 8080) is expected


@given(st.text(max_size=40))
def test_any_text_is_allowed_or_refused_and_nothing_else(text: str) -> None:
    rules = HostRules.parse(META_HOSTS)
    for url in (text, f"https://{text}", f"https://{text}.fbcdn.net/"):
        try:
            allowed = rules.check(url)
        except OriginFailed:
            continue
        assert allowed.scheme == "https"
        assert allowed.host.endswith((".fbcdn.net", ".fbsbx.com"))


@pytest.mark.parametrize("address", ["8.8.8.8", "157.240.1.1", "2a03:2880:f003::1", "64:ff9b::808:808"])
def test_an_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("0.0.0.0", id="RFC 1122 this network"),  # noqa: S104 nothing is bound to it
        pytest.param("10.0.0.1", id="RFC 1918"),
        pytest.param("172.16.0.1", id="RFC 1918 too"),
        pytest.param("192.168.0.1", id="RFC 1918 as well"),
        pytest.param("100.64.0.1", id="RFC 6598 carrier-grade NAT"),
        pytest.param("127.0.0.1", id="RFC 1122 loopback"),
        pytest.param("169.254.169.254", id="RFC 3927 link-local, metadata"),
        pytest.param("192.0.2.1", id="RFC 5737 documentation"),
        pytest.param("198.18.0.1", id="RFC 2544 benchmarks"),
        pytest.param("224.0.0.1", id="RFC 5771 multicast"),
        pytest.param("240.0.0.1", id="RFC 1112 reserved"),
        pytest.param("255.255.255.255", id="RFC 919 broadcast"),
        pytest.param("::", id="RFC 4291 unspecified"),
        pytest.param("::1", id="RFC 4291 loopback"),
        pytest.param("::ffff:127.0.0.1", id="RFC 4291 mapped loopback"),
        pytest.param("::ffff:8.8.8.8", id="RFC 4291 mapped"),
        pytest.param("::127.0.0.1", id="RFC 4291 compatible"),
        pytest.param("64:ff9b::7f00:1", id="RFC 6052 translated loopback"),
        pytest.param("64:ff9b:1::1", id="RFC 8215 translated, local"),
        pytest.param("2002:7f00:1::1", id="RFC 3056 6to4 loopback"),
        pytest.param("2001:0:7f00:1::1", id="RFC 4380 Teredo"),
        pytest.param("2001:db8::1", id="RFC 3849 documentation"),
        pytest.param("fc00::1", id="RFC 4193 unique local"),
        pytest.param("fe80::1", id="RFC 4291 link-local"),
        pytest.param("fe80::1%eth0", id="RFC 4007 with a zone"),
        pytest.param("fec0::1", id="RFC 3879 site-local"),
        pytest.param("ff02::1", id="RFC 4291 multicast"),
    ],
)
def test_an_address_is_not_public(address: str) -> None:
    assert not is_public(address)


class Names:
    """A resolver that answers from a list, a new entry for every lookup."""

    def __init__(self, *answers: list[str] | OSError | UnicodeError) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


Listener = Callable[..., AbstractAsyncContextManager[int]]
"""Serves on a free port of 127.0.0.1, with TLS where given a context."""


def allow(*hosts: str) -> Callable[[str, int], bool]:
    return lambda host, _port: host in hosts


async def test_a_name_with_a_private_address_is_not_dialled(listener: Listener) -> None:
    async with listener() as port:
        backend = GuardedBackend(allow(), Names(["127.0.0.1"]))
        with pytest.raises(OriginFailed, match="may not be dialled"):
            await backend.connect_tcp("lookaside.fbsbx.com", port, timeout=5)


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    backend = GuardedBackend(allow(), Names(["157.240.1.1", "10.0.0.1"]))
    with pytest.raises(OriginFailed, match="may not be dialled"):
        await backend.connect_tcp("lookaside.fbsbx.com", 443, timeout=5)


async def test_the_address_that_was_checked_is_dialled_without_a_second_lookup(listener: Listener) -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    async with listener() as port:
        stream = await GuardedBackend(allow("simulator"), names).connect_tcp("simulator", port, timeout=5)
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)
        await stream.aclose()
    assert names.asked == ["simulator"]


async def test_a_rebound_name_is_refused_on_the_next_connection(listener: Listener) -> None:
    backend = GuardedBackend(lambda _host, _port: len(names.asked) == 1, names := Names(["127.0.0.1"], ["127.0.0.1"]))
    async with listener() as port:
        await (await backend.connect_tcp("media.example", port, timeout=5)).aclose()
        with pytest.raises(OriginFailed, match="may not be dialled"):
            await backend.connect_tcp("media.example", port, timeout=5)


async def test_the_next_address_is_tried_where_one_does_not_answer(listener: Listener) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.2", 0))
        async with listener() as port:
            backend = GuardedBackend(allow("media.example"), Names(["127.0.0.2", "127.0.0.1"]))
            stream = await backend.connect_tcp("media.example", port, timeout=5)
            assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)
            await stream.aclose()


@pytest.mark.parametrize("answer", [[], socket.gaierror(-2, "unknown"), UnicodeError("label too long")])
async def test_a_name_without_an_address_is_a_connect_error(answer: list[str] | OSError | UnicodeError) -> None:
    with pytest.raises(httpcore.ConnectError):
        await GuardedBackend(allow(), Names(answer)).connect_tcp("nowhere.example", 443, timeout=5)


async def test_the_lookup_counts_as_connecting() -> None:
    async def never(host: str, port: int) -> list[str]:
        await asyncio.get_running_loop().create_future()
        return []

    with pytest.raises(httpcore.ConnectTimeout):
        await GuardedBackend(allow(), never).connect_tcp("slow.example", 443, timeout=0.01)


async def test_the_system_resolver_is_the_default(listener: Listener) -> None:
    async with listener() as port:
        stream = await GuardedBackend(allow("localhost")).connect_tcp("localhost", port, timeout=5)
        await stream.aclose()


async def test_httpx_dials_through_the_guard(listener: Listener) -> None:
    """Pins the private attribute of httpx that carries the network backend."""
    names = Names(["127.0.0.1"])
    async with listener() as port, GuardedTransport(GuardedBackend(allow(), names)) as transport:
        with pytest.raises(OriginFailed, match="may not be dialled"):
            await transport.handle_async_request(httpx.Request("GET", f"http://media.example:{port}/"))
    assert names.asked == ["media.example"]


async def test_the_environment_names_no_proxy(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    backend = GuardedBackend(allow("media.example"), Names(["127.0.0.1"]))
    async with listener() as port, GuardedTransport(backend) as transport:
        response = await transport.handle_async_request(httpx.Request("GET", f"http://media.example:{port}/"))
        await response.aclose()
        assert response.status_code == 200


def certificate(name: str, folder: Path) -> Path:
    """Write a self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = folder / "certificate.pem"
    path.write_bytes(built.public_bytes(pem) + key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return path


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Authorities]:
    """A server that proves to be media.example, and who vouches for it."""
    path = certificate("media.example", tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    return server, Authorities(path)


async def test_tls_is_about_the_name_and_not_the_address(
    listener: Listener, tls: tuple[ssl.SSLContext, Authorities]
) -> None:
    server, authorities = tls
    seen: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: seen.append(name)
    names = Names(["127.0.0.1"], ["127.0.0.1"])
    backend = GuardedBackend(lambda _host, _port: True, names)
    async with listener(server) as port, GuardedTransport(backend, authorities) as transport:
        response = await transport.handle_async_request(httpx.Request("GET", f"https://media.example:{port}/"))
        await response.aclose()
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await transport.handle_async_request(httpx.Request("GET", f"https://other.example:{port}/"))
    assert seen == ["media.example", "other.example"]


@given(st.ip_addresses())
def test_no_address_is_public_that_the_registries_call_private(address: ipaddress.IPv4Address) -> None:
    if is_public(str(address)):
        assert not any([address.is_private, address.is_loopback, address.is_link_local, address.is_multicast])
