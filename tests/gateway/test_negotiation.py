import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.negotiation import best, nearest
from gateway.variants import NEAREST, ORIGINAL, VARIANTS

PICTURE = [("webp", "image/webp"), ("compressed", "image/jpeg"), ("original", "image/jpeg")]
VOICE = [("compressed", "audio/ogg"), ("aac", "audio/mp4"), ("original", "audio/ogg")]
CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
FIREFOX = "image/avif,image/webp,*/*"
SAFARI = (
    "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,"
    "image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
)
OLD_SAFARI = "image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        pytest.param(CHROME, "webp", id="Chrome's img"),
        pytest.param(FIREFOX, "webp", id="Firefox's img"),
        pytest.param(SAFARI, "webp", id="Safari's img"),
        pytest.param(OLD_SAFARI, "compressed", id="a Safari that knows no WebP"),
        pytest.param("*/*", "compressed", id="who says nothing of WebP may not show it"),
        pytest.param(None, "compressed", id="RFC 9110 12.5.1: no Accept means any type"),
        pytest.param("", "original", id="an empty Accept likes nothing, and is disregarded"),
        pytest.param("image/webp", "webp", id="RFC 9110 12.5.1: one type"),
        pytest.param("IMAGE/WEBP", "webp", id="RFC 9110 8.3.1: types are case-insensitive"),
        pytest.param("image/jpeg", "compressed", id="RFC 9110 12.5.1: the other type"),
        pytest.param("image/webp;q=0.5, image/jpeg", "compressed", id="RFC 9110 12.4.2: the heavier weight wins"),
        pytest.param("image/webp ; q=0.9 , image/jpeg;q=0.8", "webp", id="RFC 9110 5.6.3: optional whitespace"),
        pytest.param("image/webp;q=0, image/*", "compressed", id="RFC 9110 12.4.2: 0 is not acceptable"),
        pytest.param("image/webp;q=0.000, */*;q=0.1", "compressed", id="RFC 9110 12.4.2: three digits"),
        pytest.param("image/jpeg;q=0.1, image/*;q=0.9, image/webp;q=0.5", "webp", id="12.5.1: specific before wild"),
        pytest.param("image/webp;q=1.5, image/jpeg;q=0.1", "compressed", id="12.4.2: no weight above 1"),
        pytest.param("image/webp;q=0.1234, image/jpeg;q=0.1", "compressed", id="12.4.2: no fourth digit"),
        pytest.param("image/webp;q=x, image/jpeg;q=0.1", "compressed", id="12.4.2: no weight at all"),
        pytest.param("image/webp;q=\u0660, image/jpeg;q=0.1", "compressed", id="12.4.2: digits are ASCII"),
        pytest.param(",, image/webp", "webp", id="RFC 9110 5.6.1: empty elements"),
        pytest.param("text/html", "original", id="12.5.1: disregarded rather than 406"),
        pytest.param("image/png;q=0.9", "original", id="12.5.1: another picture type"),
    ],
)
def test_accept_chooses_a_picture(accept: str | None, expected: str) -> None:
    assert best(accept, PICTURE) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        pytest.param("*/*", "compressed", id="the first of equals"),
        pytest.param("audio/mp4, audio/*;q=0.5", "aac", id="an iPhone"),
        pytest.param("audio/ogg", "compressed", id="as it was spoken"),
    ],
)
def test_accept_chooses_a_sound(accept: str, expected: str) -> None:
    assert best(accept, VOICE) == expected


@given(accept=st.text(max_size=200))
def test_whatever_accept_says_an_offer_is_chosen(accept: str) -> None:
    assert best(accept, PICTURE) in {name for name, _ in PICTURE}


@pytest.mark.parametrize(
    ("asked", "ready", "expected"),
    [
        ("thumbnail", {"thumbnail", "small", "medium", "large"}, "thumbnail"),
        ("thumbnail", {"small", "large", "compressed"}, "large"),
        ("thumbnail", {"small", "compressed"}, "small"),
        ("large", {"small", "compressed"}, "compressed"),
        ("medium", {"webp"}, ORIGINAL),
        ("webp", {"compressed"}, "compressed"),
        ("aac", set(), ORIGINAL),
        ("waveform", {"aac", "compressed"}, ORIGINAL),
        ("preview", {"compressed", "thumbnail"}, "compressed"),
    ],
)
def test_the_nearest_variant_stands_in(asked: str, ready: set[str], expected: str) -> None:
    assert nearest(asked, ready) == expected


def test_only_variants_stand_in_for_variants() -> None:
    assert set(NEAREST) <= VARIANTS
    assert {name for names in NEAREST.values() for name in names} <= VARIANTS
