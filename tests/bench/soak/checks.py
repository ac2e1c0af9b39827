"""What is wrong with an answer about a content: pure functions."""

import hashlib
from collections.abc import Iterator, Sequence

from tests.bench.soak.truth import Answer, Check, Content

Span = tuple[int, int]
"""First and last byte, both included."""


def whole(content: Content, answer: Answer) -> str | None:
    """Expect all bytes."""
    if answer.status != 200:
        return f"status {answer.status}"
    if hashlib.sha256(answer.body).hexdigest() != content.sha256:
        return f"other bytes, {len(answer.body)} of {len(content.body)}"
    return _field(answer, "etag", content.etag) or _field(answer, "content-length", str(len(content.body)))


def headed(content: Content, answer: Answer) -> str | None:
    """Expect the fields without the bytes; of what is not stored yet only those that are declared."""
    if answer.status != 200 or answer.body:
        return f"status {answer.status}, {len(answer.body)} bytes"
    wanted = {"etag": content.etag, "content-length": str(len(content.body))}
    return next((_field(answer, name, wanted[name]) for name in wanted if name in answer.headers), None)


def part(first: int, last: int | None) -> Check:
    """Expect the bytes from one to another; a negative first one counts from the end."""

    def check(content: Content, answer: Answer) -> str | None:
        size = len(content.body)
        start = max(0, size + first) if first < 0 else first
        if start >= size:
            return None if answer.status == 416 else f"status {answer.status} for a range beyond the end"
        stop = size - 1 if last is None or first < 0 else min(last, size - 1)
        if answer.status != 206 or answer.body != content.body[start : stop + 1]:
            return f"status {answer.status}, {len(answer.body)} bytes for {start}-{stop}"
        return _field(answer, "content-range", f"bytes {start}-{stop}/{size}") or _field(answer, "etag", content.etag)

    return check


def parts(spans: Sequence[Span]) -> Check:
    """Expect several parts, which neither overlap nor add up to the whole."""

    def check(content: Content, answer: Answer) -> str | None:
        size = len(content.body)
        there = [(first, min(last, size - 1)) for first, last in spans if first < size]
        if len(there) < len(spans) or sum(last + 1 - first for first, last in there) > size // 2:
            return None if answer.status in {200, 206, 416} else f"status {answer.status}"
        expected = [(f"bytes {first}-{last}/{size}", content.body[first : last + 1]) for first, last in there]
        if answer.status != 206 or list(_multipart(answer)) != expected:
            return f"status {answer.status}, other parts for {there}"
        return None

    return check


def unless(known: Content) -> Check:
    """Expect the whole from who knows another content already, and 304 of this one."""

    def check(content: Content, answer: Answer) -> str | None:
        if content is not known:
            return whole(content, answer)
        return None if answer.status == 304 and not answer.body else f"status {answer.status} instead of 304"

    return check


def part_if(known: Content, first: int, last: int) -> Check:
    """Expect a part of the content that the client knows, and the whole of any other."""
    return lambda content, answer: (part(first, last) if content is known else whole)(content, answer)


def rendition(content: Content, answer: Answer) -> str | None:
    """Expect bytes of which the validators are right: which ones, only the recipe knows."""
    digest = hashlib.sha256(answer.body).hexdigest()
    if answer.status != 200:
        return f"status {answer.status}"
    shown = answer.headers.get("x-media-variant")
    if shown == "original" and digest != content.sha256:
        return "other bytes than the original's"
    return _field(answer, "etag", f'"{digest}"')


def _field(answer: Answer, name: str, value: str) -> str | None:
    found = answer.headers.get(name)
    return None if found == value else f"{name} {found} instead of {value}"


def _multipart(answer: Answer) -> Iterator[tuple[str, bytes]]:
    """Yield the range and the bytes of each part: RFC 9110 section 14.6."""
    _, _, boundary = answer.headers.get("content-type", "").partition("boundary=")
    mark = b"--" + boundary.strip('"').encode()
    for each in answer.body.split(b"\r\n" + mark if answer.body.startswith(b"\r\n") else mark):
        head, found, body = each.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n") if b": " in line)
        if found and b"content-range" in fields:
            yield fields[b"content-range"].decode(), body.removesuffix(b"\r\n")
