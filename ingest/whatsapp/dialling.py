"""Whom the client may call: an allow-list of hosts, and a guard on the address that is really dialled."""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpcore
import httpx

from storage.authorities import Authorities
from storage.errors import OriginFailed

META_HOSTS = "lookaside.fbsbx.com,.fbsbx.com,.fbcdn.net"
"""Where Meta keeps media: the first is documented, the others are seen on its CDN."""

MAX_CONNECTIONS = 100
KEEPALIVE_SECONDS = 30.0

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Looks a host name and port up; returns IP addresses, best first. Raises OSError or UnicodeError."""
InwardRule = Callable[[str, int], bool]
"""Whether a host and port may have an address that is not on the public internet."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_MAX_NAME_LENGTH = 253  # characters, RFC 1035 section 2.3.4
_MAX_PORT = 0xFFFF
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public internet (IANA special-purpose registries, RFC 6890).

    Raises:
        ValueError: It is no IP address.
    """
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and parsed in _NAT64:
        parsed = IPv4Address(int(parsed) & 0xFFFFFFFF)  # RFC 6052: the last 32 bits are the address that is meant
    if isinstance(parsed, IPv4Address):
        return parsed.is_global and not parsed.is_multicast
    return parsed.is_global and parsed in _GLOBAL_UNICAST and parsed not in _6TO4


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRule:
    """One entry of the allow-list."""

    host: str
    """Lower-case, A-labels; of a suffix, without its leading dot."""
    schemes: frozenset[str]
    port: int | None
    """None: any."""
    is_suffix: bool
    inward: bool
    """Whether the operator named exactly this host, so that it may have a private address."""

    @classmethod
    def parse(cls, entry: str) -> "HostRule":
        """Read ``host``, ``host:port``, ``.suffix``, ``*.suffix``, ``http://host`` or ``https://host``.

        Raises:
            ValueError: It is none of these; a suffix has two labels at least, and no plain http.
        """
        scheme, _, rest = entry.rpartition("://")
        authority = rest.removeprefix("*.").removeprefix(".")
        is_suffix = authority != rest
        try:
            url = canonical(_authority(authority))
        except ValueError:
            raise ValueError(f"{entry!r} names no host") from None
        host = url.raw_host.decode("ascii")
        is_address = _is_ip(host)
        if is_suffix and (scheme == "http" or "." not in host or is_address):
            raise ValueError(f"{entry!r} names too many hosts")
        if scheme not in ("", *_DEFAULT_PORTS):
            raise ValueError(f"{entry!r} is neither http nor https")
        named = not is_suffix and host not in META_HOSTS.split(",")
        local = not is_suffix and (host == "localhost" or (is_address and not is_public(host)))
        return cls(
            host=host,
            schemes=frozenset({scheme} if scheme else _DEFAULT_PORTS if local else {"https"}),
            port=url.port if url.port is not None or named else _DEFAULT_PORTS["https"],
            is_suffix=is_suffix,
            inward=named,
        )

    def names(self, host: str, port: int) -> bool:
        """Tell whether it means this host and port; a suffix means no IP address."""
        if self.port not in (None, port):
            return False
        return host.endswith("." + self.host) and not _is_ip(host) if self.is_suffix else host == self.host


@dataclass(frozen=True, slots=True)
class HostRules:
    """The hosts that a download URL, or a redirect, may name; everything else is refused."""

    rules: tuple[HostRule, ...]

    @classmethod
    def parse(cls, text: str) -> "HostRules":
        """Read entries with commas between them; raises ValueError, naming the entry that is wrong."""
        return cls(tuple(HostRule.parse(entry.strip()) for entry in text.split(",") if entry.strip()))

    def check(self, url: str | httpx.URL) -> httpx.URL:
        """Return the URL as it will be dialled.

        Raises:
            OriginFailed: It is malformed, has user information, or names what is not on the list. Never holds the URL.
        """
        try:
            parsed = canonical(httpx.URL(url))
            host, port = host_and_port(parsed)
        except (httpx.InvalidURL, ValueError):
            raise OriginFailed("The provider named a malformed URL.") from None
        if parsed.userinfo or not any(parsed.scheme in r.schemes and r.names(host, port) for r in self.rules):
            raise OriginFailed(f"The provider named a host that is not allowed: {parsed.scheme}://{host}:{port}.")
        return parsed

    def allow_inward(self, host: str, port: int) -> bool:
        """Tell whether the operator named exactly this host, so that it may have a private address."""
        return any(rule.inward and rule.names(host, port) for rule in self.rules)


async def system_resolver(host: str, port: int) -> list[str]:
    """Ask the system's resolver, in a thread."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Looks a name up once, checks every address it has, and connects to the one it checked.

    A second lookup, by whatever connects, could answer differently (DNS rebinding). TLS still sees the name.
    """

    def __init__(self, allow_inward: InwardRule, resolver: Resolver = system_resolver) -> None:
        self._allow_inward = allow_inward
        self._resolver = resolver
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect within ``timeout`` seconds, the lookup included.

        Raises:
            OriginFailed: The name has an address that may not be dialled.
            httpcore.ConnectError: It has no address, or none answers.
            httpcore.ConnectTimeout: It took too long.
        """
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._checked_addresses(host, port)
                share = timeout / len(addresses) if timeout is not None else None
                for address in addresses[:-1]:
                    try:
                        return await self._network.connect_tcp(address, port, share, local_address, socket_options)
                    except (httpcore.ConnectError, httpcore.ConnectTimeout):
                        continue  # the last one's error is the one that counts
                return await self._network.connect_tcp(addresses[-1], port, share, local_address, socket_options)
        except TimeoutError:
            raise httpcore.ConnectTimeout from None

    async def _checked_addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = await self._resolver(host, port)
        except (OSError, UnicodeError) as error:  # the latter for a label of more than 63 characters
            raise httpcore.ConnectError("no such host") from error
        if not addresses:
            raise httpcore.ConnectError("no such host")
        if not self._allow_inward(host, port) and not all(is_public(address) for address in addresses):
            raise OriginFailed("The provider named a host with an address that may not be dialled.")
        return addresses


