"""Which variant answers a request, as pure functions: by ``Accept`` (RFC 9110 section 12.5.1), or the nearest one."""

import re
from collections.abc import Collection, Sequence

from gateway.variants import NEAREST, ORIGINAL

_NEEDS_MENTION = {"image/webp"}
"""Types that a client without a word of them may not show: ``*/*`` is what they all send."""

_QVALUE = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")

Offer = tuple[str, str]
"""A variant's name and its media type."""


def best(accept: str | None, offers: Sequence[Offer]) -> str:
    """Return the offer that ``Accept`` likes best, the first of equals; the last one where it likes none.

    A server may disregard ``Accept`` rather than answer 406 (section 12.5.1): a picture helps more than an error.
    """
    ranges = _parse(accept) if accept is not None else [("*", "*", 1.0)]
    liked = [(_quality(ranges, content_type), -position, name) for position, (name, content_type) in enumerate(offers)]
    quality, _, name = max(liked)
    return name if quality > 0 else offers[-1][0]


def nearest(variant: str, ready: Collection[str]) -> str:
    """Return the variant that stands in best for another; the original always can."""
    return next((name for name in (variant, *NEAREST.get(variant, ())) if name in ready), ORIGINAL)


def _parse(accept: str) -> list[tuple[str, str, float]]:
    ranges = []
    for element in accept.split(","):
        media_range, *parameters = (part.strip().lower() for part in element.split(";"))
        main, slash, sub = media_range.partition("/")
        quality = _weight(parameters)
        if slash and quality is not None:
            ranges.append((main, sub, quality))
    return ranges


def _weight(parameters: Sequence[str]) -> float | None:
    """Return the q value, 1 without one; None where it is none by the grammar of section 12.4.2."""
    text = next((value.strip() for name, _, value in (each.partition("=") for each in parameters) if name == "q"), "1")
    return float(text) if _QVALUE.fullmatch(text) else None


def _quality(ranges: Sequence[tuple[str, str, float]], content_type: str) -> float:
    """Return the weight of the most specific range that matches; parameters of types are not told apart."""
    main, _, sub = content_type.partition(";")[0].strip().partition("/")
    patterns = [(main, sub), (main, "*"), ("*", "*")]
    if f"{main}/{sub}" in _NEEDS_MENTION:
        patterns = patterns[:1]
    for pattern in patterns:
        found = [quality for *given, quality in ranges if tuple(given) == pattern]
        if found:
            return max(found)
    return 0.0
