"""Content-Disposition: RFC 6266 and RFC 8187 for honest names, and harmlessness for all others."""

import re
import unicodedata
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.disposition import MAX_FILENAME_LENGTH, content_disposition, may_be_inline, safe_filename

HEADER = re.compile(  # RFC 6266 §4.1, as far as we use it
    r"(?P<type>inline|attachment)"
    r'(?:; filename="(?P<fallback>[ !#-\[\]-~]+)")?'
    r"(?:; filename\*=UTF-8''(?P<extended>(?:%[0-9A-F]{2}|[!#$&+.^_`|~0-9A-Za-z-])+))?"
)


@pytest.mark.parametrize(
    "content_type",
    [
        "image/jpeg",
        "image/webp",
        "IMAGE/PNG",
        "audio/ogg; codecs=opus",
        "audio/amr",
        "video/mp4",
        "text/plain",
        "text/plain;charset=utf-8",
        "text/plain ; charset=utf-8",
    ],
)
def test_a_type_known_to_be_inactive_may_be_inline(content_type: str) -> None:
    assert may_be_inline(content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "TEXT/HTML; charset=utf-8",
        "application/xhtml+xml",
        "image/svg+xml",
        "Image/SVG+XML;charset=utf-8",
        "image/svg",
        "image/svg-xml",
        "text/xml",
        "application/xml",
        "application/rss+xml",
        "video/x+xml",
        "text/javascript",
        "application/javascript",
        "application/wasm",
        "text/css",
        "text/csv",
        "text/plain, text/html",
        "image/png,text/html",
        "multipart/x-mixed-replace",
        "message/rfc822",
        "application/x-shockwave-flash",
        "application/zip",
        "application/octet-stream",
        "application/pdf",
        "application/pdf+evil",
        "image/",
        "image",
        "image/*",
        "",
    ],
)
def test_a_type_that_a_browser_could_run_or_does_not_know_is_an_attachment(content_type: str) -> None:
    assert not may_be_inline(content_type)
    assert content_disposition(None, attachment=False, content_type=content_type) == "attachment"


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        pytest.param(None, "inline", id="no name"),
        pytest.param("", "inline", id="an empty name"),
        pytest.param("receipt.jpg", 'inline; filename="receipt.jpg"', id="6266-4.3 a plain name needs no filename*"),
        pytest.param("my receipt (2).jpg", 'inline; filename="my receipt (2).jpg"', id="6266-4.1 quoted-string"),
        pytest.param("Bob's; x=1.jpg", 'inline; filename="Bob\'s; x=1.jpg"', id="6266-4.1 separators are quoted"),
        pytest.param(
            "€ rates.jpg", "inline; filename=\"_ rates.jpg\"; filename*=UTF-8''%E2%82%AC%20rates.jpg", id="6266-5 euro"
        ),
        pytest.param(
            "résumé.pdf",
            "inline; filename=\"resume.pdf\"; filename*=UTF-8''r%C3%A9sum%C3%A9.pdf",
            id="6266-4.3 accents",
        ),
        pytest.param(
            "发票.pdf", "inline; filename=\"__.pdf\"; filename*=UTF-8''%E5%8F%91%E7%A5%A8.pdf", id="8187-3.2.3 Chinese"
        ),
        pytest.param(
            "100%41.jpg", "inline; filename=\"100_41.jpg\"; filename*=UTF-8''100%2541.jpg", id="6266-D escape lookalike"
        ),
        pytest.param("100%.jpg", 'inline; filename="100%.jpg"', id="6266-D a lone percent sign"),
        pytest.param(
            "it's 5*é.jpg",
            "inline; filename=\"it's 5*e.jpg\"; filename*=UTF-8''it%27s%205%2A%C3%A9.jpg",
            id="8187-3.2.1",
        ),
    ],
)
def test_a_name_becomes_a_header(filename: str | None, expected: str) -> None:
    assert content_disposition(filename, attachment=False, content_type="image/jpeg") == expected


def test_a_client_that_wants_to_save_gets_an_attachment() -> None:
    header = content_disposition("cat.jpg", attachment=True, content_type="image/jpeg")
    assert header == 'attachment; filename="cat.jpg"'


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        pytest.param("a\r\nSet-Cookie: b=c.jpg", "aSet-Cookie: b=c.jpg", id="header injection"),
        pytest.param("a\0b\x7f\x85c.jpg", "abc.jpg", id="control characters"),
        pytest.param("a\u2028b\u2029.jpg", "ab.jpg", id="line and paragraph separators"),
        pytest.param('a"; filename="b.exe', "a; filename=b.exe", id="quotes"),
        pytest.param("../../etc/passwd", "passwd", id="a path"),
        pytest.param("C:\\Windows\\evil.exe", "evil.exe", id="a Windows path"),
        pytest.param("a\\..\\", "", id="nothing after the path"),
        pytest.param("..", "", id="only dots"),
        pytest.param(".htaccess", "htaccess", id="a hidden file"),
        pytest.param(". . .ssh", "ssh", id="dots and spaces"),
        pytest.param("evil.exe. .", "evil.exe", id="what Windows takes off the end"),
        pytest.param("photo\u202egpj.exe", "photogpj.exe", id="right-to-left override"),
        pytest.param("\u2066a\u2069\u200f\u061cb.jpg", "ab.jpg", id="other bidi controls"),
        pytest.param("\ufeffa\u200b\u00adb.jpg", "ab.jpg", id="invisible formats"),
        pytest.param("a\ud800b.jpg", "ab.jpg", id="a lone surrogate"),
        pytest.param("می\u200cشود.pdf", "می\u200cشود.pdf", id="Persian keeps its joiner"),
        pytest.param("a \u00a0\u3000 b.jpg", "a b.jpg", id="runs of spaces"),
        pytest.param(
            "x" * 500 + ".jpeg", "x" * (MAX_FILENAME_LENGTH - 5) + ".jpeg", id="too long: keeps its extension"
        ),
        pytest.param("x" * 500, "x" * MAX_FILENAME_LENGTH, id="too long, no extension"),
        pytest.param("a." + "x" * 500, "a." + "x" * (MAX_FILENAME_LENGTH - 2), id="too long to be an extension"),
        pytest.param("x" * 140 + "." * 99 + ".pdf", "x" * 140 + ".pdf", id="too long, dots where it is cut"),
    ],
)
def test_a_hostile_name_is_made_harmless(filename: str, expected: str) -> None:
    assert safe_filename(filename) == expected


@given(
    filename=st.text(st.characters(exclude_categories=()), max_size=400),
    attachment=st.booleans(),
    content_type=st.sampled_from(["image/png", "text/html", "application/pdf"]),
)
def test_any_name_gives_a_header_that_parses_back(filename: str, *, attachment: bool, content_type: str) -> None:
    match = HEADER.fullmatch(content_disposition(filename, attachment=attachment, content_type=content_type))
    name = safe_filename(filename)
    assert match is not None
    assert match["type"] == ("attachment" if attachment or content_type != "image/png" else "inline")
    assert (match["fallback"] is None) == (name == "")
    assert (unquote(match["extended"], errors="strict") if match["extended"] else match["fallback"] or "") == name


@given(st.text(st.characters(exclude_categories=()), max_size=400))
def test_a_clean_name_is_short_flat_and_stays_clean(filename: str) -> None:
    name = safe_filename(filename)
    assert len(name) <= MAX_FILENAME_LENGTH
    assert not set(name) & set('/\\"\r\n\0')
    assert not name.startswith(".")
    assert all(unicodedata.category(char) not in {"Cc", "Cs"} for char in name)
    assert safe_filename(name) == name
