"""Answers as they go over the wire, kept by all that they depend on, as caches do by ``Vary`` (RFC 9111 4.1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol, Self

from starlette.types import Scope

from gateway.accesslog import Line
from gateway.forwarded import Fields
from gateway.metrics.batch import Answer
from gateway.responses import Decision, RawHeaders
from storage.record import MediaRecord, Variant
from storage.representation import Source
from storage.store import ByteRange

_AUTO = b"variant=auto"


class Role(IntEnum):
    """What a field of a request means for its answer."""

    DEPENDS = 1
    """Another value may get another answer."""
    NEGOTIATES = 2
    """The same, but only where the URL asks for ``auto``."""
    BARS = 3
    """Such a request is not answered from here."""
    HOP = 4
    """Says who the client is."""
    NAMES = 5
    """The client's own id of the request."""


ROLES = {
    b"range": Role.DEPENDS,
    b"if-range": Role.DEPENDS,
    b"if-match": Role.DEPENDS,
    b"if-none-match": Role.DEPENDS,
    b"if-modified-since": Role.DEPENDS,
    b"if-unmodified-since": Role.DEPENDS,
    b"x-origin-verify": Role.DEPENDS,
    b"x-sendfile-type": Role.DEPENDS,
    b"accept": Role.NEGOTIATES,
    b"x-api-key": Role.BARS,
    b"origin": Role.BARS,
    b"expect": Role.BARS,
    b"content-length": Role.BARS,
    b"transfer-encoding": Role.BARS,
    b"forwarded": Role.HOP,
    b"x-forwarded-for": Role.HOP,
    b"x-request-id": Role.NAMES,
}
"""All fields that a medium's answer can depend on. A token is none: it is not looked at where something better is."""


class Key(NamedTuple):
    """What a request's answer depends on, and what is particular to the request."""

    value: bytes
    request_id: bytes = b""
    hops: tuple[tuple[bytes, bytes], ...] = ()
    """The fields that say who the client is."""


def key_of(method: bytes, target: bytes, fields: Fields, *, barred: frozenset[bytes] = frozenset()) -> Key | None:
    """Return what a request's answer is kept by, or None where it cannot be kept.

    Args:
        method: As in the request's line, like ``target``: the path and the query.
        target: Of the request.
        fields: With names in lower case.
        barred: Further fields that keep an answer from being kept.
    """
    parts, request_id = [method, target], b""
    hops: tuple[tuple[bytes, bytes], ...] = ()
    for name, value in fields:
        role = ROLES.get(name)
        if role is None:
            if name in barred:
                return None
        elif role is Role.DEPENDS or (role is Role.NEGOTIATES and negotiates(target)):
            parts += (name, value)
        elif role is Role.NAMES:
            request_id = request_id or value
        elif role is Role.HOP:
            hops = (*hops, (name, value))
        elif role is Role.BARS:
            return None
    # No part holds a line feed: the parser refuses it in all of them.
    return Key(b"\n".join(parts), request_id, hops)


def negotiates(target: bytes) -> bool:
    """Whether `key_of` knows that the answer depends on ``Accept``: a client may write ``auto`` in other ways too."""
    return _AUTO in target


class Route(Protocol):
    """What answered, as metrics and log name it."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One answer, and what has to be so that it still holds."""

    status: int
    fields: RawHeaders
    """Without those that belong to a single answer."""
    head: bytes
    """The same as they go over the wire."""
    body: ByteRange | None
    """What is sent of the medium; None: nothing."""
    source: Source
    in_memory: bool | None
    """Whether the medium has to be in memory, or must not be; None where it does not matter."""
    record: MediaRecord
    """As the record cache has it."""
    variants: Mapping[str, Variant] | None
    """The same of the variants, where they matter."""
    shown: MediaRecord
    """The record with the variant that is served in place of the original."""
    address: tuple[str, str]
    """Of the medium in memory: workspace and SHA-256."""
    credential: str
    """What pays besides the address; empty where nobody pays."""
    until: float
    """Unix seconds."""
    peer: str | None
    """The address of the proxy that alone is answered so; None: everybody."""
    elsewhere: int
    """Bytes that our own server in front sends for it."""
    size: int
    """Bytes of the body that is sent."""
    route: Route
    counted: Answer
    line: Line

    @classmethod
    def of(cls, scope: Scope, decision: Decision, *, shown: MediaRecord, body: ByteRange | None, **holds: Any) -> Self:
        """Prepare the answer to a request as it was decided; ``holds`` are further attributes."""
        stored = shown.stored
        if stored is None:
            raise ValueError("nothing can be prepared of what is not stored")
        fields = [field for field in decision.headers if field[0] != b"server-timing"]
        method, route, size = scope["method"], scope["route"], body.length if body is not None else 0
        status, source = decision.status, holds["source"]
        return cls(
            status=status,
            fields=fields,
            head=encoded(fields),
            body=body,
            shown=shown,
            address=(stored.workspace_id, stored.sha256),
            size=size,
            route=route,
            counted=Answer(route.name, method, status, source, size, from_memory=body is not None),
            line=Line.of(method, scope["path"], route=route.name, status=status, source=source, size=size),
            **holds,
        )

    @property
    def part(self) -> ByteRange | None:
        """What is sent of the medium where that is not all of it."""
        stored = self.shown.stored
        return self.body if stored is None or self.size != stored.size else None


def target_of(scope: Scope) -> bytes:
    """Return path and query as in the line of a request."""
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


def encoded(fields: Fields) -> bytes:
    """Return header fields as HTTP/1.1 has them (RFC 9112 section 5)."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


STATUS_LINES = {int(status): b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
