"""Opens connections to a store, through a proxy where the environment names one."""

import asyncio
import socket
from base64 import b64encode
from functools import partial
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection

from storage.authorities import Authorities
from storage.errors import StoreUnavailable
from storage.s3.connection import Connection

HAPPY_EYEBALLS_DELAY: Final = 0.25  # seconds until another address is tried as well (RFC 8305, section 5)


class Proxy:
    """What stands between us and the store."""

    def __init__(self, url: str) -> None:
        """Take its URL, with user and password or without, as the environment names it."""
        self.url = urlsplit(url if "://" in url else f"http://{url.removeprefix('//')}")

    @property
    def authorization(self) -> str:
        """The field that opens it, with its end of line, or nothing (RFC 9110, section 11.7.2)."""
        if not (self.url.username and self.url.password):
            return ""
        secret = f"{unquote(self.url.username)}:{unquote(self.url.password)}"
        return f"proxy-authorization: Basic {b64encode(secret.encode()).decode()}\r\n"


class Dialler:
    """Opens connections to one store."""

    def __init__(
        self,
        url: str,
        *,
        trusted: Authorities,
        proxy: Proxy | None,
        connect_timeout: float,
        silence: float,
        receive_buffer: int,
    ) -> None:
        """Take where the store is and how to reach it.

        Args:
            url: Of the store; only scheme, host and port matter.
            trusted: Who vouches for a store, or a proxy.
            proxy: What to go through.
            connect_timeout: Seconds for TCP, proxy and TLS.
            silence: Seconds for which the store may say nothing while something is waited for.
            receive_buffer: Bytes that the kernel takes in for one connection.
        """
        self._store = urlsplit(url)
        self._trusted = trusted
        self._proxy = proxy
        self._connect_timeout = connect_timeout
        self._silence = silence
        self._sockets = partial(_socket, receive_buffer)

    @property
    def target(self) -> str:
        """What comes before the path of a request (RFC 9112, section 3.2.2)."""
        return f"http://{self._store.netloc}" if self._proxy and self._store.scheme == "http" else ""

    @property
    def fields(self) -> str:
        """The fields that each request needs on its way, each with its end of line."""
        return self._proxy.authorization if self._proxy and self._store.scheme == "http" else ""

    async def dial(self) -> Connection:
        """Open a connection.

        Raises:
            OSError: It cannot be opened, or not in time.
        """
        async with asyncio.timeout(self._connect_timeout):
            hop = self._proxy.url if self._proxy else self._store
            connection = await self._connected(hop)
            try:
                await self._prepare(connection, hop)
            except BaseException:
                connection.abort()
                raise
            return connection

    async def _connected(self, hop: SplitResult) -> Connection:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(hop.hostname, _port(hop), type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        opened = await start_connection(
            found, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY, interleave=1, socket_factory=self._sockets
        )
        _, connection = await loop.create_connection(lambda: Connection(silence=self._silence), sock=opened)
        return connection

    async def _prepare(self, connection: Connection, hop: SplitResult) -> None:
        if hop.scheme == "https":
            await connection.secure(await self._trusted.context(), hop.hostname)
        if self._proxy is not None and self._store.scheme == "https":
            await self._tunnel(connection, self._proxy)
            await connection.secure(await self._trusted.context(), self._store.hostname)

    async def _tunnel(self, connection: Connection, proxy: Proxy) -> None:
        """Have the proxy connect us with the store (RFC 9110, section 9.3.6)."""
        place = f"{self._store.hostname}:{_port(self._store)}"
        connection.send(f"CONNECT {place} HTTP/1.1\r\nhost: {place}\r\n{proxy.authorization}\r\n".encode())
        head = await connection.head()
        if head is None or not head.ok:
            raise StoreUnavailable("The proxy does not lead to the object store.")


def _port(url: SplitResult) -> int:
    return url.port or {"http": 80, "https": 443}[url.scheme]


def _socket(receive_buffer: int, address: AddrInfoType) -> socket.socket:
    opened = socket.socket(*address[:3])
    opened.settimeout(0)  # the event loop wants it so
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)  # before it connects: see tcp(7)
    return opened
