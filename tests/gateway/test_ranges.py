"""Range requests: the tables follow RFC 9110 §14, the rows named after servers what those get wrong."""

from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ranges import MAX_RANGES, NoParts, content_range, multipart, parse_range, unsatisfied_range
from storage.store import ByteRange

WHOLE = NoParts.WHOLE
UNSATISFIABLE = NoParts.UNSATISFIABLE
EVERYTHING = [(0, 1000)]

SELECTIONS = [
    # header, what it selects of 1000 bytes as (start, stop)
    pytest.param(None, WHOLE, id="14.2 no Range"),
    # §14.1.2 byte ranges
    pytest.param("bytes=0-499", [(0, 500)], id="14.1.2 first 500 bytes"),
    pytest.param("bytes=500-999", [(500, 1000)], id="14.1.2 second 500 bytes"),
    pytest.param("bytes=-500", [(500, 1000)], id="14.1.2 final 500 bytes"),
    pytest.param("bytes=500-", [(500, 1000)], id="14.1.2 from 500 on"),
    pytest.param("bytes=0-0,-1", [(0, 1), (999, 1000)], id="14.1.2 first and last byte"),
    pytest.param("bytes= 0-99, 450-549, -100", [(0, 100), (450, 550), (900, 1000)], id="14.1.2 first, middle and last"),
    pytest.param("bytes=500-600,601-999", [(500, 601), (601, 1000)], id="14.1.2 neighbours stay apart"),
    pytest.param("bytes=500-700,601-999", [(500, 1000)], id="14.1.2 an overlap is merged"),
    pytest.param("bytes=0-0", [(0, 1)], id="14.1.2 one byte is not everything (imgproxy)"),
    pytest.param("bytes=0-1", [(0, 2)], id="14.1.2 Safari's probe"),
    pytest.param("bytes=0-", EVERYTHING, id="14.1.2 all of it is still a 206 (Tornado)"),
    pytest.param("bytes=0-999", EVERYTHING, id="14.1.2 exactly all of it"),
    pytest.param("bytes=990-1999", [(990, 1000)], id="14.1.2 a last position past the end is cut"),
    pytest.param("bytes=-1001", EVERYTHING, id="14.1.2 a suffix longer than all is all (werkzeug)"),
    pytest.param("bytes=0000-0009", [(0, 10)], id="14.1.2 leading zeros"),
    pytest.param("bytes=0-99999999999999999999999", EVERYTHING, id="14.1.2 a last position beyond 64 bits"),
    pytest.param(f"bytes=0-{'9' * 4000}", EVERYTHING, id="14.1.2 a last position of 4000 digits"),
    pytest.param(f"bytes=-{'9' * 4000}", EVERYTHING, id="14.1.2 a suffix of 4000 digits"),
    pytest.param("bytes=18446744073709551616-", UNSATISFIABLE, id="14.1.2 a first position of 2^64 is not 0"),
    pytest.param(f"bytes=0-{'9' * 100_000}", WHOLE, id="14.2 a header too long to read"),
    # §14.1.2, §15.5.17 unsatisfiable
    pytest.param("bytes=1000-", UNSATISFIABLE, id="15.5.17 begins at the end"),
    pytest.param("bytes=1000-1001", UNSATISFIABLE, id="15.5.17 begins and ends past the end"),
    pytest.param("bytes=-0", UNSATISFIABLE, id="14.1.2 a suffix of no bytes (Go)"),
    pytest.param("bytes=1000-,-0", UNSATISFIABLE, id="15.5.17 all of several"),
    pytest.param("bytes=1000-1001,0-9", [(0, 10)], id="15.5.17 one of several is dropped (Starlette)"),
    # §14.1 units
    pytest.param("BYTES=0-9", [(0, 10)], id="14.1 units are case-insensitive (Go)"),
    pytest.param("seconds=0-9", WHOLE, id="14.2 an unknown unit must be ignored (Starlette, Go)"),
    pytest.param("bytes", WHOLE, id="14.1.1 no equals sign"),
    pytest.param("bytes 0-9", WHOLE, id="14.1.1 the form of Content-Range"),
    pytest.param("bytes =0-9", WHOLE, id="14.1.1 white space before the equals sign"),
    pytest.param("", WHOLE, id="14.1.1 empty"),
    # §14.1.1 invalid sets
    pytest.param("bytes=5-4", WHOLE, id="14.1.1 last before first"),
    pytest.param(f"bytes=1{'0' * 30}-{'9' * 30}", WHOLE, id="14.1.1 last before first, both beyond 64 bits"),
    pytest.param("bytes=10", WHOLE, id="14.1.1 no hyphen (Tornado)"),
    pytest.param("bytes=-", WHOLE, id="14.1.1 no position at all"),
    pytest.param("bytes=", WHOLE, id="14.1.1 no element"),
    pytest.param("bytes=,", WHOLE, id="5.6.1.2 only empty elements"),
    pytest.param("bytes=abc", WHOLE, id="14.1.1 no number"),
    pytest.param("bytes=0-1-2", WHOLE, id="14.1.1 two hyphens"),
    pytest.param("bytes=--1", WHOLE, id="14.1.1 a negative suffix"),
    pytest.param("bytes=0-9,5-4", WHOLE, id="14.1.1 an invalid element makes the set invalid (lighttpd)"),
    pytest.param("bytes=0-9,bytes=20-29", WHOLE, id="14.1.1 a repeated unit"),
    pytest.param("bytes=0 - 9", WHOLE, id="14.1.1 white space inside a spec (nginx)"),
    pytest.param("bytes=0-9 20-29", WHOLE, id="14.1.1 no comma"),
    pytest.param("bytes=+0-9", WHOLE, id="14.1.2 a sign (Go, Starlette)"),
    pytest.param("bytes=0-1_0", WHOLE, id="14.1.2 an underscore (int())"),
    pytest.param("bytes=4-\N{DEVANAGARI DIGIT FIVE}", WHOLE, id="14.1.2 a Devanagari digit (int(), \\d)"),
    pytest.param("bytes=\N{ARABIC-INDIC DIGIT ZERO}-9", WHOLE, id="14.1.2 an Arabic digit (int(), \\d)"),
    pytest.param("bytes=0-\N{SEGMENTED DIGIT ONE}", WHOLE, id="14.1.2 a segmented digit (int(), \\d)"),
    pytest.param("bytes=\N{THIN SPACE}0-9", WHOLE, id="5.6.3 white space is space and tab only"),
    pytest.param("bytes=0x0-0x9", WHOLE, id="14.1.2 hexadecimal"),
    pytest.param("bytes=0-9\n", WHOLE, id="14.1.1 a line feed at the end ($)"),
    # §5.6.1 lists
    pytest.param("bytes=0-9 \t,\t 20-29", [(0, 10), (20, 30)], id="5.6.1.1 white space around commas (werkzeug)"),
    pytest.param("bytes= 0-9", [(0, 10)], id="14.1.2 white space after the equals sign (h2o)"),
    pytest.param("bytes=,0-9,, ,20-29,", [(0, 10), (20, 30)], id="5.6.1.2 empty elements are skipped"),
    # §14.2, §14.6, §15.3.7.2 several ranges
    pytest.param("bytes=500-509,0-9", [(500, 510), (0, 10)], id="15.3.7.2 request order (Starlette)"),
    pytest.param("bytes=500-509,0-9,505-514", [(500, 515), (0, 10)], id="15.3.7.2 a union has its first one's place"),
    pytest.param("bytes=20-29,0-9,8-21", [(0, 30)], id="15.3.7.2 a range can bridge two others"),
    pytest.param("bytes=0-99,10-19", [(0, 100)], id="15.3.7.2 a range inside another"),
    pytest.param("bytes=0-9,0-9", [(0, 10)], id="15.3.7.2 the same range twice"),
    pytest.param("bytes=0-499,500-999", [(0, 500), (500, 1000)], id="14.2 exactly as much as there is"),
    pytest.param("bytes=0-499,499-999", WHOLE, id="17.15 a byte more than there is"),
    pytest.param("bytes=0-,0-,0-", WHOLE, id="17.15 everything three times (h2o)"),
    pytest.param("bytes=0-," + ",".join(f"5-{n}" for n in range(5, 1300)), WHOLE, id="17.15 killapache"),
    pytest.param(
        "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(MAX_RANGES)),
        [(2 * n, 2 * n + 1) for n in range(MAX_RANGES)],
        id="14.2 as many as we take",
    ),
    pytest.param(
        "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(MAX_RANGES + 1)), WHOLE, id="17.15 one too many"
    ),
]


