"""Asks clamd whether a file holds malware: its INSTREAM command over a Unix or TCP socket."""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiofiles

from storage.errors import MediaError

_CHUNK = 64 * 1024  # bytes
_MAX_ANSWER = 4096  # bytes
_FOUND = re.compile(r"stream: (.{1,255}) FOUND")


class ScannerUnavailable(MediaError):
    """The malware scanner does not answer; asking again may help."""

    code = "scanner-unavailable"


@dataclass(frozen=True, slots=True)
class ClamAddress:
    """Where clamd listens: a Unix socket's path, or a host and a port."""

    path: str | None
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``unix:/path/to/socket`` or ``tcp://host:port``; raises ValueError for anything else."""
        if text.startswith("unix:/"):
            return cls(text.removeprefix("unix:"))
        match = re.fullmatch(r"tcp://(\[[0-9a-fA-F:]+\]|[^:/\[\]\s]+):(\d{1,5})", text)
        if match is None or not 0 < int(match[2]) < 65536:  # noqa: PLR2004 the end of the ports
            raise ValueError("must be unix:/path/to/socket or tcp://host:port")
        return cls(None, match[1].strip("[]"), int(match[2]))


class Scanner:
    """A clamd; every file is sent over a connection of its own."""

    def __init__(self, address: ClamAddress, *, timeout: float = 60.0) -> None:
        """Take the address, and how many seconds clamd may take to read or to answer."""
        self._address = address
        self._timeout = timeout

    async def scan(self, file: Path) -> str | None:
        """Return the name of the malware that a file holds, or None.

        Raises:
            ScannerUnavailable: There is no verdict.
        """
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._ask(file)
        except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError) as error:
            raise ScannerUnavailable(f"The malware scanner does not answer: {type(error).__name__}.") from error
        if answer == "stream: OK":
            return None
        found = _FOUND.fullmatch(answer)
        if found is None:  # such as "INSTREAM size limit exceeded. ERROR"
            raise ScannerUnavailable("The malware scanner has given no verdict.")
        return found[1]

    async def _ask(self, file: Path) -> str:
        reader, writer = await self._connect()
        try:
            writer.write(b"zINSTREAM\0")
            async with aiofiles.open(file, "rb") as source:
                while chunk := await source.read(_CHUNK):
                    writer.write(len(chunk).to_bytes(4, "big") + chunk)
                    await writer.drain()
            writer.write(bytes(4))
            await writer.drain()
            return (await reader.readuntil(b"\0"))[:-1].decode("utf-8", "replace")
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._address.path is not None:
            return await asyncio.open_unix_connection(self._address.path, limit=_MAX_ANSWER)
        return await asyncio.open_connection(self._address.host, self._address.port, limit=_MAX_ANSWER)
