"""Purges Cloudflare by tag or by URL, through its API.

Source: "Purge cache" in Cloudflare's documentation, July 2026.
"""

import asyncio
import json
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final, Self

import httpx

from ingest.cdn.purge import REQUEST_TIMEOUT, PurgeError, PurgeFailed, PurgeItem, chunks, refusal

API_URL: Final = "https://api.cloudflare.com/client/v4"
OPERATIONS_PER_REQUEST: Final = 100  # on every plan
MAX_ANSWER_BYTES: Final = 64 * 1024

_MAX_CODES: Final = 3
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_ZONE: Final = re.compile(r"[0-9A-Za-z]{1,64}")


class CloudflarePurge:
    """A zone, as a `Purger`; use it within ``async with``.

    Args:
        zone_id: 32 hex digits.
        api_token: With the permission "Cache Purge" in the zone.
        host: The host of the CDN's URLs, to purge by URL; None: by tag.
        base_url: Of the API.
        timeout: Seconds for one request.
        ssl_context: Whom to trust; None: the public authorities.

    Raises:
        ValueError: No request could carry the zone or the token.
    """

    def __init__(
        self,
        zone_id: str,
        api_token: str,
        *,
        host: str | None = None,
        base_url: str = API_URL,
        timeout: float = REQUEST_TIMEOUT,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if not _ZONE.fullmatch(zone_id):
            raise ValueError("a Cloudflare zone is named by its ID, which is made of letters and digits")
        if not _TOKEN.fullmatch(api_token):  # h11 would quote it in its own error
            raise ValueError("the Cloudflare API token is empty or has characters no header can carry")
        self._host = host
        self._timeout = timeout
        self._url = f"{base_url.rstrip('/')}/zones/{zone_id}/purge_cache"
        headers = {"Authorization": f"Bearer {api_token}", "Accept-Encoding": "identity"}
        self._http = httpx.AsyncClient(headers=headers, timeout=timeout, verify=ssl_context or True)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.__aexit__()

    @property
    def batch_size(self) -> int:
        """How many deletions fit into one request."""
        return OPERATIONS_PER_REQUEST

    async def purge(self, batch: Sequence[PurgeItem]) -> None:
        """Purge tags, or prefixes of URLs; see `Purger.purge`.

        A prefix ends where a part of the path does, and stands for every query and everything below: a mere URL would
        purge neither the variants nor what a signature or a front end has added to it.
        """
        kind = "tags" if self._host is None else "prefixes"
        items = {item.tag if self._host is None else f"{self._host}{item.path}" for item in batch}
        for chunk in chunks(items, OPERATIONS_PER_REQUEST):
            await self._post({kind: chunk})

    async def _post(self, order: dict[str, list[str]]) -> None:
        body = b""
        with _translated():
            async with asyncio.timeout(self._timeout), self._http.stream("POST", self._url, json=order) as answer:
                async for piece in answer.aiter_raw():
                    body += piece
                    if len(body) > MAX_ANSWER_BYTES:
                        break
        if error := judge(answer.status_code, answer.headers.get("Retry-After"), body):
            raise error


def judge(status: int, retry_after: str | None, body: bytes) -> PurgeError | None:
    """Tell what an answer of the API means; None only where it says in so many words that the purge is taken."""
    answer = _json_object(body)
    if status == HTTPStatus.OK and answer.get("success") is True:
        return None
    codes = [f"code {code}" for code in _error_codes(answer)]
    return refusal(status, ", ".join([f"HTTP {status}", *codes[:_MAX_CODES]]), retry_after)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _error_codes(answer: dict[str, Any]) -> list[int]:
    errors = answer.get("errors")
    entries = [entry for entry in errors if isinstance(entry, dict)] if isinstance(errors, list) else []
    return [code for entry in entries if isinstance(code := entry.get("code"), int)]


@contextmanager
def _translated() -> Iterator[None]:
    """Raise httpx's errors, and those that it lets through, as ours; the cause is named and not chained."""
    try:
        yield
    except (httpx.HTTPError, OSError) as error:  # a TimeoutError is an OSError
        raise PurgeFailed(f"The CDN could not be asked to purge ({type(error).__name__}).") from None
