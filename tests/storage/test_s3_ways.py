"""The ways to a store: TLS and proxies, on the event loop of the standard library and on that of production."""

import asyncio
import datetime as dt
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from storage.errors import StoreUnavailable
from storage.s3 import S3Config, S3Store
from tests.storage.scripted import ScriptedStore, always, response, scripted_store

Run = Callable[[Coroutine[Any, Any, None]], None]

BODY = bytes(range(256)) * 4096  # many TLS records
OBJECT = response(body=BODY)


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


@dataclass(frozen=True)
class Certificates:
    """An authority that only these tests know, and what it has signed."""

    folder: Path

    @property
    def authority(self) -> str:
        return str(self.folder / "authority.pem")

    def server(self, name: str) -> ssl.SSLContext:
        """Return what a server of that name shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem")
        return context


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(
        issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
        subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - dt.timedelta(hours=1),
        not_valid_after=now + dt.timedelta(hours=1),
    )
    authority = x509.BasicConstraints(ca=name == issuer, path_length=None)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return made.add_extension(authority, critical=True).sign(signer, hashes.SHA256())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    signer = ec.generate_private_key(ec.SECP256R1())
    for name in ("authority", "localhost", "elsewhere.example"):
        key = signer if name == "authority" else ec.generate_private_key(ec.SECP256R1())
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        shown = _certificate(name, key, "authority", signer).public_bytes(pem)
        (folder / f"{name}.pem").write_bytes(shown if name == "authority" else shown + private)
    return Certificates(folder)


async def read(config: S3Config, times: int = 2) -> None:
    """Read the object more than once: the second time over the kept connection."""
    async with S3Store(config) as store:
        for _ in range(times):
            async with store.open("k") as reader:
                assert b"".join([chunk async for chunk in reader.chunks]) == BODY


def test_a_plain_store(run: Run) -> None:
    async def scenario() -> None:
        async with scripted_store(always(OBJECT, OBJECT)) as server:
            await read(server.config())
            assert server.opened == 1

    run(scenario())


def test_a_store_with_a_certificate_that_botocore_would_trust(
    run: Run, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", certificates.authority)

    async def scenario() -> None:
        async with scripted_store(always(OBJECT, OBJECT), tls=certificates.server("localhost")) as server:
            await read(server.config())
            assert server.opened == 1

    run(scenario())


@pytest.mark.parametrize(
    ("trusts", "name"),
    [
        pytest.param(False, "localhost", id="an authority that nobody knows"),
        pytest.param(True, "elsewhere.example", id="RFC 9110 4.3.4 another's certificate"),
    ],
)
def test_a_store_that_cannot_show_who_it_is_gets_no_request(
    run: Run, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, *, trusts: bool, name: str
) -> None:
    if trusts:
        monkeypatch.setenv("AWS_CA_BUNDLE", certificates.authority)

    async def scenario() -> None:
        async with scripted_store(always(OBJECT), tls=certificates.server(name)) as server:
            async with S3Store(server.config()) as store:
                with pytest.raises(StoreUnavailable):
                    async with store.open("k"):
                        pass
                assert store._reads._pool.taken == 0
            assert server.requests == []

    run(scenario())


@dataclass
class Proxy:
    """A proxy that connects to where it is asked to, and remembers what it was asked."""

    answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
    asked: list[str] = field(default_factory=list)
    port: int = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        writer.write(self.answer)
        if b" 200 " in self.answer:
            host, _, port = head.split(" ")[1].partition(":")
            there, back = await asyncio.open_connection(host, int(port))
            await asyncio.gather(_pipe(reader, back), _pipe(there, writer))
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # one of the two has gone
    finally:
        writer.close()


@asynccontextmanager
async def proxying(proxy: Proxy) -> AsyncIterator[str]:
    async with await asyncio.start_server(proxy.talk, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


CREDENTIALS = f"proxy-authorization: Basic {b64encode(b'user:pass word').decode()}\r\n"


@pytest.mark.parametrize("credentials", ["", "user:pass%20word@"], ids=["open", "with a password"])
def test_a_plain_store_behind_a_proxy_is_asked_for_by_its_whole_url(
    run: Run, monkeypatch: pytest.MonkeyPatch, credentials: str
) -> None:
    async def scenario() -> None:
        async with scripted_store(always(OBJECT, OBJECT)) as proxy:  # which has what was asked for
            monkeypatch.setenv("http_proxy", f"http://{credentials}127.0.0.1:{proxy.port}")
            await read(ScriptedStore(always(), port=9).config(endpoint_url="http://store.example:9000"))

            for request in proxy.requests:
                assert request.startswith("GET http://store.example:9000/b/k HTTP/1.1\r\nhost: store.example:9000\r\n")
                assert (CREDENTIALS in request) is bool(credentials)

    run(scenario())


@pytest.mark.parametrize("credentials", ["", "user:pass%20word@"], ids=["open", "with a password"])
def test_a_proxy_sees_nothing_of_a_store_with_tls_but_its_name(
    run: Run, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, credentials: str
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", certificates.authority)

    async def scenario() -> None:
        proxy = Proxy()
        async with (
            scripted_store(always(OBJECT, OBJECT), tls=certificates.server("localhost")) as server,
            proxying(proxy) as place,
        ):
            monkeypatch.setenv("https_proxy", f"http://{credentials}{place}")
            await read(server.config())

            there = f"localhost:{server.port}"
            own = CREDENTIALS if credentials else ""
            assert proxy.asked == [f"CONNECT {there} HTTP/1.1\r\nhost: {there}\r\n{own}\r\n"]
            assert all("proxy-authorization" not in request for request in server.requests)

    run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        response("407 Proxy Authentication Required"),
        response("502 Bad Gateway", b"x" * 100),
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"",
    ],
    ids=["407", "502", "no HTTP", "closed"],
)
def test_a_proxy_that_refuses_makes_the_store_unavailable(
    run: Run, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    async def scenario() -> None:
        async with proxying(Proxy(answer)) as place:
            monkeypatch.setenv("https_proxy", f"http://user:secret@{place}")
            config = ScriptedStore(always(), port=9, scheme="https").config()
            async with S3Store(config) as store:
                with pytest.raises(StoreUnavailable) as caught:
                    async with store.open("k"):
                        pass
                assert "secret" not in repr(caught.value)
                assert store._reads._pool.taken == 0

    run(scenario())


def test_no_proxy_for_whom_the_environment_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "localhost")

    async def scenario() -> None:
        async with scripted_store(always(OBJECT, OBJECT)) as server:
            await read(server.config())

    run(scenario())
