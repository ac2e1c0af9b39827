"""200, 206, 304 and 416 over any source: what to answer is decided as a value, then sent as ASGI messages."""

import asyncio
import secrets
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from time import perf_counter

import structlog
from starlette.types import Receive, Send

from gateway.conditional import Outcome, Validators, evaluate, format_http_date, range_applies
from gateway.disposition import content_disposition
from gateway.errors import PreconditionFailed, RangeNotSatisfiable
from gateway.ranges import Multipart, NoParts, content_range, multipart, parse_range, unsatisfied_range
from gateway.variants import AUTO, ORIGINAL
from storage.errors import MediaError, StoreUnavailable
from storage.representation import Opened, Representation
from storage.store import ByteRange

PRIVATE = "max-age=86400, private, immutable, no-transform"
PUBLIC = "max-age=31536000, public, immutable, no-transform"  # for a CDN that has checked the viewer itself
# What counts for the CDN alone (RFC 9213). No s-maxage: Cloudflare would not serve stale any more.
CDN = "max-age=31536000, stale-if-error=604800"
# Nothing that a sender made may run, load or ask anything in our origin, even when it is opened in a tab of its own.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'; form-action 'none'; base-uri 'none'; sandbox"
)

log = structlog.get_logger()
RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the request asks of whatever representation there is."""

    method: str
    headers: Mapping[str, str]
    """Lower-case names; the values of a repeated field joined by a comma."""
    variant: str = ORIGINAL
    """As the URL names it."""
    shown: str = ORIGINAL
    """The name of the variant that is served for it."""
    final: bool = True
    """Whether it may be kept: what stands in for a variant that is not ready may not."""
    cache_tags: str | None = None
    """For a CDN that has proven itself, by which it can be told to forget; None for everybody else."""
    download: bool = False
    filename: str | None = None
    """Of the message's record."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a request, without its bytes."""

    status: int
    headers: RawHeaders
    ranges: tuple[ByteRange, ...] | None
    """What to send: None is the whole, an empty tuple nothing."""
    parts: Multipart | None = None
    length: int | None = None
    """Of the body that is sent to ``GET``, in bytes; None: nobody knows."""


def decide(asked: Asked, representation: Representation) -> Decision:
    """Decide the answer by RFC 9110 section 13.2.2 and section 14.

    Raises:
        PreconditionFailed: 412.
        RangeNotSatisfiable: 416.
    """
    etag = f'"{representation.sha256}"' if representation.sha256 else None
    validators = Validators(etag, representation.last_modified)
    outcome = evaluate(asked.method, asked.headers, validators)
    if outcome is Outcome.PRECONDITION_FAILED:
        raise PreconditionFailed
    if outcome is Outcome.NOT_MODIFIED:
        return Decision(
            304, _encoded(_caching(asked, representation, etag) | _source(asked, representation)), (), length=0
        )
    headers = _describing(asked, representation, etag)
    size = representation.size
    if size is None:  # the provider has not said how much is coming: neither a length nor ranges
        return Decision(200, _encoded(headers), None)
    headers["accept-ranges"] = "bytes"
    applies = range_applies(asked.method, asked.headers, validators)
    selection = parse_range(asked.headers.get("range") if applies else None, size)
    if selection is NoParts.UNSATISFIABLE:
        raise RangeNotSatisfiable(headers={"Content-Range": unsatisfied_range(size)})
    if isinstance(selection, NoParts):
        return Decision(200, _encoded(headers | {"content-length": str(size)}), None, length=size)
    return _partial(headers, selection, size, verified=representation.verified)


def _partial(headers: dict[str, str], ranges: tuple[ByteRange, ...], size: int, *, verified: bool) -> Decision:
    if not verified and all(byte_range.stop < size for byte_range in ranges):
        # These bytes will have been sent before the last one is verified; a cache must not keep what may be wrong.
        headers["cache-control"] = "no-store"
        headers.pop("cdn-cache-control", None)
    if len(ranges) == 1:
        headers["content-range"] = content_range(ranges[0], size)
        headers["content-length"] = str(ranges[0].length)
        return Decision(206, _encoded(headers), ranges, length=ranges[0].length)
    parts = multipart(ranges, size, content_type=headers["content-type"], boundary=secrets.token_hex(16))
    headers |= {"content-type": parts.content_type, "content-length": str(parts.content_length)}
    return Decision(206, _encoded(headers), ranges, parts, parts.content_length)


