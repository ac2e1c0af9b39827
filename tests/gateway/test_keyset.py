"""Which keys of a JWK Set verify anything, and with which algorithm."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import HMACAlgorithm, RSAAlgorithm

from gateway.keyset import ALGORITHMS, MAX_KEYS, KeySet
from tests.gateway.issuer import document, signing

RSA, EC, ED = (signing(name) for name in ALGORITHMS)
SHORT = generate_private_key(65537, 1024)  # noqa: S505 what is to be refused
SHORT_RSA: dict[str, Any] = RSAAlgorithm.to_jwk(SHORT.public_key(), as_dict=True)
PRIVATE_RSA: dict[str, Any] = RSAAlgorithm.to_jwk(RSA.private, as_dict=True)


@pytest.mark.parametrize("key", [RSA, EC, ED], ids=ALGORITHMS)
@pytest.mark.parametrize("left_out", ["alg", "use", "key_ops"])
def test_the_algorithm_follows_from_type_and_curve(key: Any, left_out: str) -> None:
    keys = KeySet.parse(document(key.jwk(**{left_out: None})))
    found = keys.find(key.algorithm, key.kid)
    assert found is not None
    assert found.algorithm_name == key.algorithm


LEFT_OUT = {
    "RFC 7517 4.2: for encryption": RSA.jwk(use="enc"),
    "RFC 7517 4.2: for something unknown": RSA.jwk(use="tls"),
    "RFC 7517 4.3: not to verify": RSA.jwk(key_ops=["encrypt"]),
    "RFC 7517 4.3: to sign": RSA.jwk(key_ops=["sign"]),
    "RFC 7517 4.3: malformed operations": RSA.jwk(key_ops="verify"),
    "RFC 7517 4.4: RSA for PS256": RSA.jwk(alg="PS256"),
    "RFC 7517 4.4: RSA for RS512": RSA.jwk(alg="RS512"),
    "RFC 7517 4.4: RSA for HS256": RSA.jwk(alg="HS256"),
    "RFC 7517 4.4: RSA for none": RSA.jwk(alg="none"),
    "RFC 7517 4.4: RSA for ES256": RSA.jwk(alg="ES256"),
    "RFC 7517 4.4: malformed algorithm": RSA.jwk(alg=["RS256"]),
    "RFC 7517 4.1: no type": RSA.jwk(kty=None),
    "RFC 7517 4.1: unknown type": RSA.jwk(kty="AKP"),
    "RFC 7517 4.1: type in other case": RSA.jwk(kty="rsa"),
    "RFC 7517 4.1: malformed type": RSA.jwk(kty=["RSA"]),
    "RFC 7518 3.3: RSA below 2048 bits": SHORT_RSA,
    "RFC 7518 6.3.1: RSA without modulus": RSA.jwk(n=None),
    "RFC 7518 6.3.1: RSA without exponent": RSA.jwk(e=None),
    "RFC 7518 6.3.1: RSA with exponent 1": RSA.jwk(e="AQ"),
    "RFC 7518 6.3.1: RSA with a number for a modulus": RSA.jwk(n=65537),
    "RFC 7518 3.4: another curve": signing("P-384").jwk(),
    "RFC 7518 3.4: another curve for ES256": signing("P-384").jwk(alg="ES256"),
    "RFC 7518 6.2.1: another curve's point": signing("P-384").jwk(alg="ES256", crv="P-256"),
    "RFC 7518 6.2.1: no curve": EC.jwk(crv=None),
    "RFC 7518 6.2.1: no point of the curve": EC.jwk(x=EC.jwk()["y"], y=EC.jwk()["x"]),
    "RFC 7518 6.2.1: a short coordinate": EC.jwk(x=EC.jwk()["x"][:20]),
    "RFC 8037 2: another curve": ED.jwk(crv="X25519"),
    "RFC 8037 2: no key": ED.jwk(x=None),
    "RFC 8037 2: half a key": ED.jwk(x=ED.jwk()["x"][:20]),
}


@pytest.mark.parametrize("jwk", LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_key_that_is_not_for_our_algorithms_is_left_out(jwk: dict[str, Any]) -> None:
    keys = KeySet.parse(document(jwk, signing("EdDSA", "good").jwk()))
    assert [key.key_id for key in keys.keys] == ["good"]


REFUSED = {
    "nothing": (b"", "is not JSON"),
    "no JSON": (b"<html>", "is not JSON"),
    "no text": (b"\xff\xfe\xfd", "is not JSON"),
    "lists without end": (b"[" * 100_000, "is not JSON"),
    "null": (b"null", "is not a JWK Set"),
    "a list": (json.dumps([RSA.jwk()]).encode(), "is not a JWK Set"),
    "one key": (json.dumps(RSA.jwk()).encode(), "is not a JWK Set"),
    "keys by id": (json.dumps({"keys": {"k": RSA.jwk()}}).encode(), "is not a JWK Set"),
    "a key that is none": (json.dumps({"keys": [RSA.jwk(), "key"]}).encode(), "is not a JWK Set"),
    "too many keys": (document(*[RSA.jwk()] * (MAX_KEYS + 1)), "more than 100 keys"),
    "a shared secret": (document(HMACAlgorithm.to_jwk(b"x" * 32, as_dict=True)), "symmetric or private key"),
    "a shared secret without a value": (document({"kty": "oct", "kid": "s"}), "symmetric or private key"),
    "a private RSA key": (document(RSA.jwk(), PRIVATE_RSA), "symmetric or private key"),
    "a private EC key": (document(EC.jwk(d="AQ")), "symmetric or private key"),
    "a private key for encryption": (document(RSA.jwk(d="AQ", use="enc")), "symmetric or private key"),
    "two keys of one id": (document(RSA.jwk(), signing("RS256", "other").jwk(kid=RSA.kid)), "two keys of the same kid"),
}


@pytest.mark.parametrize(("raw", "fault"), REFUSED.values(), ids=REFUSED)
def test_a_document_that_cannot_be_meant_is_refused(raw: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        KeySet.parse(raw)


def test_the_same_id_may_name_a_key_of_each_algorithm() -> None:
    keys = KeySet.parse(document(*(signing(name, "k").jwk() for name in ALGORITHMS)))  # RFC 7517 section 4.5
    assert [key.algorithm_name for name in ALGORITHMS if (key := keys.find(name, "k"))] == list(ALGORITHMS)


@pytest.mark.parametrize(
    ("jwks", "kid", "found"),
    [
        pytest.param([RSA.jwk()], None, RSA.kid, id="no kid asked for, one key of the algorithm"),
        pytest.param([RSA.jwk(), EC.jwk()], None, RSA.kid, id="no kid asked for, others of other algorithms"),
        pytest.param([RSA.jwk(), signing("RS256", "other").jwk()], None, None, id="no kid asked for, two keys"),
        pytest.param([RSA.jwk(), signing("RS256", "other").jwk()], "other", "other", id="one of two"),
        pytest.param([RSA.jwk()], "other", None, id="an unknown kid"),
        pytest.param([RSA.jwk(kid=None)], "k", None, id="a kid, but the key has none"),
        pytest.param([RSA.jwk(kid=7)], "7", None, id="a kid that is a number"),
        pytest.param([EC.jwk()], EC.kid, None, id="a kid of another algorithm"),
        pytest.param([], None, None, id="no keys"),
    ],
)
def test_a_key_is_found_by_algorithm_and_id(jwks: list[dict[str, Any]], kid: str | None, found: str | None) -> None:
    key = KeySet.parse(document(*jwks)).find("RS256", kid)
    assert (key and key.key_id) == found


def test_a_key_without_id_is_found_without_id() -> None:
    assert KeySet.parse(document(RSA.jwk(kid=None))).find("RS256", None) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
MEMBERS = st.sampled_from(["kty", "crv", "alg", "use", "key_ops", "kid", "n", "e", "x", "y", "d"])


@given(st.sampled_from([RSA, EC, ED]), st.dictionaries(MEMBERS, JSON | st.text("AQ-_=", max_size=50), max_size=4))
@settings(deadline=None)
def test_whatever_a_key_holds_it_is_taken_left_out_or_refused(key: Any, changes: dict[str, Any]) -> None:
    try:
        keys = KeySet.parse(json.dumps({"keys": [{**key.jwk(), **changes}]}).encode())
    except ValueError:
        return
    assert all(ALGORITHMS[key.algorithm_name][0] == key.key_type for key in keys.keys)
