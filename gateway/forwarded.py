"""Who a request comes from where proxies stand in front: only what trusted ones have written counts."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Self

from starlette.types import Scope

MAX_HOPS = 16  # proxies in a row
_MAX_FORWARDED = 4096  # characters
_MAX_SUBJECT = 1024  # characters
_REMEMBERED = 1024  # addresses that are not parsed again: parsing costs more than all else here

# RFC 9110 section 5.6: token and quoted-string; RFC 7239 section 4: a pair of them and what may follow it.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # noqa: S105 a grammar's word
_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
_PAIR = re.compile(rf"[ \t]*+(?:({_TOKEN})=({_TOKEN}|{_QUOTED})[ \t]*+)?+([;,]|\Z)")
_ESCAPED = re.compile(r"\\(.)")
# RFC 7239 section 6: a node that is an address, and its port.
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15}))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?")
_BARE_V6 = re.compile(r"[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*")

Address = IPv4Address | IPv6Address
Fields = Collection[tuple[bytes, bytes]]
"""A request's header fields as ASGI has them: names in lower case."""


def peer_of(scope: Scope) -> str:
    """Return the address at the other end of a request's connection, empty where it has none."""
    return scope["client"][0] if scope.get("client") else ""


def joined(fields: Fields, name: bytes) -> str | None:
    """Return a field's value as it came, those of a repeated one joined (RFC 9110 section 5.3)."""
    values = [value.decode("latin-1") for field, value in fields if field == name]
    return ", ".join(values) if values else None


class Networks:
    """A set of addresses, as networks."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Take networks in CIDR notation, or single addresses.

        Raises:
            ValueError: One is malformed, has bits set behind its prefix, or is everybody.
        """
        self._prefixes: dict[tuple[int, int], set[int]] = {}
        for text in networks:
            network = ip_network(text)
            if not network.prefixlen:
                raise ValueError(f"{text} would let every client say who it is")
            shift = network.max_prefixlen - network.prefixlen
            self._prefixes.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read networks and addresses with commas between them, such as ``10.0.0.0/8,127.0.0.1,::1``.

        Raises:
            ValueError: As the constructor.
        """
        return cls(part.strip() for part in text.split(",") if part.strip())

    def __contains__(self, address: Address | None) -> bool:
        """Whether an address is in one of the networks."""
        if address is None:
            return False
        number, version = int(address), address.version
        return any(number >> shift in prefixes for (of, shift), prefixes in self._prefixes.items() if of == version)

    def has(self, peer: str) -> bool:
        """Whether the other end of a connection is in one of the networks; what is no address is in none."""
        return _address(peer.partition("%")[0]) in self


def client_address(peer: str, fields: Fields, trusted: Networks) -> str:
    """Return the address of the client, normalised: IPv4 addresses that are mapped into IPv6 as IPv4.

    ``Forwarded`` (RFC 7239) or ``X-Forwarded-For`` is read from its end, hop by hop, for as long as the hop that
    wrote it is trusted; the first that is not is the client. Where a hop's name is missing, hidden or malformed, the
    client is the last one that is known: never what somebody untrusted has written. A proxy passes on unread the
    field that it does not write itself: where both are there and disagree, neither is believed.

    Args:
        peer: The address at the other end of the connection; what is none is returned as it is.
        fields: Of the request.
        trusted: The proxies that tell the truth.
    """
    nearest = _address(peer.partition("%")[0])
    if nearest is None:
        return peer
    if nearest not in trusted:
        return str(nearest)
    chains = _forwarded(joined(fields, b"forwarded")), _x_forwarded_for(joined(fields, b"x-forwarded-for"))
    told = {_walk(nearest, chain, trusted) for chain in chains if chain is not None}
    return str(told.pop() if len(told) == 1 else nearest)


@lru_cache(_REMEMBERED)
def subscriber(address: str) -> str:
    """Return the least that a customer of a network gets: an IPv4 address, or a /64 of IPv6 (RFC 6177 section 2)."""
    parsed = _address(address)
    if not isinstance(parsed, IPv6Address):
        return address
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"


@dataclass(frozen=True, slots=True)
class CertificateFields:
    """How a proxy tells of the certificate that a client has shown to it."""

    subject: bytes
    """The field with the subject's distinguished name."""
    verified: bytes | None = None
    """The field that says ``SUCCESS`` where the certificate was verified; None: the subject is only sent then."""


NGINX = CertificateFields(b"x-ssl-client-s-dn", b"x-ssl-client-verify")
ALB = CertificateFields(b"x-amzn-mtls-clientcert-subject")
"""AWS's load balancer with mutual TLS in its verify mode."""


def client_certificate(peer: str, fields: Fields, trusted: Networks, names: CertificateFields) -> str | None:
    """Return the subject of a certificate that a trusted proxy has verified; None: there is no such thing."""
    if not trusted.has(peer):
        return None
    if names.verified is not None and _single(fields, names.verified) != "SUCCESS":
        return None
    subject = _single(fields, names.subject)
    return subject if subject and len(subject) <= _MAX_SUBJECT and subject.isprintable() else None


def _walk(nearest: Address, hops: Sequence[str | None], trusted: Networks) -> Address:
    client = nearest
    for hop in reversed(hops):
        node = _node(hop) if hop is not None else None
        if node is None:
            return client
        client = node
        if node not in trusted:
            return client
    return client


def _forwarded(text: str | None) -> Sequence[str | None] | None:
    """Return the ``for`` of each element, None where it has none; a malformed or endless field tells of nobody."""
    if text is None:
        return None
    if len(text) > _MAX_FORWARDED:
        return ()
    elements: list[dict[str, str]] = [{}]
    position, delimiter = 0, ","
    while delimiter:
        pair = _PAIR.match(text, position)
        if pair is None:
            return ()
        name, value, delimiter = pair.groups()
        if name is not None:
            if name.lower() in elements[-1]:
                return ()  # RFC 7239 section 4: no parameter twice in an element
            elements[-1][name.lower()] = value
        if delimiter == ",":
            elements.append({})
        position = pair.end()
    return [_unquoted(element.get("for")) for element in elements if element][-MAX_HOPS:]


def _x_forwarded_for(text: str | None) -> Sequence[str] | None:
    if text is None:
        return None
    hops = (hop.strip() for hop in text.rsplit(",", MAX_HOPS)[-MAX_HOPS:])
    return [f"[{hop}]" if _BARE_V6.fullmatch(hop) else hop for hop in hops if hop]


def _node(text: str) -> Address | None:
    found = _NODE.fullmatch(text)
    return _address(found[1] or found[2]) if found else None


@lru_cache(_REMEMBERED)
def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _unquoted(value: str | None) -> str | None:
    return _ESCAPED.sub(r"\1", value[1:-1]) if value is not None and value.startswith('"') else value


def _single(fields: Fields, name: bytes) -> str | None:
    values = [value for field, value in fields if field == name]
    return values[0].decode("latin-1").strip() if len(values) == 1 else None