@pytest.mark.parametrize(("header", "expected"), SELECTIONS)
def test_a_range_header_selects(header: str | None, expected: NoParts | list[tuple[int, int]]) -> None:
    wanted = expected if isinstance(expected, NoParts) else tuple(ByteRange(start, stop) for start, stop in expected)
    assert parse_range(header, 1000) == wanted


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0", "bytes=5-4", None])
def test_an_empty_representation_is_always_whole(header: str | None) -> None:
    assert parse_range(header, 0) is WHOLE


@pytest.mark.parametrize("element", ["0-0,", ",", " ", "0", "-", "0-0 ", "\t,", "bytes=", "0-0, ,"])
@pytest.mark.timeout(5)
def test_a_hostile_header_costs_linear_time(element: str) -> None:
    assert isinstance(parse_range("bytes=" + element * 1_000_000, 10**12), NoParts)


def test_the_content_range_of_a_part_has_an_inclusive_end() -> None:
    assert content_range(ByteRange(42, 1234), 1234) == "bytes 42-1233/1234"  # §14.4


def test_the_content_range_of_a_416_names_the_unit() -> None:
    assert unsatisfied_range(47022) == "bytes */47022"  # §15.5.17


def test_a_multipart_body_is_laid_out_as_in_the_standard() -> None:
    # §14.6, the example, with our boundary
    layout = multipart(
        [ByteRange(500, 1000), ByteRange(7000, 8000)], 8000, content_type="application/pdf", boundary="SEPARATOR"
    )
    first, second = (head for head, _ in layout.parts)
    assert layout.content_type == "multipart/byteranges; boundary=SEPARATOR"
    assert first == b"--SEPARATOR\r\nContent-Type: application/pdf\r\nContent-Range: bytes 500-999/8000\r\n\r\n"
    assert second == b"\r\n--SEPARATOR\r\nContent-Type: application/pdf\r\nContent-Range: bytes 7000-7999/8000\r\n\r\n"
    assert layout.closing == b"\r\n--SEPARATOR--\r\n"


