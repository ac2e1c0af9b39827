"""nginx before a bucket that speaks TLS: only a store that is certified under its own name is read."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.gateway.nginx import AUTHORITIES, accelerated
from tests.gateway.scene import OpenScene


def certified(folder: Path, name: str) -> Path:
    """Make a certificate for a host that is its own authority, with its key behind it in the file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path = folder / f"{name}.pem"
    path.write_bytes(certificate.public_bytes(pem) + private)
    return path


@asynccontextmanager
async def encrypted(url: str, certificate: Path) -> AsyncIterator[tuple[str, list[str]]]:
    """Stand before a server with TLS; yields the URL, and the names that clients ask for."""
    names: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    behind = urlsplit(url)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(behind.hostname, behind.port)
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(reader, there_writer))
            both.create_task(_copy(there_reader, writer))

    async with await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", names


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:  # a client that does not like the certificate hangs up
        return
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("name", "is_known", "sender"),
    [
        pytest.param("localhost", True, "store", id="under its name, by an authority that is known"),
        pytest.param("localhost", False, "gateway", id="by nobody that is known"),
        pytest.param("elsewhere.example", True, "gateway", id="under another name"),
    ],
)
async def test_a_store_has_to_prove_its_name(
    open_scene: OpenScene, s3: dict[str, str], tmp_path: Path, name: str, sender: str, *, is_known: bool
) -> None:
    certificate = certified(tmp_path, name)
    s3 = s3 | {"AWS_ENDPOINT_URL_S3": s3["AWS_ENDPOINT_URL_S3"].replace("127.0.0.1", "localhost")}
    async with encrypted(s3["AWS_ENDPOINT_URL_S3"], certificate) as (url, names):
        authority = certificate if is_known else AUTHORITIES
        async with accelerated(open_scene, tmp_path / "nginx", s3, store=url, authority=authority) as (scene, front):
            message = await scene.store(await scene.message())
            answer = await scene.client.get(message.path)
            assert (answer.status_code, answer.content) == (200, message.body)
            assert await front.sender(answer) == sender
            assert set(names) == {"localhost"}
