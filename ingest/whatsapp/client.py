"""Fetches media from the WhatsApp Cloud API: resolve the ID, download from where it says, believe neither."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from http import HTTPStatus
from types import MappingProxyType
from typing import Literal, Self

import httpx

from ingest.whatsapp.answers import Resolved, parse_resolved
from ingest.whatsapp.dialling import GuardedBackend, GuardedTransport, Resolver, system_resolver
from ingest.whatsapp.exchange import Exchange, read_answer, read_body, time_limit
from ingest.whatsapp.provider import Account, Provider
from storage.authorities import Authorities
from storage.errors import (
    OriginBusy,
    OriginError,
    OriginFailed,
    OriginGone,
    OriginLied,
    OriginRefused,
    OriginTimeout,
    OriginTooLarge,
)
from storage.origin import Download, MediaRef

MAX_HOPS = 3

Operation = Literal["resolve", "download"]
Outcome = Literal["ok", "gone", "busy", "refused", "timeout", "lied", "too_large", "failed", "abandoned"]
Observe = Callable[[Operation, Outcome, float], None]
"""Told of every call to the provider: what, how it ended, and after how many seconds."""

OUTCOMES: Mapping[type[OriginError], Outcome] = MappingProxyType({
    OriginGone: "gone",
    OriginBusy: "busy",
    OriginRefused: "refused",
    OriginTimeout: "timeout",
    OriginFailed: "failed",
    OriginLied: "lied",
    OriginTooLarge: "too_large",
})  # fmt: skip

_REDIRECTS = frozenset({
    HTTPStatus.MOVED_PERMANENTLY,
    HTTPStatus.FOUND,
    HTTPStatus.SEE_OTHER,
    HTTPStatus.TEMPORARY_REDIRECT,
    HTTPStatus.PERMANENT_REDIRECT,
})  # fmt: skip
_HTML = frozenset({"text/html", "application/xhtml+xml"})


def _unobserved(operation: Operation, outcome: Outcome, seconds: float) -> None:
    """Tell nobody."""


class WhatsAppClient:
    """An `Origin`; use it as a context manager, which owns the connections.

    Args:
        provider: The API, and its limits.
        account: Whose media it fetches; no other workspace's.
        observe: Told of every resolve and download.
        resolver: Looks up host names.
        authorities: Whom to trust; None: the public ones.
    """

    def __init__(
        self,
        provider: Provider,
        account: Account,
        *,
        observe: Observe = _unobserved,
        resolver: Resolver = system_resolver,
        authorities: Authorities | None = None,
    ) -> None:
        self._provider = provider
        self._account = account
        self._observe = observe
        self._transport = GuardedTransport(GuardedBackend(provider.allow_inward, resolver), authorities)
        self._exchange = Exchange(
            self._transport, attempts=provider.profile.attempts, connect_timeout=provider.timeouts.connect
        )

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.__aexit__()

    @asynccontextmanager
    async def open(self, ref: MediaRef) -> AsyncIterator[Download]:
        """Begin a download; see `Origin.open`.

        The resolved URL lives as long as this call. A size or type that contradicts another is refused before the
        first byte; the hash is the reader's to check.

        Raises:
            OriginRefused: The workspace is another one, or its token is refused.
            OriginGone: The ID means nothing, or nothing any more.
            OriginTooLarge: It has more bytes than we take.
            OriginError: See `storage.errors`.
        """
        if ref.workspace_id != self._account.workspace_id:
            raise OriginRefused("The workspace has another account at the provider.")
        resolved = await self._resolve(ref)
        with self._observed("download"):
            resolved, response = await self._fetch(ref, resolved)
            async with aclosing(response):
                size = _check_head(resolved, response.headers)
                _check_size(size, self._provider.max_size)
                chunks = self._chunks(response, size)
                async with aclosing(chunks):
                    yield Download(
                        size=size,
                        content_type=resolved.mime_type or response.headers.get("content-type"),
                        sha256=resolved.sha256,
                        chunks=chunks,
                    )

    async def _resolve(self, ref: MediaRef) -> Resolved:
        url = self._provider.resolve_url(ref.provider_media_id, ref.phone_number_id or self._account.phone_number_id)
        credentials = self._provider.credentials(self._account)
        with self._observed("resolve"):
            async with time_limit(self._provider.timeouts.resolve, "to resolve the ID"):
                response = await self._exchange.get(url, credentials, welcome={HTTPStatus.OK})
                resolved = parse_resolved(await read_answer(response))
            _check_size(resolved.size, self._provider.max_size)
            return resolved

    async def _fetch(self, ref: MediaRef, resolved: Resolved) -> tuple[Resolved, httpx.Response]:
        response = await self._follow(resolved)
        if response.status_code == HTTPStatus.NOT_FOUND and self._provider.profile.attempts > 1:
            await response.aclose()
            resolved = await self._resolve(ref)  # a URL lives for five minutes, and sometimes less
            response = await self._follow(resolved)
        if response.status_code != HTTPStatus.OK:
            raise await self._exchange.failure(response)
        return resolved, response

    async def _follow(self, resolved: Resolved) -> httpx.Response:
        """Ask for the bytes through at most `MAX_HOPS` redirects, each checked before it is asked."""
        url = self._provider.download_url(resolved.url)
        credentials = self._provider.credentials(self._account)
        welcome = {HTTPStatus.OK, HTTPStatus.NOT_FOUND, *_REDIRECTS}
        async with time_limit(self._provider.timeouts.headers, "to begin the download"):
            for _ in range(MAX_HOPS + 1):
                response = await self._exchange.get(url, credentials, welcome=welcome)
                if response.status_code not in _REDIRECTS:
                    return response
                await response.aclose()
                target = self._provider.redirect_url(url, response.headers.get("location"))
                if _origin(target) != _origin(url):
                    credentials = {}  # for good: a redirect back must not get the token either
                url = target
        raise OriginFailed("The provider redirects too often.")

    async def _chunks(self, response: httpx.Response, size: int | None) -> AsyncGenerator[bytes, None]:
        timeouts, received = self._provider.timeouts, 0
        async for chunk in read_body(response, chunk_timeout=timeouts.chunk, timeout=timeouts.download):
            received += len(chunk)
            _check_size(received, self._provider.max_size)
            if size is not None and received > size:
                raise OriginLied("The provider sent more bytes than it declared.")
            yield chunk
        if size is not None and received < size:
            raise OriginFailed("The provider's bytes broke off.")

    @contextmanager
    def _observed(self, operation: Operation) -> Iterator[None]:
        started = time.monotonic()
        outcome: Outcome = "abandoned"
        try:
            yield
            outcome = "ok"
        except OriginError as error:
            outcome = outcome_of(error)
            raise
        finally:
            self._observe(operation, outcome, time.monotonic() - started)


def outcome_of(error: OriginError) -> Outcome:
    """Name an error for metrics and logs."""
    return next(OUTCOMES[kind] for kind in type(error).__mro__ if kind in OUTCOMES)


def _origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    """RFC 6454 section 4; httpx leaves out the scheme's own port."""
    return url.scheme, url.raw_host, url.port


def _check_size(size: int | None, max_size: int) -> None:
    if size is not None and size > max_size:
        raise OriginTooLarge


def _check_head(resolved: Resolved, headers: httpx.Headers) -> int | None:
    """Return the size on which all declarations agree; raises `OriginLied` where they do not, or where it is no medium.

    With a Transfer-Encoding, a Content-Length means nothing (RFC 9112 section 6.3).
    """
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise OriginLied("The provider encoded the bytes though it was asked not to.")
    if _media_type(headers.get("content-type")) in _HTML and _media_type(resolved.mime_type) not in _HTML:
        raise OriginLied("The provider sent a web page instead of the medium.")
    length = headers.get("content-length") if "transfer-encoding" not in headers else None
    if length is None:
        return resolved.size
    if resolved.size not in (None, int(length)):
        raise OriginLied("The provider declares two different sizes.")
    return int(length)


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()
