"""Which parts of a representation a ``Range`` header selects, and how several of them are laid out (RFC 9110 §14)."""

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from storage.store import ByteRange

MAX_RANGES = 16
MAX_HEADER_LENGTH = 4096  # characters; also keeps every number below the 4,300 digits that int() takes

_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
_BOUNDARY = re.compile(r"[0-9A-Za-z_-]{1,70}")


class NoParts(enum.Enum):
    """Why a request selects no parts."""

    WHOLE = "the whole representation is to be served, with 200"
    UNSATISFIABLE = "no range begins within the representation: 416"


Selection = tuple[ByteRange, ...] | NoParts
"""One or more ranges that do not overlap, in the order of the request; or the reason why there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Multipart:
    """A ``multipart/byteranges`` body, described without its bytes (RFC 9110 §14.6)."""

    content_type: str
    """Of the whole answer, with the boundary."""
    parts: tuple[tuple[bytes, ByteRange], ...]
    """For each part what to send before its bytes, and which bytes those are."""
    closing: bytes
    """What to send after the last part."""
    content_length: int
    """Of the whole body, in bytes."""


def parse_range(header: str | None, size: int) -> Selection:
    """Select parts of a representation of ``size`` bytes (RFC 9110 §14.1, §14.2).

    Ignored, as the RFC allows or demands, and therefore `NoParts.WHOLE`: no header, another unit than bytes, a set with
    an invalid element, more than `MAX_RANGES` ranges, ranges that together are longer than the representation, and any
    range of an empty representation. Beyond the grammar, white space after ``=`` is accepted, as nearly everybody does.
    """
    bounds = _parse_set(header, size) if header is not None and size > 0 else None
    if bounds is None:
        return NoParts.WHOLE
    ranges = [ByteRange(start, stop) for start, stop in bounds if start < stop]
    if sum(byte_range.length for byte_range in ranges) > size:
        return NoParts.WHOLE
    return _merge(ranges) if ranges else NoParts.UNSATISFIABLE


def content_range(byte_range: ByteRange, size: int) -> str:
    """Return the ``Content-Range`` of a 206 or of one part of it (RFC 9110 §14.4)."""
    return f"bytes {byte_range.start}-{byte_range.stop - 1}/{size}"


def unsatisfied_range(size: int) -> str:
    """Return the ``Content-Range`` of a 416 (RFC 9110 §15.5.17)."""
    return f"bytes */{size}"


def multipart(ranges: Sequence[ByteRange], size: int, *, content_type: str, boundary: str) -> Multipart:
    """Lay out ``ranges`` of a representation of ``size`` bytes as one body (RFC 9110 §14.6).

    Args:
        ranges: One or more, in the order in which they are to be sent.
        size: Of the whole representation, in bytes.
        content_type: What a 200 would have; ASCII.
        boundary: A random token; it must not occur in the representation.

    Raises:
        ValueError: The boundary would need quotes, which some clients do not understand.
    """
    if not _BOUNDARY.fullmatch(boundary):
        raise ValueError("a boundary is 1 to 70 letters, digits, hyphens and underscores")
    heads = [_part_head(boundary, content_type, content_range(byte_range, size)) for byte_range in ranges]
    heads[0] = heads[0].removeprefix(b"\r\n")
    closing = f"\r\n--{boundary}--\r\n".encode("ascii")
    return Multipart(
        content_type=f"multipart/byteranges; boundary={boundary}",
        parts=tuple(zip(heads, ranges, strict=True)),
        closing=closing,
        content_length=sum(map(len, heads)) + sum(byte_range.length for byte_range in ranges) + len(closing),
    )


def _part_head(boundary: str, content_type: str, part_range: str) -> bytes:
    head = f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {part_range}\r\n\r\n"
    return head.encode("ascii")


def _parse_set(header: str, size: int) -> list[tuple[int, int]] | None:
    """Return the bounds of every element, or None where the header is to be ignored."""
    unit, _, elements = header.partition("=")
    if len(header) > MAX_HEADER_LENGTH or unit.lower() != "bytes":
        return None
    # §5.6.1.2: a recipient skips empty elements.
    specs = [spec for element in elements.split(",") if (spec := element.strip(" \t"))]
    if not 0 < len(specs) <= MAX_RANGES:
        return None
    bounds = [_parse_spec(spec, size) for spec in specs]
    return None if None in bounds else [bound for bound in bounds if bound is not None]


def _parse_spec(spec: str, size: int) -> tuple[int, int] | None:
    """Return start and stop within the representation (none between: unsatisfiable); None: invalid (§14.1.1)."""
    match = _SPEC.fullmatch(spec)
    first, last = match.groups() if match else ("", "")
    if first and last:
        valid = int(first) <= int(last)
        return (int(first), min(int(last) + 1, size)) if valid else None
    if first:
        return int(first), size
    if last:
        return max(size - int(last), 0), size
    return None


def _merge(ranges: Sequence[ByteRange]) -> tuple[ByteRange, ...]:
    """Unite ranges that overlap; each union takes the earliest place that one of its members had in the request."""
    merged: list[tuple[int, ByteRange]] = []
    for place, byte_range in sorted(enumerate(ranges), key=lambda item: item[1].start):
        if merged and byte_range.start < merged[-1][1].stop:
            earlier, last = merged.pop()
            byte_range = ByteRange(last.start, max(last.stop, byte_range.stop))  # noqa: PLW2901 - grows by the union
            place = min(place, earlier)  # noqa: PLW2901 - as above
        merged.append((place, byte_range))
    return tuple(byte_range for _, byte_range in sorted(merged, key=itemgetter(0)))
