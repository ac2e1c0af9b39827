"""An issuer of tokens with a key for every algorithm, who signs whatever an attacker could only wish for."""

import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from jwt import PyJWK
from jwt.algorithms import get_default_algorithms

from gateway.keyset import ALGORITHMS, KeySet
from gateway.tokens import Keys, SharedSecret, Verifier

NOW = 1_700_000_000
SECRET = b"a secret of thirty-two bytes, ok"
CLAIMS: dict[str, Any] = {"sub": "ana", "workspace_ids": ["w"], "exp": NOW + 60}


@dataclass(frozen=True)
class Signing:
    """A private key and what is published of it."""

    algorithm: str
    kid: str
    private: Any

    @property
    def public(self) -> Any:
        return self.private.public_key()

    def jwk(self, **changes: object) -> dict[str, Any]:
        """Return the public JWK; a change to None leaves the member out."""
        exported = get_default_algorithms()[self.algorithm].to_jwk(self.public, as_dict=True)
        members = {**exported, "kid": self.kid, "alg": self.algorithm, "use": "sig", "key_ops": ["verify"], **changes}
        return {name: value for name, value in members.items() if value is not None}

    def token(self, claims: object = CLAIMS, **header: object) -> str:
        return compact({"alg": self.algorithm, "kid": self.kid, **header}, claims, self.private, self.algorithm)


@cache
def signing(name: str, kid: str | None = None) -> Signing:
    """Return the same key for the same name: ``RS256``, ``ES256``, ``EdDSA``, or ``P-384``; per kid where given."""
    kid = kid or f"kid of {name}"
    if name == "RS256":
        return Signing("RS256", kid, generate_rsa(65537, 2048))
    if name == "ES256":
        return Signing("ES256", kid, generate_ec(SECP256R1()))
    if name == "P-384":
        return Signing("ES384", kid, generate_ec(SECP384R1()))
    return Signing("EdDSA", kid, Ed25519PrivateKey.generate())


def segment(content: object) -> str:
    """Return bytes, text or anything that JSON can say as base64url without padding."""
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    return urlsafe_b64encode(text.encode() if isinstance(text, str) else text).rstrip(b"=").decode()


def compact(header: object, claims: object, key: Any, algorithm: str = "HS256") -> str:
    """Return a token that is signed with that algorithm, whatever its header says."""
    signing_input = f"{segment(header)}.{segment(claims)}"
    signature = get_default_algorithms()[algorithm].sign(signing_input.encode(), key)
    return f"{signing_input}.{segment(signature)}"


def hs256(claims: object = CLAIMS, **header: object) -> str:
    """Return a token that is signed with the shared secret."""
    return compact({"alg": "HS256", "typ": "JWT", **header}, claims, SECRET)


def document(*jwks: dict[str, Any]) -> bytes:
    """Return a JWK Set."""
    return json.dumps({"keys": jwks}).encode()


class Published:
    """Keys that can be exchanged under a verifier."""

    algorithms = frozenset(ALGORITHMS)

    def __init__(self, *jwks: dict[str, Any]) -> None:
        self.keys = KeySet.parse(document(*jwks))

    async def find(self, algorithm: str, kid: str | None) -> PyJWK | None:
        return self.keys.find(algorithm, kid)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def knows(keys: Keys, kid: str) -> bool:
    """Whether there is a key of that id for RS256."""
    return await keys.find("RS256", kid) is not None


def published() -> Published:
    """Return one key of every algorithm."""
    return Published(*(signing(name).jwk() for name in ALGORITHMS))


def verifier(now: float = NOW, *, audience: str | None = None, issuer: str | None = None) -> Verifier:
    """Return a verifier with the secret and a key of every algorithm."""
    return Verifier([SharedSecret(SECRET), published()], audience=audience, issuer=issuer, clock=lambda: now)
