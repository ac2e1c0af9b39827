"""What a payload must say, as RFC 7519 defines it, and which messages it opens."""

import json
from dataclasses import replace

import pytest

from gateway.claims import MAX_CONVERSATIONS, MAX_WORKSPACES, Principal, TokenRefused, read_claims
from tests.gateway.issuer import CLAIMS, NOW, hs256, verifier
from tests.storage.reading import a_record


def payload(**changes: object) -> bytes:
    """Return the payload of a good token with changes; what is Ellipsis is left out."""
    return json.dumps({name: value for name, value in {**CLAIMS, **changes}.items() if value is not ...}).encode()


WORDS = ["w"] * 3
MALFORMED = [
    # RFC 7519 section 4.1.4: a NumericDate, and required here
    ("exp", ...),
    ("exp", None),
    ("exp", True),
    ("exp", False),
    ("exp", str(NOW + 60)),
    ("exp", ""),
    ("exp", []),
    ("exp", [NOW + 60]),
    ("exp", {}),
    ("exp", -1),
    ("exp", 10**12),
    ("exp", 10**18),
    ("exp", 10**400),
    ("exp", 1e300),
    ("nbf", None),
    ("nbf", "0"),
    ("nbf", True),
    ("nbf", -(10**400)),
    ("iat", None),
    ("iat", "0"),
    ("iat", True),
    # RFC 7519 section 4.1.2, required here
    ("sub", ...),
    ("sub", None),
    ("sub", ""),
    ("sub", 7),
    ("sub", ["ana"]),
    ("sub", "x" * 256),
    ("sub", "ana\n"),
    ("sub", "a\x00na"),
    ("sub", "\ud800"),
    # the contract
    ("workspace_ids", ...),
    ("workspace_ids", None),
    ("workspace_ids", "w"),
    ("workspace_ids", {"w": True}),
    ("workspace_ids", [7]),
    ("workspace_ids", [None]),
    ("workspace_ids", [""]),
    ("workspace_ids", [["w"]]),
    ("workspace_ids", ["x" * 256]),
    ("workspace_ids", ["w"] * (MAX_WORKSPACES + 1)),
    ("conversation_ids", None),
    ("conversation_ids", "c"),
    ("conversation_ids", [7]),
    ("conversation_ids", [None]),
    ("conversation_ids", ["c"] * (MAX_CONVERSATIONS + 1)),
]


@pytest.mark.parametrize(("name", "value"), MALFORMED, ids=[f"{name} {value!r}"[:40] for name, value in MALFORMED])
def test_a_malformed_claim_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(TokenRefused, match=f"^The token's {name} is missing or malformed.$"):
        read_claims(payload(**{name: value}))


NO_OBJECT = {
    "RFC 7519 section 4: a name twice": b'{"sub":"eve","sub":"ana","workspace_ids":["w"],"exp":1700000060}',
    "a name twice inside": b'{"sub":"ana","workspace_ids":["w"],"exp":1700000060,"act":{"sub":1,"sub":2}}',
    "a name twice, one escaped": b'{"sub":"eve","s\\u0075b":"ana","workspace_ids":["w"],"exp":1700000060}',
    "RFC 8259 section 6: NaN": b'{"sub":"ana","workspace_ids":["w"],"exp":NaN}',
    "RFC 8259 section 6: Infinity": b'{"sub":"ana","workspace_ids":["w"],"exp":Infinity}',
    "RFC 8259 section 6: -Infinity": b'{"sub":"ana","workspace_ids":["w"],"exp":-Infinity}',
    "more than a double": b'{"sub":"ana","workspace_ids":["w"],"exp":1e999}',
    "more digits than anybody converts": b'{"sub":"ana","workspace_ids":["w"],"exp":' + b"9" * 5000 + b"}",
    "RFC 8725 section 3.7: UTF-16": payload().decode().encode("utf-16"),
    "RFC 8725 section 3.7: no UTF-8": payload().replace(b"ana", b"an\xe1"),
    "RFC 8259 section 8.1: a BOM": b"\xef\xbb\xbf" + payload(),
    "something behind": payload() + b"x",
    "two objects": payload() * 2,
    "a list": b"[" + payload() + b"]",
    "a nested token": hs256().encode(),
    "a string": b'"ana"',
    "null": b"null",
    "nothing": b"",
    "lists without end": b"[" * 5000,
    "objects without end": b'{"a":' * 1200,
}


@pytest.mark.parametrize("raw", NO_OBJECT.values(), ids=NO_OBJECT)
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(TokenRefused, match="not made of JSON objects"):
        read_claims(raw)


