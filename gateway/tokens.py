"""From a bearer token to its principal: which key and algorithm may verify it, and whether they do."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from time import time
from typing import Final, Protocol

from cachetools import LRUCache
from jwt import PyJWK, PyJWS, PyJWTError

from gateway.claims import Claims, Principal, TokenRefused, json_object, read_claims

MAX_TOKEN = 8192  # characters
MAX_KID = 256
MIN_SECRET = 32  # bytes: a key as long as the hash at least, RFC 7518 section 3.2
REMEMBERED = 1024  # verified tokens: a page of images brings the same one two hundred times
# The compact serialisation of RFC 7515 section 7.1, no part empty: unsigned and detached ones do not even parse.
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class Keys(Protocol):
    """A source of verification keys."""

    @property
    def algorithms(self) -> frozenset[str]:
        """The JWS names of the algorithms that its keys are for; no other source has them."""

    async def find(self, algorithm: str, kid: str | None) -> PyJWK | None:
        """Return the one key that is bound to that algorithm and has that id, if there is one."""


class SharedSecret:
    """The key of HS256, which the issuer and the gateway share.

    Raises:
        ValueError: It is too short, or looks like a key that others know.
    """

    algorithms: Final = frozenset({"HS256"})

    def __init__(self, secret: bytes) -> None:
        if len(secret) < MIN_SECRET:
            raise ValueError(f"must have {MIN_SECRET} bytes or more (RFC 7518 section 3.2)")
        self._key = PyJWK({"kty": "oct", "k": urlsafe_b64encode(secret).decode(), "alg": "HS256"})
        try:
            self._key.Algorithm.prepare_key(secret)
        except PyJWTError:
            raise ValueError("must be a secret, not a public key, a certificate or a JWK") from None

    async def find(self, algorithm: str, kid: str | None) -> PyJWK | None:  # noqa: ARG002 there is one key, whatever its id
        """Return the secret as a key, whatever id the token gives it."""
        return self._key if algorithm in self.algorithms else None


@dataclass(frozen=True, slots=True)
class Header:
    """What a token says of its signature; it only chooses among keys, each of which knows its own algorithm."""

    algorithm: str
    kid: str | None

    @classmethod
    def of(cls, token: str) -> "Header":
        """Read a token's header; members such as ``jwk``, ``jku`` and ``x5u`` are never looked at.

        Raises:
            TokenRefused: It is not the compact serialisation of a JWS, or a parameter is malformed or critical.
        """
        if len(token) > MAX_TOKEN:
            raise TokenRefused("The token is too long.")
        if (parts := _COMPACT.fullmatch(token)) is None:
            raise TokenRefused("The token is not a signed JWT.")
        members = json_object(_decoded(parts[1]))
        algorithm, kid = members.get("alg"), members.get("kid")
        if "crit" in members:
            raise TokenRefused("The token has critical extensions, of which none is known.")
        if not isinstance(algorithm, str):
            raise TokenRefused("The token's algorithm is missing or malformed.")
        if "kid" in members and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
            raise TokenRefused("The token's key id is malformed.")
        return cls(algorithm, kid)


class Verifier:
    """Tells whose a token is.

    Args:
        keys: The sources of keys, each for algorithms of its own.
        audience: What a token's ``aud`` must be or hold; None ignores it.
        issuer: What its ``iss`` must be; None ignores it.
        clock: Unix seconds.
    """

    def __init__(
        self,
        keys: Sequence[Keys],
        *,
        audience: str | None = None,
        issuer: str | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._sources = {algorithm: source for source in keys for algorithm in source.algorithms}
        self._jws = PyJWS(algorithms=sorted(self._sources))
        self._audience = audience
        self._issuer = issuer
        self._clock = clock
        self._verified: LRUCache[bytes, tuple[PyJWK, Claims]] = LRUCache(REMEMBERED)

    async def verify(self, token: str) -> Principal:
        """Return whom the token speaks for; every step is that of RFC 7519 section 7.2.

        Raises:
            TokenRefused: It is malformed, forged, of an unknown key or algorithm, expired, or lacks a claim.
        """
        header = Header.of(token)
        source = self._sources.get(header.algorithm)
        if source is None:
            raise TokenRefused("The token's algorithm is not accepted.")
        key = await source.find(header.algorithm, header.kid)
        if key is None:
            raise TokenRefused("The token's key is unknown.")
        claims = self._claims(token, key)
        claims.check(self._clock())
        return claims.principal

    def _claims(self, token: str, key: PyJWK) -> Claims:
        """Return the claims of a token that this very key has signed, remembered from the last time if possible."""
        digest = sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None and known[0] is key:
            return known[1]
        try:
            payload = self._jws.decode(token, key, algorithms=[key.algorithm_name])
        except PyJWTError:
            raise TokenRefused("The token's signature is wrong.") from None
        claims = read_claims(payload, audience=self._audience, issuer=self._issuer)
        self._verified[digest] = (key, claims)
        return claims


def _decoded(segment: str) -> bytes:
    # Lenient where base64url is not canonical, in which PyJWT is strict before it looks at the signature.
    try:
        return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        raise TokenRefused("The token is not a signed JWT.") from None
