"""What the provider's answers mean: a resolved medium, or one of our errors. Pure functions, no I/O."""

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from storage.errors import OriginBusy, OriginError, OriginFailed, OriginGone, OriginRefused

MAX_ANSWER_BYTES = 64 * 1024
"""Of a JSON answer; a real one has less than 1 KB."""

BUSY_RETRY_AFTER = 60.0  # seconds, where the provider does not say
MAX_RETRY_AFTER = 24 * 3600.0  # seconds; call limits are counted by the hour or the day

_HEX = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)
_BASE64 = re.compile(r"[0-9A-Za-z+/_-]{43}=?")
_DIGITS = re.compile(r"[0-9]{1,18}")
_TRACE = re.compile(r"[\w-]{1,64}", re.ASCII)

_GRAPH_PERMISSIONS = range(200, 300)
_INVALID_PARAMETER = 100
_UNSUPPORTED_GET = 33

_BY_CODE: Mapping[int, type[OriginError]] = MappingProxyType({
    0: OriginRefused,  # we could not authenticate the app user
    3: OriginRefused,  # capability or permission; comes as HTTP 500
    10: OriginRefused,
    190: OriginRefused,  # the token is invalid or has expired
    131005: OriginRefused,
    # The number that received the media has been deleted, and they went with it.
    _UNSUPPORTED_GET: OriginGone,
    803: OriginGone,  # "do not exist": seen where 100/33 was expected
    # It could not fetch the user's file, or that has more than 100 MB: it never had it, and will not try again.
    131052: OriginGone,
    4: OriginBusy,  # limits come as HTTP 400: of the app, the business account, the number
    80007: OriginBusy,
    130429: OriginBusy,
    1: OriginFailed,
    2: OriginFailed,
    131000: OriginFailed,
    131016: OriginFailed,
    131057: OriginFailed,  # the number is in maintenance, for a minute at most
})  # fmt: skip

_BY_STATUS: Mapping[int, type[OriginError]] = MappingProxyType({
    HTTPStatus.UNAUTHORIZED: OriginRefused,
    HTTPStatus.FORBIDDEN: OriginRefused,
    HTTPStatus.TOO_MANY_REQUESTS: OriginBusy,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a media ID stands for, for the next five minutes."""

    url: str = field(repr=False)
    """Unchecked, and a secret: its query opens the medium."""
    sha256: str | None = None
    """64 lower-case hex digits."""
    size: int | None = None
    """In bytes."""
    mime_type: str | None = None


def parse_resolved(body: bytes) -> Resolved:
    """Read the answer to ``GET /{media-id}``; unknown keys are ignored.

    Raises:
        OriginFailed: It is not such an answer, or declares nonsense.
    """
    answer = _json_object(body)
    if answer is None:
        raise OriginFailed("The provider's answer is not a JSON object.")
    url, mime_type = answer.get("url"), answer.get("mime_type")
    if not isinstance(url, str) or not url:
        raise OriginFailed("The provider's answer has no download URL.")
    try:
        return Resolved(
            url=url,
            sha256=normalise_sha256(answer.get("sha256")),
            size=_size(answer.get("file_size")),
            mime_type=mime_type if isinstance(mime_type, str) and mime_type else None,
        )
    except ValueError as error:
        raise OriginFailed(f"The provider's answer makes no sense: {error}.") from None


def normalise_sha256(declared: object) -> str | None:
    """Turn a declared SHA-256 into 64 lower-case hex digits; None stays None.

    Webhooks carry it as base64 (padded or not, either alphabet), ``GET /{media-id}`` as hex.

    Raises:
        ValueError: It is neither.
    """
    if declared is None:
        return None
    if isinstance(declared, str):
        if _HEX.fullmatch(declared):
            return declared.lower()
        if _BASE64.fullmatch(declared):
            return base64.urlsafe_b64decode(declared.translate(str.maketrans("+/", "-_"))[:43] + "=").hex()
    raise ValueError("sha256 is neither hex nor base64 of 32 bytes")


def classify(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> OriginError:
    """Tell what an answer other than success means; the Graph code says more than the HTTP status.

    Args:
        status: The HTTP status.
        headers: By lower-case name.
        body: Its first `MAX_ANSWER_BYTES` at most.
        now: Unix seconds, to read a ``Retry-After`` that is a date.
    """
    graph = (_json_object(body) or {}).get("error")
    graph = graph if isinstance(graph, dict) else {}
    kind = _kind(status, graph)
    wait = _retry_after(headers.get("retry-after"), now)
    if kind is OriginBusy:
        wait = wait or _regain_access(headers.get("x-business-use-case-usage")) or BUSY_RETRY_AFTER
    summary = (kind.__doc__ or "").rstrip(".")
    return kind(f"{summary} ({_facts(status, graph)}).", retry_after=wait)


def _kind(status: int, graph: Mapping[str, Any]) -> type[OriginError]:
    code = _integer(graph.get("code"))
    if code in _GRAPH_PERMISSIONS:
        return OriginRefused
    if code == _INVALID_PARAMETER:
        # Without the subcode or this type, it is the request that is wrong: no reason to write the medium off.
        unsupported = _integer(graph.get("error_subcode")) == _UNSUPPORTED_GET
        return OriginGone if unsupported or graph.get("type") == "GraphMethodException" else OriginFailed
    known = _BY_CODE.get(code) if code is not None else None
    return known or _BY_STATUS.get(status, OriginFailed)


def _facts(status: int, graph: Mapping[str, Any]) -> str:
    """What the provider's support asks for, and nothing that it could hide a secret in."""
    code, subcode, trace = _integer(graph.get("code")), _integer(graph.get("error_subcode")), graph.get("fbtrace_id")
    facts = [f"HTTP {status}"]
    if code is not None:
        facts.append(f"code {code}" if subcode is None else f"code {code}/{subcode}")
    if isinstance(trace, str) and _TRACE.fullmatch(trace):
        facts.append(f"trace {trace}")
    return ", ".join(facts)


def _retry_after(value: str | None, now: float) -> float | None:
    """RFC 9110 section 10.2.3: seconds, or a date."""
    if value is None:
        return None
    if _DIGITS.fullmatch(value.strip()):
        return _bounded(float(value))
    try:
        return _bounded(parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _regain_access(value: str | None) -> float | None:
    """Read the longest ``estimated_time_to_regain_access`` of any business use case; it is in minutes."""
    usage = _json_object((value or "").encode()) or {}
    cases = [case for group in usage.values() if isinstance(group, list) for case in group if isinstance(case, dict)]
    minutes = [case.get("estimated_time_to_regain_access") for case in cases]
    seconds = [60.0 * m for m in minutes if isinstance(m, int | float) and 0 < m < math.inf]
    return _bounded(max(seconds)) if seconds else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 1.0), MAX_RETRY_AFTER)


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body) if len(body) <= MAX_ANSWER_BYTES else None
    except (ValueError, RecursionError):  # the latter from thousands of nested brackets
        return None
    return value if isinstance(value, dict) else None


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _size(declared: object) -> int | None:
    """Documented as a string, seen as a number."""
    if declared is None:
        return None
    if isinstance(declared, str) and _DIGITS.fullmatch(declared):
        return int(declared)
    size = _integer(declared)
    if size is None or size < 0:
        raise ValueError("file_size is no number of bytes")
    return size
