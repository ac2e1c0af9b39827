"""Holds answers against what is known of the media: status, length, bytes, validators and the contract's fields."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import httpx

from tests.bench.speed.asks import Ask

AT_ONCE = 4  # requests
PATIENCE = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Expected:
    """What an answer has to be."""

    status: int
    source: str | None
    """Of the gateway's own answers, which have to be as the contract has them; None of all others."""


async def faults(client: httpx.AsyncClient, base: str, asks: Sequence[Ask], expected: Expected) -> list[str]:
    """Send the requests, and return what is wrong with the answers."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def ask(one: Ask) -> list[str]:
        async with turns:
            return await _faults_of(client, base, one, expected)

    return [fault for found in await asyncio.gather(*map(ask, asks)) for fault in found]


async def _faults_of(client: httpx.AsyncClient, base: str, ask: Ask, expected: Expected) -> list[str]:
    answer = await _send(client, ask.method, base + ask.path, ask.headers)
    found = list(_faults(answer, ask, expected))
    if not found and answer.status == 307:
        arrived = await _send(client, "GET", answer.headers["location"], {})
        found = list(_faults(arrived, ask, Expected(200, None)))
    return [f"{ask.method} {ask.path.partition('?')[0]}: {fault}" for fault in found]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: httpx.Headers
    size: int
    sha256: str


async def _send(client: httpx.AsyncClient, method: str, url: str, headers: dict[str, str]) -> _Answer:
    digest, size = hashlib.sha256(), 0
    async with client.stream(method, url, headers=headers) as response:
        async for chunk in response.aiter_raw():
            digest.update(chunk)
            size += len(chunk)
    return _Answer(response.status_code, response.headers, size, digest.hexdigest())


def _faults(answer: _Answer, ask: Ask, expected: Expected) -> Iterator[str]:
    medium, has_body = ask.medium, ask.method == "GET" and expected.status == 200
    if answer.status != expected.status:
        yield f"status {answer.status} instead of {expected.status}"
        return
    if expected.status == 200 and answer.headers.get("content-length") != str(medium.size):
        yield f"a Content-Length of {answer.headers.get('content-length')} instead of {medium.size}"
    if answer.size != (medium.size if has_body else 0) or (has_body and answer.sha256 != medium.sha256):
        yield f"other bytes, {answer.size} of them"
    if expected.source is not None:
        for name, pattern in _fields(ask, expected.status, expected.source).items():
            if not fnmatchcase(answer.headers.get(name, ""), pattern):
                yield f"{name} is {answer.headers.get(name)} instead of {pattern}"


def _fields(ask: Ask, status: int, source: str) -> dict[str, str]:
    """Return what the contract wants in the fields of an answer, as patterns of a shell."""
    common = {"x-media-source": source, "x-media-variant": "original", "x-request-id": "?*", "set-cookie": ""}
    if status == 307:
        return common | {"location": f"http://*/{ask.medium.key}[?]*", "cache-control": "private, max-age=*"}
    common |= {"etag": ask.medium.etag, "last-modified": "* GMT", "server-timing": f"{source};dur=*"}
    common |= {"cache-control": "max-age=86400, private, immutable, no-transform"}
    if status == 304:
        return common
    digest = b64encode(bytes.fromhex(ask.medium.sha256)).decode()
    return common | {
        "content-type": "application/octet-stream",
        "content-disposition": "attachment",
        "content-security-policy": "*; sandbox",
        "accept-ranges": "bytes",
        "repr-digest": f"sha-256=:{digest}:",
        "x-content-type-options": "nosniff",
    }
