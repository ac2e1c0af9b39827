"""The scanner's client against a server that speaks clamd's protocol over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingest.scanner import ClamAddress, Scanner, ScannerUnavailable

EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
Answer = Callable[[bytes], bytes]


async def _instream(reader: asyncio.StreamReader) -> bytes:
    """Read ``zINSTREAM`` and its chunks, as clamd(8) describes them."""
    assert await reader.readuntil(b"\0") == b"zINSTREAM\0"
    content = b""
    while size := int.from_bytes(await reader.readexactly(4), "big"):
        content += await reader.readexactly(size)
    return content


def _verdict(content: bytes) -> bytes:
    return b"stream: Eicar-Test-Signature FOUND\0" if EICAR in content else b"stream: OK\0"


@asynccontextmanager
async def clamd(socket: Path, answer: Answer = _verdict) -> AsyncIterator[list[int]]:
    scanned: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        content = await _instream(reader)
        scanned.append(len(content))
        writer.write(answer(content))
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, socket):
        yield scanned


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "clamd.sock"


@pytest.fixture
def scanner(socket: Path) -> Scanner:
    return Scanner(ClamAddress.parse(f"unix:{socket}"), timeout=5)


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 200_001])
async def test_a_clean_file_has_no_verdict(scanner: Scanner, socket: Path, tmp_path: Path, size: int) -> None:
    file = tmp_path / "clean"
    file.write_bytes(bytes(size))
    async with clamd(socket) as scanned:
        assert await scanner.scan(file) is None
    assert scanned == [size]


async def test_malware_is_named(scanner: Scanner, socket: Path, tmp_path: Path) -> None:
    file = tmp_path / "infected"
    file.write_bytes(b"before" + EICAR + b"after")
    async with clamd(socket):
        assert await scanner.scan(file) == "Eicar-Test-Signature"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"INSTREAM size limit exceeded. ERROR\0", id="too large for it"),
        pytest.param(b"stream: OK", id="broken off"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"x" * 100_000, id="endless"),
        pytest.param(b"stream:  FOUND\0", id="malware without a name"),
    ],
)
async def test_an_answer_that_is_no_verdict_is_an_error(
    scanner: Scanner, socket: Path, tmp_path: Path, answer: bytes
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    async with clamd(socket, lambda _: answer):
        with pytest.raises(ScannerUnavailable):
            await scanner.scan(file)


async def test_a_scanner_that_hangs_is_an_error(socket: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    released = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = hang
    async with await asyncio.start_unix_server(handler, socket):
        with pytest.raises(ScannerUnavailable):
            await Scanner(ClamAddress.parse(f"unix:{socket}"), timeout=0.05).scan(file)
        released.set()


async def test_no_scanner_at_all_is_an_error(scanner: Scanner, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    with pytest.raises(ScannerUnavailable):
        await scanner.scan(file)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/clamd.sock", ClamAddress("/run/clamd.sock")),
        ("tcp://clamd:3310", ClamAddress(None, "clamd", 3310)),
        ("tcp://[::1]:3310", ClamAddress(None, "::1", 3310)),
    ],
)
def test_an_address_is_a_socket_or_a_host_and_port(text: str, address: ClamAddress) -> None:
    assert ClamAddress.parse(text) == address


@pytest.mark.parametrize("text", ["", "clamd:3310", "unix:relative", "tcp://host", "tcp://host:0", "tcp://host:65536"])
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="must be unix"):
        ClamAddress.parse(text)