class GuardedTransport(httpx.AsyncHTTPTransport):
    """HTTP/1.1 over a `GuardedBackend`; no proxy, and nothing else from the environment."""

    def __init__(self, backend: GuardedBackend, authorities: Authorities | None = None) -> None:
        super().__init__(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False)  # which trusts nobody
        self._backend = backend
        self._authorities = authorities or Authorities()
        self._is_trusting = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the first one waits until the authorities are read."""
        context = await self._authorities.context()
        if not self._is_trusting:
            self._pool = self._connections(context)
            self._is_trusting = True
        return await super().handle_async_request(request)

    def _connections(self, context: ssl.SSLContext) -> httpcore.AsyncConnectionPool:
        # httpx has no parameter for the network backend; it is its attribute for this that a test pins.
        return httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=MAX_CONNECTIONS,
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=self._backend,
        )


def canonical(url: httpx.URL) -> httpx.URL:
    """Return the URL with the one spelling of its host; raises ValueError where it has none."""
    host = url.raw_host.decode("ascii").lower().removesuffix(".")
    if ":" in host:
        return url.copy_with(host=str(IPv6Address(host)))
    if len(host) > _MAX_NAME_LENGTH or not _NAME.fullmatch(host):
        raise ValueError("no host")
    return url.copy_with(host=host)


def host_and_port(url: httpx.URL) -> tuple[str, int]:
    """Return what a canonical URL is dialled at; raises ValueError where that is no port."""
    port = url.port if url.port is not None else _DEFAULT_PORTS.get(url.scheme, 0)
    if not 0 < port <= _MAX_PORT:
        raise ValueError("no port")
    return url.raw_host.decode("ascii"), port


def _authority(text: str) -> httpx.URL:
    """Parse ``host[:port]``; raises ValueError where there is more than that."""
    try:
        url = httpx.URL(f"//[{text}]" if text.count(":") > 1 and "[" not in text else f"//{text}")
    except httpx.InvalidURL:
        raise ValueError("no host") from None
    if url.userinfo or url.raw_path not in (b"", b"/") or url.fragment:
        raise ValueError("more than a host")
    return url


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
