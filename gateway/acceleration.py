"""Lets nginx send the bytes of a stored medium: the gateway decides, and answers with ``X-Accel-Redirect``.

nginx follows the field to an internal location, which takes the bytes from a file or from the store, and the fields of
the medium from this answer: see ``deploy/nginx``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import structlog

from gateway.delivery import READABLE_TIERS
from gateway.forwarded import Networks
from gateway.responses import Asked, Decision, RawHeaders
from storage.errors import StorageError
from storage.representation import Source
from storage.store import Presigner

FILES: Final = "/.media/files/"
STORE: Final = "/.media/store"
LIFE: Final = 600  # seconds of a URL that is used at once; a role's credentials are renewed a quarter of an hour early

# As Rack and Rails have it: by this field of a request, a server says that it can take over.
_OFFER: Final = ("x-sendfile-type", "X-Accel-Redirect")
# nginx has an answer of its own to these, and knows of the medium no more than the store does (RFC 9110 §13.1).
_CONDITIONS: Final = ("if-match", "if-unmodified-since")
# Of several ranges, and of one that is malformed or too large for 64 bits, it makes something else than we do.
_PLAIN_RANGE: Final = re.compile(r"bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})", re.IGNORECASE)
# What nginx would copy by itself, and again where we are asked a second time; and what it finds out with the bytes.
_RENAMED: Final = {b"cache-control": b"x-media-cache-control", b"content-disposition": b"x-media-content-disposition"}
_OF_THE_BYTES: Final = frozenset({b"accept-ranges", b"content-length", b"content-range"})
# Nobody reads them: nginx sends ours. They are constant, so that all readers of an object share one URL.
_OVERRIDES: Final = {
    "content_type": "application/octet-stream",
    "content_disposition": "attachment",
    "cache_control": "no-store",
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Accelerated:
    """An answer without a body, for nginx to complete."""

    status: int
    """Of the whole answer; nginx finds the same."""
    headers: RawHeaders


class Acceleration:
    """Hands stored media over to an nginx that is trusted and offers to send them."""

    def __init__(self, presigner: Presigner | None, trusted: Networks) -> None:
        """Take the store, None where the media are local files, and the networks in which nginx is."""
        self._presigner = presigner
        self._trusted = trusted

    async def hand_over(
        self,
        asked: Asked,
        decision: Decision,
        message_id: str,  # noqa: ARG002 one of several kinds of delivery
        key: str | None,
        *,
        tier: str,
        is_playlist: bool,
        peer: str,
    ) -> Accelerated | None:
        """Return what nginx needs to send the bytes, or None to send them; see `gateway.delivery.Delivery`."""
        offered = asked.headers.get(_OFFER[0]) == _OFFER[1] and self._trusted.has(peer)
        if not offered or key is None or is_playlist or not deliverable(asked, decision, tier):
            return None
        if (b"x-media-source", Source.CACHE.encode()) in decision.headers:
            return None  # what is in memory is sent faster than somebody else is told of it
        where = local_file(key) if self._presigner is None else await self._object(self._presigner, key)
        if where is None:
            return None
        return Accelerated(decision.status, [*_encoded(where), *_of_the_medium(decision)])

    async def _object(self, presigner: Presigner, key: str) -> Mapping[str, str] | None:
        try:
            presigned = await presigner.presign(key, life=LIFE, **_OVERRIDES)
        except StorageError as error:  # reading it meets the same fault, and has other layers to turn to
            log.warning("medium could not be presigned", error=type(error).__name__)
            return None
        if presigned is None:
            return None
        # Apart, as it was signed: nginx would write a path of its own, and it knows itself where the store is.
        host, _, path = presigned.url.partition("://")[2].partition("/")
        return {"X-Accel-Redirect": STORE, "X-Media-Object": f"/{path}", "X-Media-Object-Host": host}


def deliverable(asked: Asked, decision: Decision, tier: str) -> bool:
    """Whether nginx, with a file, a store or its cache, answers the request exactly as we do."""
    wanted = asked.headers.get("range")
    as_asked = (200 if wanted is None else 206) == decision.status and decision.parts is None
    plain = wanted is None or _PLAIN_RANGE.fullmatch(wanted) is not None
    unconditional = not any(field in asked.headers for field in _CONDITIONS)
    return asked.method == "GET" and as_asked and plain and unconditional and tier in READABLE_TIERS


def local_file(key: str) -> Mapping[str, str] | None:
    """Return the location of a file below the store's folder; None for a key that could lead out of it.

    nginx decodes the path once. A key holds percent-encodings of its own, which are a part of the file's name.
    """
    parts = key.split("/")
    if key.startswith(".") or "\0" in key or not {"", ".", ".."}.isdisjoint(parts):
        return None
    return {"X-Accel-Redirect": FILES + quote(key, safe="/")}


def _encoded(fields: Mapping[str, str]) -> RawHeaders:
    return [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in fields.items()]


def _of_the_medium(decision: Decision) -> RawHeaders:
    kept = [(_RENAMED.get(name, name), value) for name, value in decision.headers if name not in _OF_THE_BYTES]
    return [*kept, (b"content-length", b"0")]
