"""Answers as they go over the wire, kept by all that they depend on, as caches do by ``Vary`` (RFC 9111 4.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from typing import NamedTuple

from cachetools import LRUCache
from starlette.types import Scope

from gateway.accesslog import Line
from gateway.forwarded import Fields
from storage.record import MediaRecord, Variant
from storage.representation import Source
from storage.store import ByteRange

_AUTO = b"variant=auto"
MAX_ANSWERS = 4096  # of some 1.5 KB each


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
    has_hops: bool = False


def key_of(method: bytes, target: bytes, fields: Fields, *, barred: frozenset[bytes] = frozenset()) -> Key | None:
    """Return what a request's answer is kept by, or None where it cannot be kept.

    Args:
        method: As in the request's line, like ``target``: the path and the query.
        target: Of the request.
        fields: With names in lower case.
        barred: Further fields that keep an answer from being kept.
    """
    parts, request_id, has_hops = [method, target], b"", False
    for name, value in fields:
        role = ROLES.get(name)
        if role is None:
            if name in barred:
                return None
        elif role is Role.DEPENDS or (role is Role.NEGOTIATES and negotiates(target)):
            parts += (name, value)
        elif role is Role.NAMES:
            request_id = value
        elif role is Role.HOP:
            has_hops = True
        elif role is Role.BARS:
            return None
    # No part holds a line feed: the parser refuses it in all of them.
    return Key(b"\n".join(parts), request_id, has_hops)


def negotiates(target: bytes) -> bool:
    """Whether `key_of` knows that the answer depends on ``Accept``: a client may write ``auto`` in other ways too."""
    return _AUTO in target


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One answer, and what has to be so that it still holds."""

    status: int
    head: bytes
    """The fields, each with its end of line, but for those that belong to a single answer."""
    body: ByteRange | None
    """What is sent of the body that is in memory; None: nothing."""
    source: Source
    in_memory: bool | None
    """Whether the body has to be in the memory cache, or must not be; None where it does not matter."""
    record: MediaRecord
    """As the record cache has it."""
    variants: Mapping[str, Variant] | None
    """The same of the variants, where they matter."""
    shown: MediaRecord
    """The record with the variant that is served in place of the original."""
    credential: str
    """What pays besides the address; empty where nobody pays."""
    until: float
    """Unix seconds."""
    peer: str | None
    """The address of the proxy that alone is answered so; None: everybody."""
    line: Line
    route: str
    """For metrics."""

    @property
    def size(self) -> int:
        """The bytes of the body that is sent."""
        return self.body.length if self.body is not None else 0


Answers = LRUCache[bytes, Prepared]


def target_of(scope: Scope) -> bytes:
    """Return path and query as in the line of a request."""
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


def encoded(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return header fields as HTTP/1.1 has them (RFC 9112 section 5)."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


STATUS_LINES = {int(status): b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
