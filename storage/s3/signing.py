"""Signs requests and URLs with Signature Version 4, and keeps what it has signed while that is good."""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urlencode, urlsplit

from cachetools import LRUCache

from storage.errors import ObjectNotFound, StoreForbidden
from storage.s3.answers import NO_CREDENTIALS
from storage.s3.config import S3Config
from storage.store import MAX_PRESIGNED_LIFE, PresignedUrl

SIGNED_KEPT: Final = 4096  # requests of some 0.6 KB, with the token of temporary credentials up to 2 KB
SIGNED_LIFE: Final = 300.0  # seconds; stores take a signature for 15 minutes, and clocks may differ by the other ten
PRESIGNED_KEPT: Final = 1000  # URLs of some 1.5 KB; signing one takes 0.1 ms of a processor
PRESIGNED_LENGTH: Final = 8000  # characters of a URL that every recipient should take (RFC 9110, section 4.1)
PRESIGNED_STEPS: Final = 10  # of a URL's life; within one of them it stays the same

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_FIELD_VALUE: Final = re.compile(r"[ -~]+")
_EMPTY: Final = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class StaticCredentials:
    """What is configured, under the names of botocore's own."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False)

    async def get_frozen_credentials(self) -> Self:
        """Return what does not change."""
        return self


class Signed(NamedTuple):
    """A request that is ready to be sent."""

    head: bytes
    """Up to the last field; the range, which is not signed, may follow."""
    made: float
    """Unix seconds."""


class Signatures:
    """Signs for the objects of one bucket."""

    def __init__(
        self, config: S3Config, credentials: Any, *, clock: Callable[[], float], target: str = "", fields: str = ""
    ) -> None:
        """Take the bucket, the credentials and a clock in Unix seconds.

        Args:
            config: Of the bucket.
            credentials: Botocore's, which renew themselves, or `StaticCredentials`; None: nothing can be signed.
            clock: In Unix seconds.
            target: What comes before the path of a request: the store, where a proxy is asked for it.
            fields: Unsigned fields for every request, each with its end of line.
        """
        self._config = config
        self._credentials = credentials
        self._clock = clock
        self._target = target
        self._fields = fields
        self._host = _host(config.bucket_url)
        self._signed: LRUCache[tuple[str, str, str | None], Signed] = LRUCache(SIGNED_KEPT)
        self._presigned: LRUCache[tuple[object, ...], str] = LRUCache(PRESIGNED_KEPT)

    async def request(self, key: str) -> bytes:
        """Return a ``GET`` of the object up to its last field, signed within the last ``SIGNED_LIFE`` seconds."""
        credentials = await self._frozen()
        call = (key, credentials.access_key, credentials.token)
        signed, now = self._signed.get(call), self._clock()
        if signed is None or not 0 <= now - signed.made < SIGNED_LIFE:
            path = urlsplit(object_url(self._config, key)).path
            signed = self._signed[call] = Signed(self._sign(path, credentials, now), now)
        return signed.head

    async def listing(self) -> bytes:
        """Return a ``GET`` for a list of one object of the bucket, up to its last field."""
        path = quote(urlsplit(self._config.bucket_url).path, safe="/~") or "/"
        return self._sign(path, await self._frozen(), self._clock(), query="list-type=2&max-keys=1")

    async def presign(self, key: str, life: int, overrides: Mapping[str, str]) -> PresignedUrl | None:
        """Sign a URL as of the last tenth of its life: the same until the next one."""
        began, lasts = presigned_window(self._clock(), life)
        credentials = await self._frozen()
        call = (key, credentials.access_key, credentials.token, began, lasts, *overrides.values())
        url = self._presigned.get(call)
        if url is None:
            if not all(map(_FIELD_VALUE.fullmatch, overrides.values())):
                return None
            unsigned = object_url(self._config, key)
            url = self._presigned[call] = self._sign_url(unsigned, credentials, overrides, began, lasts)
        if self._must_renew_within(began + lasts) or len(url) > PRESIGNED_LENGTH:
            return None
        return PresignedUrl(url, began + lasts)

    def _must_renew_within(self, moment: int) -> bool:
        """Whether the credentials end before ``moment``, in Unix seconds: with them, everything that they signed."""
        ends_within = getattr(self._credentials, "refresh_needed", None)  # only what is renewed has it
        return ends_within is not None and ends_within(moment - self._clock())

    async def _frozen(self) -> Any:
        if self._credentials is None:
            raise StoreForbidden(NO_CREDENTIALS)
        return await self._credentials.get_frozen_credentials()

    def _sign(self, path: str, credentials: Any, now: float, query: str = "") -> bytes:
        moment = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
        signed = {"host": self._host, "x-amz-content-sha256": _EMPTY, "x-amz-date": moment}
        if credentials.token:
            signed["x-amz-security-token"] = credentials.token
        fields = {**signed, "authorization": authorization(path, signed, credentials, self._config.region, query)}
        if not all(map(_FIELD_VALUE.fullmatch, fields.values())):
            raise StoreForbidden("The credentials cannot be sent.")
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        what = f"{path}?{query}" if query else path
        return f"GET {self._target}{what} HTTP/1.1\r\n{lines}accept-encoding: identity\r\n{self._fields}".encode()

    def _sign_url(self, url: str, credentials: Any, overrides: Mapping[str, str], began: int, lasts: int) -> str:
        """Return ``url`` with a signature as of ``began``."""
        moment = f"{datetime.fromtimestamp(began, UTC):%Y%m%dT%H%M%SZ}"
        scope = _scope(moment, self._config.region)
        query = {
            **overrides,
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{credentials.access_key}/{scope}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(lasts),
            "X-Amz-SignedHeaders": "host",
        }
        if credentials.token:
            query["X-Amz-Security-Token"] = credentials.token
        pairs = urlencode(query, quote_via=quote, safe="")
        ordered = "&".join(sorted(pairs.split("&")))
        canonical = f"GET\n{urlsplit(url).path}\n{ordered}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        return f"{url}?{pairs}&X-Amz-Signature={_signature(canonical, moment, scope, credentials.secret_key)}"


def authorization(path: str, signed: Mapping[str, str], credentials: Any, region: str, query: str = "") -> str:
    """Return the field that authorizes a ``GET`` (Signature Version 4, of S3: the path is as it is).

    Args:
        path: Percent-encoded.
        signed: The fields that are signed, in lower case and in order.
        credentials: With ``access_key`` and ``secret_key``.
        region: Of the bucket.
        query: Percent-encoded and in order.
    """
    moment, names = signed["x-amz-date"], ";".join(signed)
    scope = _scope(moment, region)
    fields = "".join(f"{name}:{value}\n" for name, value in signed.items())
    canonical = f"GET\n{path}\n{query}\n{fields}\n{names}\n{_EMPTY}"
    signature = _signature(canonical, moment, scope, credentials.secret_key)
    return f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"


def _scope(moment: str, region: str) -> str:
    return f"{moment[:8]}/{region}/s3/aws4_request"


def _signature(canonical: str, moment: str, scope: str, secret: str) -> str:
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), f"{_ALGORITHM}\n{moment}\n{scope}\n{digest}"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


def object_url(config: S3Config, key: str) -> str:
    """Return the URL of an object."""
    if not key:  # the bucket itself, whose listing would pass for an object
        raise ObjectNotFound
    return f"{config.bucket_url}/{quote(key, safe='/~')}"


def _host(url: str) -> str:
    """Return what clients send as ``Host``: without the port that the scheme has anyway (RFC 9110, section 7.2)."""
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}" if parts.port in {None, usual} else f"{host}:{parts.port}"


def presigned_window(now: float, life: int) -> tuple[int, int]:
    """Return when a URL is signed, in Unix seconds, and for how many seconds: ``life`` at least from ``now`` on.

    Raises:
        ValueError: The life is not from 1 to ``MAX_PRESIGNED_LIFE``.
    """
    if not 1 <= life <= MAX_PRESIGNED_LIFE:
        raise ValueError(f"a presigned URL lives from 1 to {MAX_PRESIGNED_LIFE} seconds")
    step = max(1, life // PRESIGNED_STEPS)
    return int(now // step) * step, life + step
