"""Whether a browser may show a medium in place, and under which name it saves it (RFC 6266)."""

import re
import unicodedata
from urllib.parse import quote

MAX_FILENAME_LENGTH = 150  # characters; with four bytes each still near what a file system takes

_INLINE_TYPES = re.compile(
    r"(?:image|audio|video)/(?!.*(?:svg|xml))[0-9a-z!#$&^_.+-]+|text/plain|application/vnd\.apple\.mpegurl"
)
_SUFFIXES = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "video/mp4": ".mp4",
    "audio/mp4": ".m4a",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
}  # of the types that variants have
_PATH_SEPARATOR = re.compile(r"[/\\]")
_EXTENSION = re.compile(r"\.[0-9A-Za-z]{1,16}")
_PERCENT_ESCAPE = re.compile(r"%(?=[0-9A-Fa-f]{2})")
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # controls, bidi and other formats, surrogates, breaks
_JOINERS = "\u200c\u200d"  # formats too, but Persian words and composed emoji need them
_ATTR_CHARS = "!#$&+-.^_`|~"  # RFC 8187 §3.2.1, besides letters and digits


def may_be_inline(content_type: str) -> bool:
    """Tell whether a type is known to be inactive: all others might be run by a browser, or are unknown to it.

    Images (no SVG), audio, video and plain text; never HTML, XML or scripts. Nor PDF: it can carry scripts, and the
    sandbox that we send keeps Chromium's viewer from showing it in place anyway.
    """
    essence = content_type.partition(";")[0].strip(" \t").lower()
    return _INLINE_TYPES.fullmatch(essence) is not None


def content_disposition(filename: str | None, *, attachment: bool, content_type: str) -> str:
    """Return a ``Content-Disposition`` that is safe for any name (RFC 6266 §4, RFC 8187 §3.2).

    Args:
        filename: As the sender gave it, untrusted; None, or nothing left after cleaning: no name is sent.
        attachment: The client wants to save it; also forced for every type that is not `may_be_inline`.
        content_type: What the medium is served as.
    """
    disposition = "attachment" if attachment or not may_be_inline(content_type) else "inline"
    name = safe_filename(filename or "")
    if not name:
        return disposition
    fallback = _ascii_fallback(name)
    extended = "" if fallback == name else f"; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"
    return f'{disposition}; filename="{fallback}"{extended}'


def variant_filename(filename: str | None, content_type: str) -> str | None:
    """Return the name of a variant's file: its medium's, with the extension of its own type."""
    if not filename or content_type not in _SUFFIXES:
        return filename
    stem, dot, extension = filename.rpartition(".")
    return (stem if stem and _EXTENSION.fullmatch(dot + extension) else filename) + _SUFFIXES[content_type]


def safe_filename(filename: str) -> str:
    """Return the last path part without what deceives or harms, at most `MAX_FILENAME_LENGTH` long; perhaps empty.

    Gone are control characters, formats such as bidi controls, quotes, and dots at either end; the extension is kept.
    """
    last_part = _PATH_SEPARATOR.split(filename)[-1]
    visible = "".join(char for char in last_part if char != '"' and _is_safe(char))
    name = " ".join(visible.split()).strip(". ")
    if len(name) <= MAX_FILENAME_LENGTH:
        return name
    stem, dot, suffix = name.rpartition(".")
    extension = dot + suffix if stem and _EXTENSION.fullmatch(dot + suffix) else ""
    return name[: MAX_FILENAME_LENGTH - len(extension)].rstrip(". ") + extension


def _is_safe(char: str) -> bool:
    return char in _JOINERS or unicodedata.category(char) not in _UNSAFE_CATEGORIES


def _ascii_fallback(name: str) -> str:
    """Take accents off, and replace what is still not ASCII, or would be decoded as an escape (RFC 6266 appendix D)."""
    decomposed = unicodedata.normalize("NFD", name)
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    return _PERCENT_ESCAPE.sub("_", re.sub(r"[^ -~]", "_", plain))
