"""Whether the conditions of a request hold for the representation at hand (RFC 9110 §13)."""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY = "Mon|Tue|Wed|Thu|Fri|Sat|Sun"
_LONG_DAY = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_HTTP_DATES = tuple(  # §5.6.7, in order: IMF-fixdate, rfc850-date, asctime-date
    re.compile(pattern)
    for pattern in (
        rf"(?:{_DAY}), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        rf"(?:{_LONG_DAY}), (?P<day>[0-9]{{2}})-{_MONTH}-(?P<short_year>[0-9]{{2}}) {_TIME} GMT",
        rf"(?:{_DAY}) {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
)

# §8.8.3. The list's quantifiers are possessive, so that a hostile header costs linear time.
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_ENTITY_TAG_LIST = re.compile(rf"(?:{_ENTITY_TAG.pattern})?+(?:[ \t]*+,[ \t]*+(?:{_ENTITY_TAG.pattern})?+)*+[ \t]*+")


class Outcome(enum.Enum):
    """What the conditions ask for."""

    PROCEED = "perform the method"
    NOT_MODIFIED = "304"
    PRECONDITION_FAILED = "412"


@dataclass(frozen=True, slots=True)
class Validators:
    """What distinguishes the representation at hand from the resource's other ones (RFC 9110 §8.8)."""

    etag: str | None
    """With its quotes, as in the header; None: it has none, or it is not known yet."""
    last_modified: datetime | None
    """With a time zone; parts of a second do not count, because HTTP cannot express them."""
    strong_date: bool = True
    """Whether it is certain that there were not two changes within that second (§8.8.2.2); objects are immutable."""


def evaluate(method: str, headers: Mapping[str, str], validators: Validators) -> Outcome:
    """Evaluate the preconditions of a request in the order of RFC 9110 §13.2.2.

    Only for a request that would succeed without them (§13.2.1). What is malformed is never an error: a date is
    ignored, and a list of entity-tags matches nothing, which fails ``If-Match`` and lets ``If-None-Match`` pass.

    Args:
        method: Case-sensitive.
        headers: Names in lower case; the values of a repeated field joined by ``", "``.
        validators: Of an existing representation: ``*`` always matches.
    """
    if not _is_as_expected(headers, validators):
        return Outcome.PRECONDITION_FAILED
    if _is_new_to_client(method, headers, validators):
        return Outcome.PROCEED
    return Outcome.NOT_MODIFIED if method in {"GET", "HEAD"} else Outcome.PRECONDITION_FAILED


def range_applies(method: str, headers: Mapping[str, str], validators: Validators) -> bool:
    """Tell whether ``Range`` is to be looked at: for GET only (RFC 9110 §14.2), and where ``If-Range`` holds (§13.1.5).

    ``If-Range`` holds for exactly the current strong entity-tag, or exactly the current modification date where that is
    a strong validator.
    """
    condition = headers.get("if-range")
    if method != "GET" or condition is None:
        return method == "GET"
    if '"' in condition[:3]:
        return _is_strong(condition) and condition == validators.etag
    date = parse_http_date(condition)
    return validators.strong_date and date is not None and date == _whole_seconds(validators.last_modified)


def parse_http_date(text: str, *, now: datetime | None = None) -> datetime | None:
    """Parse the three forms of an HTTP date (RFC 9110 §5.6.7); None for anything else.

    Strict and case-sensitive, except that the day's name need not fit the date. A leap second is the second after it.

    Args:
        text: One date, without white space around it.
        now: Decides the century of a two-digit year; default: the clock's.
    """
    match = next((match for form in _HTTP_DATES if (match := form.fullmatch(text))), None)
    if match is None:
        return None
    month = _MONTHS.index(match["month"]) + 1
    day, hour, minute, second = (int(match[name]) for name in ("day", "hour", "minute", "second"))
    is_leap_second = (hour, minute, second) == (23, 59, 60)
    rest = (month, day, hour, minute, second - is_leap_second)
    fields = match.groupdict()
    year = int(fields["year"]) if "year" in fields else _full_year(int(fields["short_year"]), rest, now)
    try:
        return datetime(year, *rest, tzinfo=UTC) + timedelta(seconds=is_leap_second)
    except (ValueError, OverflowError):
        return None


def format_http_date(moment: datetime) -> str:
    """Return a moment as IMF-fixdate (RFC 9110 §5.6.7), without its parts of a second.

    Raises:
        ValueError: The moment has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a moment needs a time zone")
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def _is_as_expected(headers: Mapping[str, str], validators: Validators) -> bool:
    """Evaluate ``If-Match`` (§13.1.1), or else ``If-Unmodified-Since`` (§13.1.4)."""
    if (tags := headers.get("if-match")) is not None:
        etag = validators.etag
        return tags == "*" or (etag is not None and _is_strong(etag) and etag in _entity_tags(tags))
    return _modified_since(headers.get("if-unmodified-since"), validators) is not True


def _is_new_to_client(method: str, headers: Mapping[str, str], validators: Validators) -> bool:
    """Evaluate ``If-None-Match`` (§13.1.2), or else, for GET and HEAD, ``If-Modified-Since`` (§13.1.3)."""
    if (tags := headers.get("if-none-match")) is not None:
        etag = validators.etag
        opaque_tags = {tag.removeprefix("W/") for tag in _entity_tags(tags)}
        return tags != "*" and (etag is None or etag.removeprefix("W/") not in opaque_tags)
    if method not in {"GET", "HEAD"}:
        return True
    return _modified_since(headers.get("if-modified-since"), validators) is not False


def _modified_since(condition: str | None, validators: Validators) -> bool | None:
    """Compare with a date; None: there is no such condition, it is no single valid date, or we have no date."""
    last_modified = _whole_seconds(validators.last_modified)
    date = parse_http_date(condition) if condition is not None else None
    return last_modified > date if last_modified is not None and date is not None else None


def _entity_tags(tags: str) -> list[str]:
    """Return the members of a list, none for a malformed one."""
    return _ENTITY_TAG.findall(tags) if _ENTITY_TAG_LIST.fullmatch(tags) else []


def _is_strong(etag: str) -> bool:
    return not etag.startswith("W/")


def _whole_seconds(moment: datetime | None) -> datetime | None:
    return moment.replace(microsecond=0) if moment is not None else None


def _full_year(short_year: int, rest: tuple[int, int, int, int, int], now: datetime | None) -> int:
    """Take what appears to be more than 50 years in the future for the past (§5.6.7)."""
    today = (now or datetime.now(UTC)).astimezone(UTC)
    year = today.year // 100 * 100 + short_year
    is_far_future = (year - 50, *rest) > today.timetuple()[:6]
    return year - 100 if is_far_future else year
