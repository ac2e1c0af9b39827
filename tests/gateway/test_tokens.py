"""Which tokens open anything: the attacks of RFC 8725 and what RFC 7515 and 7519 forbid, and none of it gets in."""

import json
from collections.abc import Callable
from functools import partial

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.claims import Principal, TokenRefused
from gateway.keyset import ALGORITHMS, KeySet
from gateway.tokens import MAX_KID, MAX_TOKEN, SharedSecret, Verifier
from tests.gateway.issuer import (
    CLAIMS,
    NOW,
    SECRET,
    Published,
    compact,
    document,
    hs256,
    published,
    segment,
    signing,
    verifier,
)

ANA = Principal("ana", frozenset({"w"}), None)
UNSIGNED_SPELLINGS = ["none", "None", "NONE", "nOnE", "none ", "", "NoNe\x00"]
RSA, EC, ED = signing("RS256"), signing("ES256"), signing("EdDSA")
RSA_PEM = RSA.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
RSA_DER = RSA.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
STRANGER = signing("RS256", "stranger")


def unsigned(alg: str, signature: str) -> str:
    return f"{segment({'alg': alg, 'kid': RSA.kid})}.{segment(CLAIMS)}.{signature}"


def hmac_with(key: bytes, **header: object) -> str:
    """Sign with any bytes: PyJWT itself refuses to with those of a public key."""
    return compact({"alg": "HS256", **header}, CLAIMS, key)


def with_signature(token: str, signature: bytes) -> str:
    return f"{token.rpartition('.')[0]}.{segment(signature)}"


