"""Signed URLs: how they are minted, and whether one opens what it is used for."""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time
from urllib.parse import urlencode

from gateway.errors import Forbidden
from gateway.variants import HLS, MASTER, ORIGINAL
from ingest.cdn.purge import media_path

MAX_LIFE = 7 * 24 * 3600  # seconds, of a minted URL
DEFAULT_LIFE = 3600
BUCKETS = 10  # a URL's expiry is rounded up to a tenth of its life, so that caches see the same URL again
_SECONDS = re.compile(r"[1-9][0-9]{0,14}")  # in one way: a URL that is written otherwise is not the one that was signed
CREDENTIAL = ("exp", "kid", "sig")
"""The parameters of a URL that sign it."""


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """A minted URL, and when it ends."""

    url: str
    expires_at: int
    """Unix seconds."""


def signature(key: bytes, message_id: str, variant: str, *, download: bool, exp: int) -> str:
    """Return ``sig`` of the contract: base64url, unpadded, of the HMAC-SHA256 over version, subject and expiry."""
    text = f"v1\n{message_id}\n{variant}\n{int(download)}\n{exp}"
    return urlsafe_b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).rstrip(b"=").decode()


def rounded_expiry(now: float, expires_in: int) -> int:
    """Return when a URL ends that is to live for so many seconds at least, and at most a tenth more; Unix seconds.

    The same for all who ask within that tenth, so that browsers and CDNs see the same URL again.
    """
    bucket = max(1, expires_in // BUCKETS)
    return -int(-(now + expires_in) // bucket) * bucket


class Signer:
    """Mints and checks signed URLs; several keys are valid at once, the first one signs."""

    def __init__(self, keys: Mapping[str, bytes], *, public_url: str, clock: Callable[[], float] = time) -> None:
        self._keys = dict(keys)
        self._public_url = public_url.rstrip("/")
        self._clock = clock

    @property
    def can_mint(self) -> bool:
        """Whether there is a key to sign with."""
        return bool(self._keys)

    def mint(
        self,
        message_id: str,
        variant: str = "original",
        *,
        download: bool = False,
        expires_in: int = DEFAULT_LIFE,
        base: str = "",
    ) -> SignedUrl:
        """Return a URL that opens one variant for at least ``expires_in`` seconds, and at most a tenth more.

        ``base`` is what the URL begins with where no public URL is configured.
        Two calls in the same tenth of that life return the same URL, so that browsers and CDNs can cache by it.

        Raises:
            Forbidden: No signing key is configured.
        """
        if not self._keys:
            raise Forbidden("No signing key is configured: set MEDIA_SIGNING_KEYS.")
        kid, key = next(iter(self._keys.items()))
        exp = rounded_expiry(self._clock(), expires_in)
        query = {"variant": variant} if variant not in {ORIGINAL, HLS} else {}
        query |= {"download": "1"} if download else {}
        query |= {"exp": str(exp), "kid": kid, "sig": signature(key, message_id, variant, download=download, exp=exp)}
        return SignedUrl(f"{self._path(message_id, variant, base)}?{urlencode(query)}", exp)

    def unsigned(self, message_id: str, variant: str = ORIGINAL, *, base: str = "") -> str:
        """Return the URL of a message's medium, for who has another credential; ``base`` as for `mint`."""
        query = f"?variant={variant}" if variant not in {ORIGINAL, HLS} else ""
        return self._path(message_id, variant, base) + query

    def _path(self, message_id: str, variant: str, base: str) -> str:
        stream = f"/{HLS}/{MASTER}" if variant == HLS else ""  # players tell a playlist by its name
        return f"{self._public_url or base}{media_path(message_id)}{stream}"

    def check(self, message_id: str, variant: str, *, download: bool, query: Mapping[str, str]) -> bool:
        """Whether the query's signature opens that variant now; compared in constant time."""
        exp, key = query.get("exp", ""), self._keys.get(query.get("kid", ""))
        if key is None or not _SECONDS.fullmatch(exp) or int(exp) <= self._clock():
            return False
        expected = signature(key, message_id, variant, download=download, exp=int(exp))
        return hmac.compare_digest(expected.encode(), query.get("sig", "").encode())
