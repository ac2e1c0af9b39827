"""URLs for front ends: the gateway's own, or those of the CDN in front of it, whichever is configured."""

from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from gateway.cloudflare import TimedHmac
from gateway.signing import BUCKETS, DEFAULT_LIFE, SignedUrl, Signer, rounded_expiry
from gateway.variants import HLS, ORIGINAL
from ingest.cdn.purge import media_path

if TYPE_CHECKING:
    from gateway.cloudfront import CloudFrontSigner


class Edge(Protocol):
    """A CDN's way to sign a URL."""

    def sign(self, path: str, expires_in: int, now: float) -> SignedUrl:
        """Return the URL at the CDN of a path and query; the same for a tenth of its life, which is in seconds."""


class CloudFrontEdge:
    """Canned policies at a distribution."""

    def __init__(self, signer: "CloudFrontSigner", url: str) -> None:
        self._signer = signer
        self._url = url.rstrip("/")

    def sign(self, path: str, expires_in: int, now: float) -> SignedUrl:
        """Return a URL that lives for so many seconds at least."""
        exp = rounded_expiry(now, expires_in)
        return SignedUrl(self._signer.sign_url(self._url + path, exp), exp)

    def cookies(self, message_id: str, exp: int) -> dict[str, str]:
        """Return the cookies, by name, that open the files of a message's stream until ``exp``, in Unix seconds."""
        # No shorter pattern: CloudFront's "m1*" matches message m10 too, and its "?" any character.
        files = f"{self._url}{media_path(message_id)}/{HLS}/*"
        return self._signer.cookies_with_policy(files, expires=exp)


class CloudflareEdge:
    """Timed HMACs, whose longest life the zone's rule knows."""

    def __init__(self, token: TimedHmac, url: str, *, lifetime: int) -> None:
        self._token = token
        self._url = url.rstrip("/")
        self._lifetime = lifetime

    def sign(self, path: str, expires_in: int, now: float) -> SignedUrl:
        """Return a URL that lives for so many seconds at most: no token may be issued in the future."""
        life = min(expires_in, self._lifetime)
        bucket = max(1, life // BUCKETS)
        at = int(now) // bucket * bucket - (self._lifetime - life)
        return SignedUrl(self._url + self._token.sign(path, at), at + self._lifetime)


class Minter:
    """Mints URLs where they will be used: at the CDN if there is one."""

    def __init__(
        self,
        signer: Signer,
        edge: Edge | None = None,
        *,
        clock: Callable[[], float] = time,
    ) -> None:
        """Take the gateway's own signer, and the CDN's if there is one."""
        self._signer = signer
        self._edge = edge
        self._clock = clock

    @property
    def at_edge(self) -> bool:
        """Whether the URLs of media are those of a CDN."""
        return self._edge is not None

    @property
    def can_mint(self) -> bool:
        """Whether there is a key to sign with."""
        return self.at_edge or self._signer.can_mint

    def mint(
        self,
        message_id: str,
        variant: str = ORIGINAL,
        *,
        download: bool = False,
        expires_in: int = DEFAULT_LIFE,
        base: str = "",
    ) -> SignedUrl:
        """Return a URL as `Signer.mint` does.

        A stream's is always the gateway's own: a CDN keeps its signature from us, so that its playlists could not
        carry it on.

        Raises:
            Forbidden: There is no key to sign with.
        """
        if self._edge is None or (variant == HLS and self._signer.can_mint):
            return self._signer.mint(message_id, variant, download=download, expires_in=expires_in, base=base)
        query = {"variant": variant} if variant != ORIGINAL else {}
        query |= {"download": "1"} if download else {}
        path = media_path(message_id) + (f"?{urlencode(query)}" if query else "")
        return self._edge.sign(path, expires_in, self._clock())

    def unsigned(self, message_id: str, variant: str = ORIGINAL, *, base: str = "") -> str:
        """Return the URL of a medium for who has another credential; see `Signer.unsigned`."""
        return self._signer.unsigned(message_id, variant, base=base)