def _caching(asked: Asked, representation: Representation, etag: str | None) -> dict[str, str]:
    """Return what a 304 repeats of the 200 (RFC 9110 section 15.4.5)."""
    headers = {"cache-control": "no-store", "last-modified": format_http_date(representation.last_modified)}
    if asked.cache_tags is None:
        headers["cache-control"] = PRIVATE if asked.final else "no-store"
    elif asked.final and _is_certain(asked, representation):
        headers |= {"cache-control": PUBLIC, "cdn-cache-control": CDN, "cache-tag": asked.cache_tags}
    if asked.variant == AUTO:
        headers["vary"] = "Accept"
    return headers | ({"etag": etag} if etag else {})


def _is_certain(asked: Asked, representation: Representation) -> bool:
    """Whether a CDN may keep the answer, for everybody and a year.

    Not what was only declared, which is all that a ``HEAD`` tells of a medium that nobody has seen; nor a body without
    a length, of which CloudFront keeps what has come when it breaks off.
    """
    return representation.verified or (asked.method == "GET" and representation.size is not None)


def _source(asked: Asked, representation: Representation) -> dict[str, str]:
    return {"x-media-source": representation.source, "x-media-variant": asked.shown.partition("/")[0]}


def _describing(asked: Asked, representation: Representation, etag: str | None) -> dict[str, str]:
    content_type = representation.content_type
    headers = _caching(asked, representation, etag) | _source(asked, representation)
    headers |= {
        "content-type": content_type,
        "content-disposition": content_disposition(
            asked.filename, attachment=asked.download, content_type=content_type
        ),
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "cross-origin-resource-policy": "cross-origin",
        "x-content-type-options": "nosniff",
    }
    if representation.sha256:
        headers["repr-digest"] = f"sha-256=:{b64encode(bytes.fromhex(representation.sha256)).decode()}:"
    return headers


def _encoded(headers: Mapping[str, str]) -> RawHeaders:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def server_timing(source: str, began: float) -> tuple[bytes, bytes]:
    """Return the field that says how long a layer took to be ready, since that moment of `time.perf_counter`."""
    return b"server-timing", f"{source};dur={(perf_counter() - began) * 1000:.1f}".encode()


async def send_bodyless(decision: Decision, send: Send) -> None:
    """Send an answer to ``HEAD``, or one that has no body."""
    await send({"type": "http.response.start", "status": decision.status, "headers": decision.headers})
    await send({"type": "http.response.body", "body": b""})


async def send_body(decision: Decision, opened: Opened, receive: Receive, send: Send) -> int:
    """Send an answer with its body, and return the number of bytes.

    What breaks off after the first byte breaks the connection: the server closes it when we return without having
    ended the body, and no client takes the rest for the whole. A client that leaves ends the reading.
    """
    await send({"type": "http.response.start", "status": decision.status, "headers": decision.headers})
    sent = 0
    gone: asyncio.Task[None] | None = None
    try:
        async with aclosing(_body(decision, opened)) as chunks:
            async for chunk in chunks:
                if gone is not None and gone.done():
                    return sent
                if sent + len(chunk) == decision.length:
                    await _end(chunks)
                    break
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                sent += len(chunk)
                chunk = b""  # noqa: PLW2901 or it would be kept until the next one is there
                # A server waits before it takes more, not behind it: nothing is read ahead for a slow client.
                await send({"type": "http.response.body", "body": b"", "more_body": True})
                if gone is None:
                    gone = asyncio.create_task(_disconnected(receive))
            else:
                chunk = b""
        await send({"type": "http.response.body", "body": chunk})
        sent += len(chunk)
    except MediaError as error:
        log.warning("body broke off", error=type(error).__name__, detail=str(error), sent=sent)
    finally:
        if gone is not None:
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone
    return sent


async def _end(chunks: AsyncIterator[bytes]) -> None:
    """Read on behind the last byte: what is verified there fails before the answer is complete."""
    if await anext(chunks, None) is not None:
        raise StoreUnavailable("There are more bytes than there should be.")


async def _body(decision: Decision, opened: Opened) -> AsyncGenerator[bytes, None]:
    if decision.parts is None:
        for byte_range in decision.ranges if decision.ranges is not None else (None,):
            async for chunk in opened.read(byte_range):
                yield chunk
        return
    for head, byte_range in decision.parts.parts:
        yield head
        async for chunk in opened.read(byte_range):
            yield chunk
    yield decision.parts.closing


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