@pytest.mark.parametrize("boundary", ["", "a b", "a\r\nX: y", 'a"', "a;b", "a" * 71, "é", "a\n"])
def test_a_boundary_that_needs_quotes_is_refused(boundary: str) -> None:
    with pytest.raises(ValueError, match="boundary"):
        multipart([ByteRange(0, 1)], 1, content_type="image/png", boundary=boundary)


SIZES = st.integers(0, 60)
POSITIONS = st.integers(0, 80)
SPECS = st.one_of(
    st.tuples(POSITIONS, POSITIONS).map(sorted).map(lambda pair: (f"{pair[0]}-{pair[1]}", slice(pair[0], pair[1] + 1))),
    POSITIONS.map(lambda first: (f"{first}-", slice(first, None))),
    POSITIONS.map(lambda length: (f"-{length}", slice(-length, None) if length else slice(0, 0))),
)


@given(header=st.text() | st.from_regex(r"bytes=[-0-9, \t]*"), size=st.integers(0, 10**15))
def test_no_header_is_an_error_and_every_range_lies_within(header: str, size: int) -> None:
    selection = parse_range(header, size)
    if isinstance(selection, tuple):
        assert 0 < len(selection) <= MAX_RANGES
        assert all(0 <= byte_range.start < byte_range.stop <= size for byte_range in selection)


@given(specs=st.lists(SPECS, min_size=1, max_size=MAX_RANGES + 2), size=SIZES)
def test_the_bytes_selected_are_the_union_of_the_requested_slices(specs: list[tuple[str, slice]], size: int) -> None:
    positions = range(size)
    requested = [set(positions[part]) for _, part in specs]
    selection = parse_range("bytes=" + ", ".join(spec for spec, _ in specs), size)
    if selection is NoParts.WHOLE:
        assert size == 0 or len(specs) > MAX_RANGES or sum(map(len, requested)) > size
    elif selection is NoParts.UNSATISFIABLE:
        assert not any(requested)
    else:
        served = [position for part in selection for position in range(part.start, part.stop)]
        assert sorted(served) == sorted(set().union(*requested))  # each of them once


@given(data=st.binary(min_size=1, max_size=200), specs=st.lists(SPECS, min_size=1, max_size=6))
def test_a_multipart_body_is_as_long_as_announced_and_parses_back(data: bytes, specs: list[tuple[str, slice]]) -> None:
    selection = parse_range("bytes=" + ",".join(spec for spec, _ in specs), len(data))
    if isinstance(selection, NoParts):
        return
    layout = multipart(selection, len(data), content_type="application/x-raw", boundary="b0b1b2b3b4b5b6b7")
    body = b"".join(head + data[part.start : part.stop] for head, part in layout.parts) + layout.closing
    assert len(body) == layout.content_length

    # A mail parser that takes lines for lines would change the bytes, so they travel as hexadecimal digits here.
    readable = b"".join(head + data[part.start : part.stop].hex().encode() for head, part in layout.parts)
    header = f"Content-Type: {layout.content_type}\r\n\r\n".encode()
    message = message_from_bytes(header + readable + layout.closing, policy=policy.HTTP)
    parsed = [(part["Content-Range"], part["Content-Type"], part.get_payload()) for part in message.iter_parts()]
    assert parsed == [
        (content_range(part, len(data)), "application/x-raw", data[part.start : part.stop].hex()) for part in selection
    ]
    assert not message.defects
