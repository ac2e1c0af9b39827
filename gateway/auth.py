"""Credentials to one grant: signed URLs, API keys, tokens, and a CDN that vouches for who asks; all else is refused."""

import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Literal

from gateway.claims import Principal, TokenRefused
from gateway.errors import Forbidden, Unauthorized
from gateway.forwarded import Fields, joined
from gateway.signing import CREDENTIAL, Signer
from storage.record import MediaRecord

if TYPE_CHECKING:
    from gateway.tokens import Verifier

COOKIE = "media_token"
Kind = Literal["api-key", "token", "signed-url", "cdn", "nobody"]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request's credential has proven."""

    kind: Kind
    """``nobody`` where credentials are switched off."""
    credential: str = field(default="", repr=False)
    """What tells it from all others of its kind."""
    principal: Principal | None = None
    """Of a token."""
    until: float = inf
    """Unix seconds, of a signed URL."""

    def opens(self, record: MediaRecord) -> bool:
        """Whether the message is one that its holder may see."""
        return self.principal is None or self.principal.may_see(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """The credentials that a request brings along, none of them verified."""

    api_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    origin_secret: str | None = field(default=None, repr=False)
    certificate: str | None = None
    """The subject of a client certificate that a trusted proxy has verified."""

    @classmethod
    def of(cls, fields: Fields, *, certificate: str | None = None) -> "Presented":
        """Read a request's fields; a repeated one is all its values, so that no proxy and we read different ones."""
        return cls(
            api_key=_value(fields, b"x-api-key"),
            token=bearer(joined(fields, b"authorization")) or _cookie(joined(fields, b"cookie")),
            origin_secret=_value(fields, b"x-origin-verify"),
            certificate=certificate,
        )


class Gatekeeper:
    """Decides who may do what; any one good credential is enough."""

    def __init__(
        self,
        signer: Signer,
        api_keys: Sequence[str],
        *,
        verifier: "Verifier | None" = None,
        origin_secrets: Sequence[str] = (),
        origin_subjects: Collection[str] = (),
        enabled: bool = True,
    ) -> None:
        """Take what proves something.

        Args:
            signer: Of the gateway's own URLs.
            api_keys: Of the host application's backend.
            verifier: Of tokens; None accepts none.
            origin_secrets: Of a CDN that has checked the viewer itself; several while they are rotated.
            origin_subjects: Of the certificates of such a CDN.
            enabled: False lets everybody do everything.
        """
        self._signer = signer
        self._api_keys = [digest_of(key) for key in api_keys]
        self._verifier = verifier
        self._origin_secrets = [digest_of(secret) for secret in origin_secrets]
        self._origin_subjects = frozenset(origin_subjects)
        self._enabled = enabled

    def host(self, presented: Presented) -> Grant:
        """Let the host application's backend in, and nobody else.

        Raises:
            Unauthorized: There is no API key in the request.
            Forbidden: It is not one of ours.
        """
        if not self._enabled:
            return Grant("nobody")
        if presented.api_key is None:
            raise Unauthorized("An API key is needed, as X-API-Key.")
        return self._by_key(presented) or _refuse()

    async def user(self, presented: Presented) -> Grant:
        """Let the backend in, or somebody with a token; what a token opens is for `Grant.opens`.

        Raises:
            Unauthorized: There is neither in the request.
            Forbidden: There is one, but it is not good.
        """
        if not self._enabled:
            return Grant("nobody")
        if presented.api_key is None and presented.token is None:
            raise Unauthorized("An API key or a token is needed.")
        return self._by_key(presented) or await self._by_token(presented) or _refuse()

    async def reader(
        self, presented: Presented, message_id: str, variant: str, *, download: bool, query: Mapping[str, str]
    ) -> Grant:
        """Let in who may read one variant of a message's medium; what a token opens is for `Grant.opens`.

        Raises:
            Unauthorized: There is no credential in the request.
            Forbidden: There is one, but none that opens this.
        """
        if not self._enabled:
            return Grant("nobody")
        signed = any(name in query for name in CREDENTIAL)
        grant = self._by_key(presented) or self._by_origin(presented)
        if grant is None and signed and self._signer.check(message_id, variant, download=download, query=query):
            grant = Grant("signed-url", f"{query['kid']}:{query['sig']}", until=int(query["exp"]))
        if grant is None and not signed and presented == Presented():
            raise Unauthorized
        return grant or await self._by_token(presented) or _refuse()

    def _by_key(self, presented: Presented) -> Grant | None:
        key = presented.api_key
        return Grant("api-key", key) if key is not None and is_one_of(key, self._api_keys) else None

    def _by_origin(self, presented: Presented) -> Grant | None:
        secret = presented.origin_secret
        known = secret is not None and is_one_of(secret, self._origin_secrets)
        return Grant("cdn") if known or presented.certificate in self._origin_subjects else None

    async def _by_token(self, presented: Presented) -> Grant | None:
        if presented.token is None or self._verifier is None:
            return None
        try:
            principal = await self._verifier.verify(presented.token)
        except TokenRefused as error:
            raise Forbidden(str(error)) from None
        return Grant("token", principal.subject, principal)


def _refuse() -> Grant:
    raise Forbidden


def _value(fields: Fields, name: bytes) -> str | None:
    value = joined(fields, name)
    return value.strip(" \t") if value is not None else None  # RFC 9110 section 5.5: which the parser leaves behind it


def bearer(authorization: str | None) -> str | None:
    """Return the token of an ``Authorization`` field, if that is what it holds."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None  # RFC 9110 section 11.1: schemes ignore case


def _cookie(cookies: str | None) -> str | None:
    """Return the token of a cookie; the first one of that name, as its path is the most specific (RFC 6265 5.4)."""
    pairs = (pair.strip().partition("=") for pair in (cookies or "").replace(",", ";").split(";"))
    return next((value for name, _, value in pairs if name == COOKIE), None)


def is_one_of(given: str, known: Sequence[bytes]) -> bool:
    """Whether a secret that was given is one of those whose digests are known."""
    # Digests have one length: compare_digest would tell that of a key. All are compared: nor does it tell which.
    digest = digest_of(given)
    return sum(hmac.compare_digest(digest, each) for each in known) > 0


def digest_of(secret: str) -> bytes:
    """Return what is kept of a secret to compare others with."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