@pytest.mark.parametrize(
    ("claims", "now", "reason"),
    [
        # RFC 7519 section 4.1.4: "on or after" exp; 30 seconds of leeway
        pytest.param({"exp": NOW}, NOW, None, id="exp now"),
        pytest.param({"exp": NOW}, NOW + 29.9, None, id="exp within the leeway"),
        pytest.param({"exp": NOW}, NOW + 30, "expired", id="exp at the end of the leeway"),
        pytest.param({"exp": NOW + 0.5}, NOW + 30.4, None, id="exp with a fraction"),
        pytest.param({"exp": NOW + 0.5}, NOW + 30.5, "expired", id="exp with a fraction, over"),
        pytest.param({"exp": 0}, NOW, "expired", id="exp 1970"),
        # RFC 7519 section 4.1.5
        pytest.param({"nbf": NOW + 30}, NOW, None, id="nbf within the leeway"),
        pytest.param({"nbf": NOW + 31}, NOW, "not valid yet", id="nbf after the leeway"),
        # RFC 7519 section 4.1.6: a token of the future is of no clock of ours
        pytest.param({"iat": NOW + 30}, NOW, None, id="iat within the leeway"),
        pytest.param({"iat": NOW + 31}, NOW, "not valid yet", id="iat after the leeway"),
        pytest.param({"iat": NOW - 10, "nbf": NOW + 31}, NOW, "not valid yet", id="the later one of iat and nbf"),
    ],
)
async def test_a_token_lives_from_nbf_to_exp(claims: dict[str, float], now: float, reason: str | None) -> None:
    token = hs256({**CLAIMS, **claims})
    if reason is None:
        assert (await verifier(now).verify(token)).subject == "ana"
    else:
        with pytest.raises(TokenRefused, match=reason):
            await verifier(now).verify(token)


@pytest.mark.parametrize(
    ("checks", "claims", "reason"),
    [
        # RFC 7519 section 4.1.3
        pytest.param({}, {"aud": "others"}, None, id="aud of others, none configured"),
        pytest.param({}, {"aud": 7, "iss": []}, None, id="nonsense, none configured"),
        pytest.param({"audience": "media"}, {"aud": "media"}, None, id="aud is ours"),
        pytest.param({"audience": "media"}, {"aud": ["chat", "media"]}, None, id="aud holds ours"),
        pytest.param({"audience": "media"}, {}, "audience", id="no aud"),
        pytest.param({"audience": "media"}, {"aud": None}, "audience", id="aud null"),
        pytest.param({"audience": "media"}, {"aud": "Media"}, "audience", id="aud in other case"),
        pytest.param({"audience": "media"}, {"aud": "media-gateway"}, "audience", id="aud begins as ours"),
        pytest.param({"audience": "media"}, {"aud": ["chat"]}, "audience", id="aud without ours"),
        pytest.param({"audience": "media"}, {"aud": {"media": 1}}, "audience", id="aud is an object"),
        pytest.param({"audience": "media"}, {"aud": [["media"]]}, "audience", id="aud in a list of lists"),
        # RFC 7519 section 4.1.1
        pytest.param({"issuer": "https://id"}, {"iss": "https://id"}, None, id="iss is ours"),
        pytest.param({"issuer": "https://id"}, {}, "issuer", id="no iss"),
        pytest.param({"issuer": "https://id"}, {"iss": "https://id/"}, "issuer", id="another iss"),
        pytest.param({"issuer": "https://id"}, {"iss": ["https://id"]}, "issuer", id="iss is a list"),
    ],
)
async def test_audience_and_issuer_are_checked_where_configured(
    checks: dict[str, str], claims: dict[str, object], reason: str | None
) -> None:
    token = hs256({**CLAIMS, **claims})
    if reason is None:
        assert (await verifier(NOW, **checks).verify(token)).subject == "ana"
    else:
        with pytest.raises(TokenRefused, match=reason):
            await verifier(NOW, **checks).verify(token)


def test_what_is_not_read_does_not_matter() -> None:
    claims = read_claims(payload(jti="1", name="Ana", act={"sub": "eve"}, workspace_ids=["w", "w", "v"]))
    assert claims.principal == Principal("ana", frozenset({"w", "v"}), None)


def test_no_conversations_is_not_the_same_as_no_restriction() -> None:
    assert read_claims(payload()).principal.conversations is None
    assert read_claims(payload(conversation_ids=[])).principal.conversations == frozenset()


RECORD = replace(a_record(), workspace_id="w", conversation_id="c", participants=("ana", "bob"))
ANA = Principal("ana", frozenset({"w", "v"}), frozenset({"c", "d"}))
ANYWHERE = replace(ANA, conversations=None)


@pytest.mark.parametrize(
    ("principal", "record", "seen"),
    [
        pytest.param(ANA, RECORD, True, id="workspace, conversation and participant"),
        pytest.param(replace(ANA, workspaces=frozenset({"v"})), RECORD, False, id="of another workspace"),
        pytest.param(replace(ANA, workspaces=frozenset()), RECORD, False, id="of no workspace"),
        pytest.param(replace(ANA, workspaces=frozenset({"W"})), RECORD, False, id="a workspace in other case"),
        pytest.param(replace(ANA, conversations=frozenset({"d"})), RECORD, False, id="of another conversation"),
        pytest.param(replace(ANA, conversations=frozenset()), RECORD, False, id="of no conversation"),
        pytest.param(ANYWHERE, RECORD, True, id="not restricted to conversations"),
        pytest.param(ANA, replace(RECORD, conversation_id=None), False, id="a record without conversation"),
        pytest.param(ANYWHERE, replace(RECORD, conversation_id=None), True, id="neither has conversations"),
        pytest.param(replace(ANA, subject="eve"), RECORD, False, id="no participant"),
        pytest.param(replace(ANA, subject="an"), RECORD, False, id="a part of a participant"),
        pytest.param(
            replace(ANA, subject="eve"), replace(RECORD, participants=None), True, id="no list of participants"
        ),
        pytest.param(ANA, replace(RECORD, participants=()), False, id="an empty list of participants"),
    ],
)
def test_a_principal_sees_what_is_theirs(principal: Principal, record: object, seen: bool) -> None:  # noqa: FBT001 a column
    assert principal.may_see(record) is seen  # type: ignore[arg-type] # `replace` of a parametrised row