def with_trailing_bits(token: str) -> str:
    """Change the bits of the last character that base64 has no use for: 256 bits end in a character of four."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


@pytest.mark.parametrize(
    "token", [hs256(), *(signing(name).token() for name in ALGORITHMS)], ids=["HS256", *ALGORITHMS]
)
async def test_a_good_token_opens_what_it_says(token: str) -> None:
    assert await verifier().verify(token) == ANA


FORGED: dict[str, Callable[[], str]] = {
    # RFC 8725 section 3.1: the algorithm is that of the key, not that of the header
    **{f"8725-3.1 alg {alg!r}, no signature": partial(unsigned, alg, "") for alg in UNSIGNED_SPELLINGS},
    **{f"8725-3.1 alg {alg!r}, some signature": partial(unsigned, alg, "eHh4") for alg in UNSIGNED_SPELLINGS},
    "8725-2.1 public key as PEM for HMAC": lambda: hmac_with(RSA_PEM, kid=RSA.kid),
    "8725-2.1 public key as PEM for HMAC, stripped": lambda: hmac_with(RSA_PEM.strip(), kid=RSA.kid),
    "8725-2.1 public key as DER for HMAC": lambda: hmac_with(RSA_DER, kid=RSA.kid),
    "8725-2.1 public key as JWK for HMAC": lambda: hmac_with(json.dumps(RSA.jwk()).encode(), kid=RSA.kid),
    "8725-2.1 the modulus for HMAC": lambda: hmac_with(RSA.jwk()["n"].encode(), kid=RSA.kid),
    "8725-3.1 HMAC with the header RS256": lambda: hmac_with(SECRET, alg="RS256", kid=RSA.kid),
    "8725-3.1 RS256 with the header HS256": lambda: RSA.token(alg="HS256"),
    "8725-3.1 RS256 with the header PS256": lambda: RSA.token(alg="PS256"),
    "8725-3.1 PS256 by the RSA key": lambda: compact({"alg": "PS256", "kid": RSA.kid}, CLAIMS, RSA.private, "PS256"),
    "8725-3.1 PS256 with the header RS256": lambda: compact(
        {"alg": "RS256", "kid": RSA.kid}, CLAIMS, RSA.private, "PS256"
    ),
    "8725-3.1 RS512 with the header RS256": lambda: compact(
        {"alg": "RS256", "kid": RSA.kid}, CLAIMS, RSA.private, "RS512"
    ),
    "8725-3.1 HS512 by the secret": lambda: compact({"alg": "HS512"}, CLAIMS, SECRET, "HS512"),
    "8725-3.1 ES256 for the RSA key": lambda: EC.token(kid=RSA.kid),
    "8725-3.1 ES256 for the RSA key, as RS256": lambda: EC.token(alg="RS256", kid=RSA.kid),
    "8725-3.1 wrong curve": lambda: signing("P-384").token(alg="ES256", kid=EC.kid),
    "8725-3.1 wrong curve by its own name": lambda: signing("P-384").token(kid=EC.kid),
    "8725-3.1 alg in lower case": lambda: hs256(alg="hs256"),
    # RFC 8725 section 3.10: what the token claims of its key is not believed
    "8725-3.10 kid of another algorithm's key": lambda: RSA.token(kid=ED.kid),
    "8725-3.10 unknown kid": lambda: RSA.token(kid="unknown"),
    "8725-3.10 kid is a path": lambda: RSA.token(kid="../../dev/null"),
    "8725-3.10 stranger under a known kid": lambda: STRANGER.token(kid=RSA.kid),
    "8725-3.10 embedded jwk": lambda: STRANGER.token(kid=RSA.kid, jwk=STRANGER.jwk()),
    "8725-3.10 jku": lambda: STRANGER.token(kid=RSA.kid, jku="https://attacker.example/jwks.json"),
    "8725-3.10 x5u and x5c": lambda: STRANGER.token(
        kid=RSA.kid, x5u="https://attacker.example/chain.pem", x5c=["MIIB"]
    ),
    # RFC 8725 section 3.3: all signatures are checked
    "8725-3.3 psychic signature": lambda: with_signature(EC.token(), bytes(64)),
    "8725-3.3 psychic signature in DER": lambda: with_signature(EC.token(), bytes.fromhex("3006020100020100")),
    "8725-3.3 r and s are the order": lambda: with_signature(
        EC.token(), bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551") * 2
    ),
    "8725-3.3 short ES256 signature": lambda: with_signature(EC.token(), bytes(63)),
    "8725-3.3 signature of zeros, RS256": lambda: with_signature(RSA.token(), bytes(256)),
    "8725-3.3 signature of zeros, EdDSA": lambda: with_signature(ED.token(), bytes(64)),
    "8725-3.3 signature of zeros, HS256": lambda: with_signature(hs256(), bytes(32)),
    "8725-3.3 a part of the signature": lambda: hs256()[:-4],
    "8725-3.3 signature of another token": lambda: hs256().rpartition(".")[0] + hs256({})[hs256({}).rindex(".") :],
    # RFC 7515 section 7.1: the compact serialisation, and nothing else
    "7515-7.1 empty": lambda: "",
    "7515-7.1 dots": lambda: "..",
    "7515-7.1 two parts": lambda: hs256().rpartition(".")[0],
    "7515-7.1 four parts": lambda: hs256() + ".x",
    "7515-7.1 a dot at the end": lambda: hs256() + ".",
    "7515-7.1 encrypted": lambda: hs256() + ".x.x",
    "7515-7.1 detached payload": lambda: "..".join(hs256().split(".")[::2]),
    "7515-7.2 JSON serialisation": lambda: json.dumps(
        dict(zip(("protected", "payload", "signature"), hs256().split("."), strict=True))
    ),
    "7515-2 padding": lambda: hs256() + "=",
    "7515-2 padding inside": lambda: hs256().replace(".", "=.", 1),
    "7515-2 base64 with + and /": lambda: with_signature(hs256(), b"\xfb\xff" * 16).replace("-", "+").replace("_", "/"),
    "7515-2 bits that nobody reads": lambda: with_trailing_bits(hs256()),
    "7515-2 garbage behind": lambda: hs256() + "!",
    "7515-2 newline behind": lambda: hs256() + "\n",
    "7515-2 space before": lambda: " " + hs256(),
    "7515-2 no ASCII": lambda: hs256() + "é",
    "7515-2 digits of another script": lambda: hs256() + "\u0663",
    "7515-2 half a character": lambda: hs256() + "\udcff",
    "too long": lambda: hs256({**CLAIMS, "more": "x" * MAX_TOKEN}),
    # RFC 7515 section 4: the header is a JSON object with unique names, and what is critical is known
    "7515-4 alg twice": lambda: compact('{"alg":"none","alg":"HS256"}', CLAIMS, SECRET),
    "7515-4 header is a list": lambda: compact([{"alg": "HS256"}], CLAIMS, SECRET),
    "7515-4 header is no JSON": lambda: compact("alg=HS256", CLAIMS, SECRET),
    "7515-4 header has a BOM": lambda: compact('\ufeff{"alg":"HS256"}', CLAIMS, SECRET),
    "7515-4 header in UTF-16": lambda: compact('{"alg":"HS256"}'.encode("utf-16"), CLAIMS, SECRET),
    "7515-4 header without end": lambda: compact("[" * 4000, CLAIMS, SECRET),
}


BEFORE_THE_CLAIMS = "too long|a signed JWT|JSON objects|algorithm|key is unknown|signature is wrong"


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
async def test_a_forged_token_opens_nothing(forge: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    # An attacker's library does not ask whether the key is meant for HMAC.
    monkeypatch.setattr("jwt.algorithms.HMACAlgorithm.prepare_key", lambda _, key: key)
    with pytest.raises(TokenRefused, match=BEFORE_THE_CLAIMS):
        await verifier().verify(forge())


MALFORMED_HEADERS = [
    pytest.param({"alg": ["HS256"]}, "algorithm is missing", id="RFC 7515 4.1.1: alg is a list"),
    pytest.param({"alg": None}, "algorithm is missing", id="RFC 7515 4.1.1: alg is null"),
    pytest.param({"alg": 256}, "algorithm is missing", id="RFC 7515 4.1.1: alg is a number"),
    pytest.param({"kid": 1}, "key id is malformed", id="RFC 7515 4.1.4: kid is a number"),
    pytest.param({"kid": None}, "key id is malformed", id="RFC 7515 4.1.4: kid is null"),
    pytest.param({"kid": ""}, "key id is malformed", id="kid is empty"),
    pytest.param({"kid": "k" * (MAX_KID + 1)}, "key id is malformed", id="kid is too long"),
    pytest.param({"crit": ["exp"], "exp": 1}, "critical", id="RFC 7515 4.1.11: a critical extension"),
    pytest.param({"crit": []}, "critical", id="RFC 7515 4.1.11: crit is empty"),
    pytest.param({"crit": None}, "critical", id="RFC 7515 4.1.11: crit is null"),
    pytest.param({"crit": ["b64"], "b64": True}, "critical", id="RFC 7797 3: a critical extension that PyJWT knows"),
    pytest.param({"b64": False}, "signature", id="RFC 7797 3: unencoded payload, not critical"),
]


@pytest.mark.parametrize(("header", "reason"), MALFORMED_HEADERS)
async def test_a_malformed_header_is_refused(header: dict[str, object], reason: str) -> None:
    with pytest.raises(TokenRefused, match=reason):
        await verifier().verify(hs256(**header))


async def test_a_header_without_algorithm_is_refused() -> None:
    with pytest.raises(TokenRefused, match="algorithm is missing"):
        await verifier().verify(compact({"typ": "JWT"}, CLAIMS, SECRET))


@pytest.mark.parametrize("sources", ["secret", "jwks"])
async def test_a_source_that_is_not_configured_accepts_nothing(sources: str) -> None:
    only = Verifier([SharedSecret(SECRET)] if sources == "secret" else [published()], clock=lambda: NOW)
    foreign = [signing(name).token() for name in ALGORITHMS] if sources == "secret" else [hs256()]
    for token in foreign:
        with pytest.raises(TokenRefused, match="algorithm is not accepted"):
            await only.verify(token)


async def test_without_any_source_nothing_is_accepted() -> None:
    with pytest.raises(TokenRefused):
        await Verifier([]).verify(hs256())


async def test_a_token_without_kid_belongs_to_the_only_key_of_its_algorithm() -> None:
    token = compact({"alg": "RS256"}, CLAIMS, RSA.private, "RS256")
    assert await verifier().verify(token) == ANA
    two = Verifier([Published(RSA.jwk(), STRANGER.jwk())], clock=lambda: NOW)
    with pytest.raises(TokenRefused, match="key is unknown"):
        await two.verify(token)


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"x" * 31, id="RFC 7518 section 3.2: less than 256 bits"),
        pytest.param(RSA_PEM, id="public key as PEM"),
        pytest.param(RSA_DER, id="public key as DER"),
        pytest.param(json.dumps(RSA.jwk()).encode(), id="JWK"),
    ],
)
def test_what_is_no_secret_is_refused_at_the_start(secret: bytes) -> None:
    with pytest.raises(ValueError, match="must") as refusal:
        SharedSecret(secret)
    assert not secret or secret.decode("latin-1") not in str(refusal.value)


async def test_a_verified_token_is_remembered_no_longer_than_it_lives() -> None:
    now = [float(NOW)]
    keys = Verifier([SharedSecret(SECRET)], clock=lambda: now[0])
    token = hs256()
    first = await keys.verify(token)
    assert await keys.verify(token) is first
    now[0] = NOW + 60 + 30
    with pytest.raises(TokenRefused, match="expired"):
        await keys.verify(token)


@pytest.mark.parametrize("successor", [(), (signing("RS256", "stranger").jwk(kid=RSA.kid),)], ids=["gone", "replaced"])
async def test_a_remembered_token_is_forgotten_with_its_key(successor: tuple[dict[str, object], ...]) -> None:
    source = published()
    keys = Verifier([source], clock=lambda: NOW)
    assert await keys.verify(RSA.token()) == ANA
    source.keys = KeySet.parse(document(*successor))
    with pytest.raises(TokenRefused):
        await keys.verify(RSA.token())


VERIFIER = verifier()
GOOD = [hs256(), *(signing(name).token() for name in ALGORITHMS)]


async def refused(token: str) -> bool:
    try:
        await VERIFIER.verify(token)
    except TokenRefused:
        return True
    return False


@given(st.sampled_from(GOOD), st.data())
@settings(max_examples=300, deadline=None)
async def test_any_changed_character_is_refused(token: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(token) - 1))
    base64url = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=.")
    other = data.draw(base64url | st.characters())
    assume(other != token[place])
    assert await refused(token[:place] + other + token[place + 1 :])
    assert await refused(token[:place] + other + token[place:])
    assert await refused(token[:place] + token[place + 1 :])
    assert await refused(token[:place])


@pytest.mark.parametrize("token", GOOD, ids=["HS256", *ALGORITHMS])
async def test_any_changed_last_character_is_refused(token: str) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert [last for last in alphabet if not await refused(token[:-1] + last)] == [token[-1]]


@given(st.text() | st.builds("{}.{}.{}".format, st.text(), st.text(), st.text()))
@settings(deadline=None)
async def test_any_text_is_refused_without_another_error(text: str) -> None:
    assert await refused(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
HEADERS = st.dictionaries(
    st.sampled_from(["kid", "typ", "cty", "jwk", "jku", "x5c", "x5u", "zip", "b64", "crit"]), JSON
)


@given(HEADERS, st.dictionaries(st.sampled_from(["sub", "workspace_ids", "exp", "nbf", "iat", "aud"]), JSON) | JSON)
@settings(deadline=None)
async def test_signed_nonsense_is_refused_without_another_error(header: dict[str, object], claims: object) -> None:
    await refused(hs256(claims, **header))  # most are, and a few happen to be right
