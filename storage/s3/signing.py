"""Signs requests and URLs with Signature Version 4, and keeps what it has signed while that is good."""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import NoCredentialsError
from cachetools import LRUCache

from storage.errors import ObjectNotFound, StoreForbidden
from storage.s3.config import S3Config
from storage.store import MAX_PRESIGNED_LIFE, PresignedUrl

SIGNED_KEPT: Final = 4096  # requests of some 0.6 KB, with the token of temporary credentials up to 2 KB
SIGNED_LIFE: Final = 300.0  # seconds; stores take a signature for 15 minutes, and clocks may differ by the other ten
PRESIGNED_KEPT: Final = 1000  # URLs of some 1.5 KB; signing one takes 0.1 ms of a processor
PRESIGNED_LENGTH: Final = 8000  # characters of a URL that every recipient should take (RFC 9110, section 4.1)
PRESIGNED_STEPS: Final = 10  # of a URL's life; within one of them it stays the same

_FIELD_VALUE: Final = re.compile(r"[ -~]+")
_EMPTY: Final = hashlib.sha256(b"").hexdigest()


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
        """Take the bucket, the credentials (botocore's, which renew themselves) and a clock in Unix seconds.

        Args:
            config: Of the bucket.
            credentials: None: there are none, and nothing can be signed.
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
            signed = self._signed[call] = Signed(self._sign(key, credentials, now), now)
        return signed.head

    async def presign(self, key: str, life: int, overrides: Mapping[str, str]) -> PresignedUrl | None:
        """Sign a URL as of the last tenth of its life: the same until the next one."""
        began, lasts = presigned_window(self._clock(), life)
        credentials = await self._frozen()
        call = (key, credentials.access_key, credentials.token, began, lasts, *overrides.values())
        url = self._presigned.get(call)
        if url is None:
            if not all(map(_FIELD_VALUE.fullmatch, overrides.values())):
                return None
            auth = S3SigV4QueryAuth(credentials, "s3", self._config.region)
            url = self._presigned[call] = _presigned(auth, object_url(self._config, key), overrides, began, lasts)
        if self._must_renew_within(began + lasts) or len(url) > PRESIGNED_LENGTH:
            return None
        return PresignedUrl(url, began + lasts)

    def _must_renew_within(self, moment: int) -> bool:
        """Whether the credentials end before ``moment``, in Unix seconds: with them, everything that they signed."""
        renewed = isinstance(self._credentials, RefreshableCredentials)
        return renewed and self._credentials.refresh_needed(moment - self._clock())

    async def _frozen(self) -> Any:
        if self._credentials is None:
            raise NoCredentialsError
        return await self._credentials.get_frozen_credentials()

    def _sign(self, key: str, credentials: Any, now: float) -> bytes:
        path = urlsplit(object_url(self._config, key)).path
        moment = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
        signed = {"host": self._host, "x-amz-content-sha256": _EMPTY, "x-amz-date": moment}
        if credentials.token:
            signed["x-amz-security-token"] = credentials.token
        fields = {**signed, "authorization": authorization(path, signed, credentials, self._config.region)}
        if not all(map(_FIELD_VALUE.fullmatch, fields.values())):
            raise StoreForbidden("The credentials cannot be sent.")
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"GET {self._target}{path} HTTP/1.1\r\n{lines}accept-encoding: identity\r\n{self._fields}".encode()


def authorization(path: str, signed: Mapping[str, str], credentials: Any, region: str) -> str:
    """Return the field that authorizes a ``GET`` without a query (Signature Version 4, of S3: the path is as it is).

    Args:
        path: Percent-encoded.
        signed: The fields that are signed, in lower case and in order.
        credentials: With ``access_key`` and ``secret_key``.
        region: Of the bucket.
    """
    moment, names = signed["x-amz-date"], ";".join(signed)
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    fields = "".join(f"{name}:{value}\n" for name, value in signed.items())
    canonical = f"GET\n{path}\n\n{fields}\n{names}\n{_EMPTY}".encode()
    digest = hashlib.sha256(canonical).hexdigest()
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"{credentials.access_key}/{scope}"
    return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={key.hex()}"


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


def _presigned(auth: S3SigV4QueryAuth, url: str, overrides: Mapping[str, str], began: int, lasts: int) -> str:
    """Return ``url`` with a signature as of ``began``: `add_auth` would take the time of day, and log what it signs."""
    request = AWSRequest(method="GET", url=url)
    request.context["timestamp"] = datetime.fromtimestamp(began, UTC).strftime("%Y%m%dT%H%M%SZ")
    query = {
        **overrides,
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": auth.scope(request),
        "X-Amz-Date": request.context["timestamp"],
        "X-Amz-Expires": str(lasts),
        "X-Amz-SignedHeaders": "host",
    }
    if auth.credentials.token:
        query["X-Amz-Security-Token"] = auth.credentials.token
    request.url = f"{url}?{urlencode(query, quote_via=quote, safe='')}"
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    return f"{request.url}&X-Amz-Signature={signature}"
