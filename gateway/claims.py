"""What a token's payload says, read strictly: whom it names, which messages are open to them, from when until when."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from storage.record import MediaRecord

LEEWAY = 30.0  # seconds that the issuer's clock and ours may differ
MAX_WORKSPACES = 500
MAX_CONVERSATIONS = 500
_WORD = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,255}")
_YEAR_9999 = 253_402_300_799  # Unix seconds; what is later is a mistake, such as milliseconds


class TokenRefused(ValueError):
    """A token opens nothing; the message says why, and holds nothing of the token."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a token speaks for, and what is open to them."""

    subject: str
    workspaces: frozenset[str]
    conversations: frozenset[str] | None
    """None where the token restricts nobody to conversations; empty where it opens none."""

    def may_see(self, record: MediaRecord) -> bool:
        """Whether a message is one of theirs; a record with an empty list of participants is nobody's."""
        return (
            record.workspace_id in self.workspaces
            and (self.conversations is None or record.conversation_id in self.conversations)
            and (record.participants is None or self.subject in record.participants)
        )


@dataclass(frozen=True, slots=True)
class Claims:
    """A token's principal and its life, in Unix seconds."""

    principal: Principal
    not_before: float
    expires_at: float

    def check(self, now: float) -> None:
        """Raise TokenRefused out of the token's life, give or take `LEEWAY` (RFC 7519 sections 4.1.4 to 4.1.6)."""
        if now - LEEWAY >= self.expires_at:
            raise TokenRefused("The token has expired.")
        if now + LEEWAY < self.not_before:
            raise TokenRefused("The token is not valid yet.")


def _word(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise ValueError("must be 1 to 255 characters, none of them a control character or half of one")
    return text


Word = Annotated[str, AfterValidator(_word)]
NumericDate = Annotated[float, Field(ge=0, le=_YEAR_9999, allow_inf_nan=False)]


class _Payload(BaseModel):
    """The claims that are read; a claim that is there must be right, null included."""

    model_config = ConfigDict(strict=True, extra="ignore")

    sub: Word
    workspace_ids: Annotated[list[Word], Field(max_length=MAX_WORKSPACES)]
    # An absent claim restricts nobody; `null` might mean that or the contrary, and has no place in the type.
    conversation_ids: Annotated[list[Word], Field(max_length=MAX_CONVERSATIONS)] = Field(default_factory=list)
    exp: NumericDate
    nbf: NumericDate = 0.0
    iat: NumericDate = 0.0
    aud: Any = None
    iss: Any = None


def read_claims(payload: bytes, *, audience: str | None = None, issuer: str | None = None) -> Claims:
    """Read a payload whose signature was right.

    Args:
        payload: JSON in UTF-8.
        audience: What ``aud`` must be or hold; None ignores it.
        issuer: What ``iss`` must be; None ignores it.

    Raises:
        TokenRefused: A claim is missing or wrong; of the values nothing is told.
    """
    try:
        claims = _Payload.model_validate(json_object(payload))
    except ValidationError as error:
        name = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"][0]
        raise TokenRefused(f"The token's {name} is missing or malformed.") from None
    if audience is not None and audience not in _audiences(claims.aud):
        raise TokenRefused("The token is meant for another audience.")
    if issuer is not None and claims.iss != issuer:
        raise TokenRefused("The token is of another issuer.")
    return Claims(_principal(claims), max(claims.nbf, claims.iat), claims.exp)


def json_object(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object in UTF-8 whose names are unique (RFC 7515 section 4, RFC 8725 section 3.7).

    Raises:
        TokenRefused: It is anything else.
    """
    try:
        parsed = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise TokenRefused("The token is not made of JSON objects.") from None
    if not isinstance(parsed, dict):
        raise TokenRefused("The token is not made of JSON objects.")
    return parsed


def _principal(claims: _Payload) -> Principal:
    restricted = "conversation_ids" in claims.model_fields_set
    conversations = frozenset(claims.conversation_ids) if restricted else None
    return Principal(claims.sub, frozenset(claims.workspace_ids), conversations)


def _audiences(aud: object) -> Sequence[object]:
    return aud if isinstance(aud, list) else [aud]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) != len(members := dict(pairs)):
        raise ValueError("a name twice")
    return members


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError("beyond a double")
    return number
