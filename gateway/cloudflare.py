"""Signs URLs for Cloudflare's ``is_timed_hmac_valid_v0()``, with which its firewall lets a viewer in.

The custom rule that belongs to ``TimedHmac(secret, lifetime=3600)``, with the action Block (Pro plan or higher)::

    http.host eq "cdn.example.com" and not (
      http.request.uri.query contains "verify="
      and is_timed_hmac_valid_v0("SECRET", http.request.uri, 3600, http.request.timestamp.sec, 8, "s")
    )

Without its second line a viewer could put eight other characters in the place of ``?verify=``, which the MAC does not
cover: the token of ``/media/messages/1`` would open ``/media/messages/1/info?a=`` too. Cloudflare also wants the
parameter to be the last one: what a front end adds behind it is refused.

Sources: Cloudflare's "Configure token authentication" and "Functions, HMAC validation". The MACs printed there are not
those of the keys beside them; its code examples and this module agree.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from typing import Final

PARAMETER: Final = "verify"

_URI: Final = re.compile(r"/[0-9A-Za-z._~:/?@!$&'()*+,;=%\[\]-]*")
_SIGNED: Final = re.compile(
    rf"(?P<message>/[^?]*(?P<query>\?.*)?)(?P<separator>[?&]){PARAMETER}=(?P<at>[0-9]{{10}})-(?P<mac>[0-9A-Za-z_-]{{43}})"
)
_TEN_DIGITS: Final = range(10**9, 10**10)


class TimedHmac:
    """Signs and checks the path and query of a URL.

    Args:
        secret: The key, as the rule has it between its quotes, in UTF-8.
        lifetime: Seconds from the time of issue until the URL opens nothing any more; the rule has the same number.

    Raises:
        ValueError: There is no secret, or no lifetime.
    """

    def __init__(self, secret: bytes, *, lifetime: int) -> None:
        if not secret:
            raise ValueError("the secret of Cloudflare's token authentication is empty")
        if lifetime <= 0:
            raise ValueError("the lifetime of Cloudflare's tokens must be at least a second")
        self._secret = secret
        self._lifetime = lifetime

    def sign(self, uri: str, at: int) -> str:
        """Return ``uri`` with its token as the last parameter.

        Args:
            uri: Path and query, percent-encoded as the viewer will send them.
            at: The time of issue in Unix seconds. The same time gives the same URL, so round it; for an end sooner
                than the lifetime, ``at = end - lifetime``.

        Raises:
            ValueError: It is not a path in ASCII, is signed already, or the time has not ten digits.
        """
        if not _URI.fullmatch(uri):
            raise ValueError("only a path in ASCII, percent-encoded and without a fragment, can be signed")
        if f"{PARAMETER}=" in uri:
            raise ValueError(f"the path has {PARAMETER}= already")
        if at not in _TEN_DIGITS:
            raise ValueError("the time of issue must have ten digits")
        return f"{uri}{'&' if '?' in uri else '?'}{PARAMETER}={at}-{self._mac(uri, str(at))}"

    def verify(self, uri: str, now: float) -> bool:
        """Tell whether a path and query carry a token that is right, and still is so at ``now``, in Unix seconds."""
        signed = _SIGNED.fullmatch(uri)
        if signed is None or not _URI.fullmatch(uri) or (signed["separator"] == "&") != (signed["query"] is not None):
            return False
        expected = self._mac(signed["message"], signed["at"])
        return hmac.compare_digest(expected, signed["mac"]) and now < int(signed["at"]) + self._lifetime

    def _mac(self, message: str, at: str) -> str:
        digest = hmac.digest(self._secret, f"{message}{at}".encode(), hashlib.sha256)
        return urlsafe_b64encode(digest).rstrip(b"=").decode()
