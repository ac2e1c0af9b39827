"""Where the issuer's keys are read from, a file or a URL, and how they are kept fresh without making anybody wait."""

import asyncio
import math
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import structlog
from jwt import PyJWK

from gateway.keyset import ALGORITHMS, KeySet
from gateway.settings import is_loopback

log = structlog.get_logger()

MAX_DOCUMENT = 256 * 1024  # bytes
MAX_WAITING = 1000  # callers for one reading; what they carry may be forged, and costs a connection each


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How long keys are used and how long is waited for newer ones, in seconds."""

    max_age: float
    """When keys are read again, by the next who asks for one."""
    cooldown: float
    """Between the end of one reading and the beginning of the next, whoever asks for whatever."""
    grace: float
    """That somebody whose key is known waits for a reading that is due."""
    patience: float
    """That somebody whose key is unknown waits for a reading, and that a URL has to answer."""
    stale: float
    """After which keys that could not be read again are good for nothing."""


FILE = Freshness(max_age=5, cooldown=5, grace=1, patience=5, stale=24 * 3600)
URL = Freshness(max_age=600, cooldown=30, grace=0, patience=5, stale=24 * 3600)


class Jwks:
    """Keys that follow their document: one reading at a time, shared by all who wait for it.

    Args:
        read: Returns the whole document; raises ValueError, OSError or `httpx.HTTPError`.
        freshness: When to read again.
        clock: Monotonic seconds.
    """

    algorithms: Final = frozenset(ALGORITHMS)

    def __init__(
        self,
        read: Callable[[], Awaitable[bytes]],
        freshness: Freshness,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._freshness = freshness
        self._clock = clock
        self._document: bytes | None = None
        self._keys = KeySet()
        self._succeeded = -math.inf
        self._attempted = -math.inf
        self._reading: asyncio.Task[None] | None = None
        self._waiting = 0

    @property
    def current(self) -> KeySet:
        """The keys as last read, unless that is too long ago."""
        return self._keys if self._clock() - self._succeeded < self._freshness.stale else KeySet()

    async def find(self, algorithm: str, kid: str | None) -> PyJWK | None:
        """Return the key of that algorithm and id; reads the document again where it is due or the key is unknown."""
        if self._clock() - self._succeeded >= self._freshness.max_age:
            await self._refresh(self._freshness.grace)
        key = self.current.find(algorithm, kid)
        if key is None:
            await self._refresh(self._freshness.patience)
            key = self.current.find(algorithm, kid)
        return key

    async def load(self) -> None:
        """Read the document now; the keys stay the same objects where it has not changed.

        Raises:
            ValueError: It is too large, or not what `KeySet.parse` takes.
            OSError: The file cannot be read.
            httpx.HTTPError: The endpoint does not answer.
        """
        document = await self._read()
        if document != self._document:
            self._keys, self._document = KeySet.parse(document), document
            log.info("JWKS read", keys=len(self._keys.keys))
        self._succeeded = self._clock()

    def start(self) -> None:
        """Begin to read, unless that is going on or was tried a moment ago."""
        if self._reading is None and self._clock() - self._attempted >= self._freshness.cooldown:
            self._reading = asyncio.create_task(self._try())

    async def aclose(self) -> None:
        """End a reading that is going on."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _refresh(self, patience: float) -> None:
        self.start()
        if self._reading is None or self._waiting >= MAX_WAITING:
            return
        self._waiting += 1
        try:
            await asyncio.wait([self._reading], timeout=patience)
        finally:
            self._waiting -= 1

    async def _try(self) -> None:
        try:
            await self.load()
        except (ValueError, OSError, httpx.HTTPError) as error:
            log.warning("JWKS could not be read", error=type(error).__name__, detail=str(error))
        finally:
            self._attempted = self._clock()
            self._reading = None


@asynccontextmanager
async def open_jwks(
    location: str, freshness: Freshness | None = None, *, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[Jwks]:
    """Open the keys at a path or URL, the value of ``MEDIA_JWKS``.

    A file must be right now; an endpoint may come up later, as its failing must not keep the gateway down.

    Args:
        location: A path, or an https URL; http only to loopback.
        freshness: `FILE` or `URL` unless given.
        ssl_context: For https; that of httpx, which heeds ``SSL_CERT_FILE``, unless given.

    Raises:
        ValueError: The location is neither, or the file is missing, malformed or without a usable key.
    """
    if "://" in location:
        url = checked_url(location)
        if ssl_context is None:
            ssl_context = await asyncio.to_thread(httpx.create_ssl_context)  # reads a file of authorities
        async with (
            httpx.AsyncClient(verify=ssl_context, trust_env=False) as client,
            aclosing(_at_url(client, url, freshness or URL)) as jwks,
        ):
            yield jwks
    else:
        async with aclosing(await _in_file(Path(location), freshness or FILE)) as jwks:
            yield jwks


def checked_url(text: str) -> httpx.URL:
    """Return the URL of a JWK Set.

    Raises:
        ValueError: It is not https, nor http to loopback, or has credentials in it.
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise ValueError("is no URL") from None
    if not url.host or not (url.scheme == "https" or (url.scheme == "http" and is_loopback(url.host))):
        raise ValueError("must be a path or an https URL (http only to loopback)")
    if url.userinfo:
        raise ValueError("must not hold a password")
    return url


async def fetch(client: httpx.AsyncClient, url: httpx.URL, timeout: float) -> bytes:
    """Return the document at a URL; redirects are not followed, as they would let another host choose the keys.

    Raises:
        ValueError: The answer is not 200, or too large.
        OSError: It was not complete after ``timeout`` seconds.
        httpx.HTTPError: There was none.
    """
    headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
    async with (
        asyncio.timeout(timeout),
        client.stream("GET", url, headers=headers, follow_redirects=False, timeout=timeout) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise ValueError(f"the endpoint answered {response.status_code}")
        document = bytearray()
        async for chunk in response.aiter_raw():
            document += chunk
            if len(document) > MAX_DOCUMENT:
                raise ValueError(f"is larger than {MAX_DOCUMENT} bytes")
        return bytes(document)


def _at_url(client: httpx.AsyncClient, url: httpx.URL, freshness: Freshness) -> Jwks:
    jwks = Jwks(partial(fetch, client, url, freshness.patience), freshness)
    jwks.start()
    return jwks


async def _in_file(path: Path, freshness: Freshness) -> Jwks:
    jwks = Jwks(partial(asyncio.to_thread, read_file, path), freshness)
    try:
        await jwks.load()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if not jwks.current.keys:
        raise ValueError(f"has no key for {', '.join(sorted(ALGORITHMS))}")
    return jwks


def read_file(path: Path) -> bytes:
    """Return the document in a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no file, or too large.
    """
    if not path.is_file():  # to open a pipe would wait for its writer
        path.stat()
        raise ValueError("is not a file")
    with path.open("rb") as file:
        document = file.read(MAX_DOCUMENT + 1)
    if len(document) > MAX_DOCUMENT:
        raise ValueError(f"is larger than {MAX_DOCUMENT} bytes")
    return document
