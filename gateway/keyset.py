"""A JWK Set (RFC 7517) as verification keys, each bound to exactly one algorithm."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from jwt import PyJWK, PyJWTError

MAX_KEYS = 100
ALGORITHMS: Mapping[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""The algorithm of a key follows from its type and curve: ``kty`` and ``crv`` of RFC 7518 section 6 and RFC 8037."""
_SECRET_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of a JWK Set."""

    keys: Sequence[PyJWK] = ()

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a JWK Set; keys for encryption, for other algorithms or too short are left out (RFC 7517 section 5).

        Raises:
            ValueError: It is no JWK Set, holds too many keys, a secret one, or two with the same id for one algorithm.
        """
        members = _members(raw)
        if len(members) > MAX_KEYS:
            raise ValueError(f"has more than {MAX_KEYS} keys")
        if any(jwk.get("kty") == "oct" or _SECRET_MEMBERS & jwk.keys() for jwk in members):
            raise ValueError("holds a symmetric or private key: publish the public ones only")
        keys = tuple(key for jwk in members if (key := _key(jwk)) is not None)
        names = [(key.algorithm_name, key.key_id) for key in keys if key.key_id is not None]
        if any(names.count(name) > 1 for name in names):
            raise ValueError("has two keys of the same kid")
        return cls(keys)

    def find(self, algorithm: str, kid: str | None) -> PyJWK | None:
        """Return the key of that id, or without an id the only key, that is bound to that algorithm."""
        fitting = [key for key in self.keys if key.algorithm_name == algorithm and kid in (None, key.key_id)]
        return fitting[0] if len(fitting) == 1 else None


def _members(raw: bytes) -> list[dict[str, Any]]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list) or not all(isinstance(jwk, dict) for jwk in members):
        raise ValueError("is not a JWK Set (RFC 7517 section 5)")
    return members


def _key(jwk: dict[str, Any]) -> PyJWK | None:
    algorithm = _algorithm(jwk)
    if algorithm is None:
        return None
    try:
        key = PyJWK(jwk, algorithm)
    except PyJWTError:
        return None
    return None if key.Algorithm.check_key_length(key.key) else key


def _algorithm(jwk: Mapping[str, Any]) -> str | None:
    """Return the one algorithm that a key verifies, or None where it is for something else."""
    kind = (jwk.get("kty"), jwk.get("crv"))
    algorithm = next((name for name, known in ALGORITHMS.items() if known == kind), None)
    operations = jwk.get("key_ops", ["verify"])
    verifies = jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    return algorithm if verifies and jwk.get("alg", algorithm) == algorithm else None
