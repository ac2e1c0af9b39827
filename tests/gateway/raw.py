"""A client that sends what it is told to, byte by byte, and sees how the connection ends."""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

PATIENCE = 100.0  # seconds


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as it came off the wire, up to the end of the connection."""

    status: int
    headers: dict[str, str]
    body: bytes
    """Not decoded: chunks are still framed."""

    @property
    def is_whole(self) -> bool:
        """Whether the body is as long as the headers say, or ends with its last chunk (RFC 9112 section 6.3)."""
        if "content-length" in self.headers:
            return len(self.body) == int(self.headers["content-length"])
        return self.body.endswith(b"0\r\n\r\n")


async def exchange(
    url: str, target: bytes, *, method: bytes = b"GET", version: bytes = b"1.1", **headers: str
) -> RawAnswer:
    """Send one request with this target, and read until the server closes the connection."""
    fields = {"Host": "gateway.test", "Connection": "close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in fields.items())
    return await send(url, method + b" " + target + b" HTTP/" + version + b"\r\n" + lines + b"\r\n")


async def send(url: str, request: bytes) -> RawAnswer:
    """Send these bytes, and read until the server closes the connection."""
    address = urlsplit(url)
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write(request)
            return parse(await reader.read())
        finally:
            writer.close()


def parse(received: bytes) -> RawAnswer:
    """Take an answer apart."""
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return RawAnswer(int(status.split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields}, body)
