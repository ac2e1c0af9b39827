"""Conditional requests: the tables follow RFC 9110 §13, the rows named after servers what those get wrong."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conditional import (
    Outcome,
    Validators,
    evaluate,
    format_http_date,
    parse_http_date,
    range_applies,
)

MODIFIED = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
SAME = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"
CURRENT = Validators('"a"', MODIFIED)

PROCEED = Outcome.PROCEED
NOT_MODIFIED = Outcome.NOT_MODIFIED
FAILED = Outcome.PRECONDITION_FAILED

EVALUATIONS = [
    pytest.param({}, PROCEED, id="13.2.2 no condition"),
    # §13.1.1 If-Match
    pytest.param({"if-match": '"a"'}, PROCEED, id="13.1.1 match"),
    pytest.param({"if-match": '"b"'}, FAILED, id="13.1.1 no match"),
    pytest.param({"if-match": '"b", "a", "c"'}, PROCEED, id="13.1.1 one of several"),
    pytest.param({"if-match": "*"}, PROCEED, id="13.1.1 any representation"),
    pytest.param({"if-match": 'W/"a"'}, FAILED, id="13.1.1 strong comparison"),
    pytest.param({"if-match": '"A"'}, FAILED, id="8.8.3 tags are case-sensitive"),
    pytest.param({"if-match": "a"}, FAILED, id="8.8.3 no quotes, no match"),
    pytest.param({"if-match": ""}, FAILED, id="13.1.1 an empty list matches nothing"),
    # §13.1.4 If-Unmodified-Since
    pytest.param({"if-unmodified-since": SAME}, PROCEED, id="13.1.4 the same second"),
    pytest.param({"if-unmodified-since": LATER}, PROCEED, id="13.1.4 modified before"),
    pytest.param({"if-unmodified-since": EARLIER}, FAILED, id="13.1.4 modified after"),
    pytest.param({"if-unmodified-since": "yesterday"}, PROCEED, id="13.1.4 an invalid date is ignored (nginx)"),
    pytest.param({"if-unmodified-since": f"{EARLIER}, {EARLIER}"}, PROCEED, id="13.1.4 two dates are ignored"),
    # §13.1.2 If-None-Match
    pytest.param({"if-none-match": '"a"'}, NOT_MODIFIED, id="13.1.2 match"),
    pytest.param({"if-none-match": '"b"'}, PROCEED, id="13.1.2 no match"),
    pytest.param({"if-none-match": 'W/"a"'}, NOT_MODIFIED, id="13.1.2 weak comparison"),
    pytest.param({"if-none-match": 'w/"a"'}, PROCEED, id="8.8.3 the weakness flag is case-sensitive"),
    pytest.param({"if-none-match": 'W/ "a"'}, PROCEED, id="8.8.3 no white space after the weakness flag"),
    pytest.param({"if-none-match": "*"}, NOT_MODIFIED, id="13.1.2 any representation"),
    pytest.param({"if-none-match": '*, "a"'}, PROCEED, id="13.1.2 a star is no member of a list"),
    pytest.param({"if-none-match": '"b",\t"a"'}, NOT_MODIFIED, id="5.6.1.1 tabs are white space"),
    pytest.param({"if-none-match": ',, "b" , ,"a",'}, NOT_MODIFIED, id="5.6.1.2 empty elements are skipped"),
    pytest.param({"if-none-match": '"b", "a"'}, NOT_MODIFIED, id="5.3 two field lines are one list (nginx)"),
    pytest.param({"if-none-match": '"b,\\"a"'}, PROCEED, id="8.8.3 no escapes: a list of two must have a comma"),
    pytest.param({"if-none-match": '"x", "a'}, PROCEED, id="8.8.3 an unclosed tag spoils the list"),
    pytest.param({"if-none-match": '"x" "a"'}, PROCEED, id="5.6.1 members without a comma spoil the list"),
    pytest.param({"if-none-match": '"a", b'}, PROCEED, id="8.8.3 an unquoted member spoils the list"),
    pytest.param({"if-none-match": '"a b", "a"'}, PROCEED, id="8.8.3 no space inside a tag"),
    pytest.param({"if-none-match": "a"}, PROCEED, id="8.8.3 no quotes"),
    pytest.param({"if-none-match": ""}, PROCEED, id="13.1.2 an empty list matches nothing"),
    # §13.1.3 If-Modified-Since
    pytest.param({"if-modified-since": SAME}, NOT_MODIFIED, id="13.1.3 the same second"),
    pytest.param({"if-modified-since": LATER}, NOT_MODIFIED, id="13.1.3 modified before (nginx wants the same second)"),
    pytest.param({"if-modified-since": EARLIER}, PROCEED, id="13.1.3 modified after"),
    pytest.param({"if-modified-since": "Fri, 01 Jan 2100 00:00:00 GMT"}, NOT_MODIFIED, id="13.1.3 in the future"),
    pytest.param({"if-modified-since": "Sunday, 06-Nov-94 08:49:37 GMT"}, NOT_MODIFIED, id="5.6.7 obsolete rfc850"),
    pytest.param({"if-modified-since": "Sun Nov  6 08:49:37 1994"}, NOT_MODIFIED, id="5.6.7 obsolete asctime"),
    pytest.param({"if-modified-since": "0"}, PROCEED, id="13.1.3 an invalid date is ignored"),
    pytest.param({"if-modified-since": f"{LATER}, {LATER}"}, PROCEED, id="13.1.3 two dates are ignored"),
    # §13.2.2 precedence
    pytest.param({"if-match": '"a"', "if-unmodified-since": EARLIER}, PROCEED, id="13.2.2 step 1 before 2 (nginx)"),
    pytest.param({"if-match": '"b"', "if-unmodified-since": LATER}, FAILED, id="13.2.2 step 2 does not save step 1"),
    pytest.param({"if-match": '"a"', "if-none-match": '"a"'}, NOT_MODIFIED, id="13.2.2 step 3 after 1"),
    pytest.param({"if-match": '"b"', "if-none-match": '"b"'}, FAILED, id="13.2.2 step 1 before 3"),
    pytest.param({"if-unmodified-since": LATER, "if-none-match": '"a"'}, NOT_MODIFIED, id="13.2.2 step 3 after 2"),
    pytest.param({"if-unmodified-since": EARLIER, "if-none-match": '"a"'}, FAILED, id="13.2.2 step 2 before 3"),
    pytest.param(
        {"if-none-match": '"a"', "if-modified-since": EARLIER}, NOT_MODIFIED, id="13.2.2 step 3 not 4 (nginx)"
    ),
    pytest.param({"if-none-match": '"b"', "if-modified-since": LATER}, PROCEED, id="13.2.2 step 4 only without 3"),
    pytest.param({"if-none-match": "b", "if-modified-since": LATER}, PROCEED, id="13.1.3 nor with a malformed 3"),
    pytest.param({"if-none-match": '"a"', "range": "bytes=9999-"}, NOT_MODIFIED, id="14.2 conditions before ranges"),
    pytest.param({"if-none-match": '"b"', "if-range": '"b"'}, PROCEED, id="13.2.2 step 5 is not for here"),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("headers", "expected"), EVALUATIONS)
def test_a_read_with_conditions(method: str, headers: dict[str, str], expected: Outcome) -> None:
    assert evaluate(method, headers, CURRENT) is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"if-none-match": '"a"'}, FAILED, id="13.1.2 If-None-Match fails instead of 304"),
        pytest.param({"if-none-match": "*"}, FAILED, id="13.1.2 If-None-Match: * protects what exists"),
        pytest.param({"if-none-match": '"b"'}, PROCEED, id="13.1.2 no match"),
        pytest.param({"if-modified-since": LATER}, PROCEED, id="13.1.3 If-Modified-Since is for GET and HEAD"),
        pytest.param({"if-match": '"b"'}, FAILED, id="13.1.1 If-Match prevents a lost update"),
        pytest.param({"if-unmodified-since": EARLIER}, FAILED, id="13.1.4 If-Unmodified-Since too"),
    ],
)
def test_a_change_with_conditions(headers: dict[str, str], expected: Outcome) -> None:
    assert evaluate("DELETE", headers, CURRENT) is expected


@pytest.mark.parametrize(
    ("validators", "headers", "expected"),
    [
        pytest.param(Validators(None, None), {"if-match": '"a"'}, FAILED, id="13.1.1 no entity-tag matches no list"),
        pytest.param(Validators(None, None), {"if-match": "*"}, PROCEED, id="13.1.1 but the representation exists"),
        pytest.param(Validators(None, None), {"if-none-match": '"a"'}, PROCEED, id="13.1.2 no entity-tag"),
        pytest.param(Validators(None, None), {"if-none-match": "*"}, NOT_MODIFIED, id="13.1.2 the same for its star"),
        pytest.param(Validators('"a"', None), {"if-unmodified-since": EARLIER}, PROCEED, id="13.1.4 no date: ignored"),
        pytest.param(Validators('"a"', None), {"if-modified-since": LATER}, PROCEED, id="13.1.3 no date: ignored"),
        pytest.param(Validators('W/"a"', None), {"if-match": 'W/"a"'}, FAILED, id="8.8.3.2 two weak tags, strongly"),
        pytest.param(Validators('W/"a"', None), {"if-match": '"a"'}, FAILED, id="8.8.3.2 the current one is weak"),
        pytest.param(Validators('W/"a"', None), {"if-none-match": '"a"'}, NOT_MODIFIED, id="8.8.3.2 one weak, weakly"),
        pytest.param(Validators('"a,b"', None), {"if-none-match": '"x,y", "a,b"'}, NOT_MODIFIED, id="8.8.3 commas"),
        pytest.param(Validators('""', None), {"if-none-match": '""'}, NOT_MODIFIED, id="8.8.3 an empty tag"),
        pytest.param(Validators('"é"', None), {"if-none-match": '"é"'}, NOT_MODIFIED, id="8.8.3 obs-text"),
        pytest.param(Validators('"W/"', None), {"if-none-match": '"W/"'}, NOT_MODIFIED, id="8.8.3 W/ inside a tag"),
    ],
)
def test_conditions_on_other_validators(validators: Validators, headers: dict[str, str], expected: Outcome) -> None:
    assert evaluate("GET", headers, validators) is expected


def test_parts_of_a_second_do_not_count_because_the_client_never_saw_them() -> None:
    validators = Validators(None, MODIFIED + timedelta(microseconds=999_999))
    assert evaluate("GET", {"if-modified-since": SAME}, validators) is NOT_MODIFIED
    assert evaluate("GET", {"if-unmodified-since": SAME}, validators) is PROCEED
    assert range_applies("GET", {"if-range": SAME}, validators)


@pytest.mark.parametrize(
    ("headers", "validators", "expected"),
    [
        pytest.param({}, CURRENT, True, id="14.2 no If-Range"),
        pytest.param({"if-range": '"a"'}, CURRENT, True, id="13.1.5 the current entity-tag"),
        pytest.param({"if-range": '"b"'}, CURRENT, False, id="13.1.5 another entity-tag (aiohttp)"),
        pytest.param({"if-range": 'W/"a"'}, CURRENT, False, id="13.1.5 a weak entity-tag (werkzeug)"),
        pytest.param({"if-range": 'W/"a"'}, Validators('W/"a"', None), False, id="13.1.5 the same weak one"),
        pytest.param({"if-range": '"a"'}, Validators('W/"a"', None), False, id="13.1.5 the current one is weak"),
        pytest.param({"if-range": '"a", "b"'}, CURRENT, False, id="13.1.5 no list"),
        pytest.param({"if-range": "*"}, CURRENT, False, id="13.1.5 no star"),
        pytest.param({"if-range": '"a"'}, Validators(None, MODIFIED), False, id="13.1.5 no entity-tag to compare"),
        pytest.param({"if-range": SAME}, CURRENT, True, id="13.1.5 the current date"),
        pytest.param({"if-range": LATER}, CURRENT, False, id="13.1.5 a later date is no match (aiohttp)"),
        pytest.param({"if-range": EARLIER}, CURRENT, False, id="13.1.5 an earlier date (Tornado)"),
        pytest.param({"if-range": "Sun Nov  6 08:49:37 1994"}, CURRENT, True, id="5.6.7 the current date, obsolete"),
        pytest.param({"if-range": SAME}, Validators('"a"', MODIFIED, strong_date=False), False, id="8.8.2.2 weak date"),
        pytest.param({"if-range": SAME}, Validators('"a"', None), False, id="13.1.5 no date to compare"),
        pytest.param({"if-range": "a"}, CURRENT, False, id="13.1.5 neither tag nor date"),
        pytest.param({"if-range": ""}, CURRENT, False, id="13.1.5 empty"),
    ],
)
def test_if_range_decides_whether_a_range_applies(
    headers: dict[str, str], validators: Validators, *, expected: bool
) -> None:
    assert range_applies("GET", headers, validators) is expected


@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE", "get"])
def test_ranges_are_for_get_only(method: str) -> None:
    assert not range_applies(method, {"range": "bytes=0-9"}, CURRENT)  # §14.2
    assert not range_applies(method, {"range": "bytes=0-9", "if-range": '"a"'}, CURRENT)


@pytest.mark.parametrize(
    "hostile", ['"', '"a",', "W/", 'W/"', ",", " ", " ,", '"a" ', "\t,\t", '"' + "a" * 99 + '"', "Sun, ", "0"]
)
@pytest.mark.parametrize("name", ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"])
@pytest.mark.timeout(5)
def test_a_hostile_header_costs_linear_time(name: str, hostile: str) -> None:
    headers = {name: hostile * 100_000}
    evaluate("GET", headers, CURRENT)
    range_applies("GET", headers, CURRENT)


@given(
    names=st.dictionaries(
        st.sampled_from(["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"]),
        st.text() | st.from_regex(r'(W/)?"[a-c]?"(, (W/)?"[a-c]?")*') | st.just(SAME),
    ),
    method=st.sampled_from(["GET", "HEAD", "PUT"]),
)
def test_no_header_is_an_error(names: dict[str, str], method: str) -> None:
    assert evaluate(method, names, CURRENT) in Outcome
    assert range_applies(method, names, CURRENT) in {True, False}


DATES = [
    pytest.param("Sun, 06 Nov 1994 08:49:37 GMT", MODIFIED, id="5.6.7 IMF-fixdate"),
    pytest.param("Sunday, 06-Nov-94 08:49:37 GMT", MODIFIED, id="5.6.7 rfc850-date"),
    pytest.param("Sun Nov  6 08:49:37 1994", MODIFIED, id="5.6.7 asctime-date"),
    pytest.param("Wed Nov 16 08:49:37 1994", MODIFIED + timedelta(days=10), id="5.6.7 asctime-date, two digits"),
    pytest.param("Mon, 06 Nov 1994 08:49:37 GMT", MODIFIED, id="5.6.7 the day's name is not checked"),
    pytest.param("Tue, 29 Feb 2000 00:00:00 GMT", datetime(2000, 2, 29, tzinfo=UTC), id="5.6.7 a leap day"),
    pytest.param("Sat, 31 Dec 2016 23:59:60 GMT", datetime(2017, 1, 1, tzinfo=UTC), id="5.6.7 a leap second"),
    pytest.param("Thu, 01 Mar 2001 00:00:60 GMT", None, id="5.6.7 a leap second only ends a day"),
    pytest.param("Fri, 31 Dec 9999 23:59:60 GMT", None, id="5.6.7 a leap second after the last year"),
    pytest.param("Sat, 29 Feb 1900 00:00:00 GMT", None, id="5.6.7 no leap year"),
    pytest.param("Sun, 31 Nov 1994 08:49:37 GMT", None, id="5.6.7 no such day"),
    pytest.param("Sun, 00 Nov 1994 08:49:37 GMT", None, id="5.6.7 day zero"),
    pytest.param("Sun, 06 Nov 0000 08:49:37 GMT", None, id="5.6.7 year zero"),
    pytest.param("Sun, 06 Nov 1994 24:00:00 GMT", None, id="5.6.7 hour 24"),
    pytest.param("Sun, 06 Nov 1994 08:60:37 GMT", None, id="5.6.7 minute 60"),
    pytest.param("sun, 06 nov 1994 08:49:37 gmt", None, id="5.6.7 dates are case-sensitive"),
    pytest.param("Sun, 06 Nov 1994 08:49:37 UTC", None, id="5.6.7 only GMT"),
    pytest.param("Sun, 06 Nov 1994 08:49:37 +0000", None, id="5.6.7 no offset"),
    pytest.param("Sun, 06 Nov 1994 08:49:37", None, id="5.6.7 no zone"),
    pytest.param("06 Nov 1994 08:49:37 GMT", None, id="5.6.7 no day name"),
    pytest.param("Sun, 6 Nov 1994 08:49:37 GMT", None, id="5.6.7 a day has two digits"),
    pytest.param("Sun, 06 Nov 94 08:49:37 GMT", None, id="5.6.7 a year has four digits"),
    pytest.param("Sun, 06 Nov 1994 8:49:37 GMT", None, id="5.6.7 an hour has two digits"),
    pytest.param("Sun, 06 Nov 1994 08:49 GMT", None, id="5.6.7 seconds are not optional"),
    pytest.param("Sun,  06 Nov 1994 08:49:37 GMT", None, id="5.6.7 one space"),
    pytest.param("Sun, 06 Nov 1994 08:49:37 GMT ", None, id="5.6.7 nothing after it"),
    pytest.param("Sun, 06 Nov 1994 08:49:37 GMT\n", None, id="5.6.7 no line feed after it ($)"),
    pytest.param("Sun, 06 Nov 1994 08:49:37 GMT; length=5", None, id="5.6.7 no parameter as of old browsers"),
    pytest.param("Sun, 06-Nov-94 08:49:37 GMT", None, id="5.6.7 rfc850-date with a short day"),
    pytest.param("Sunday, 06-Nov-1994 08:49:37 GMT", None, id="5.6.7 rfc850-date with a long year"),
    pytest.param("Sun, \N{ARABIC-INDIC DIGIT ZERO}6 Nov 1994 08:49:37 GMT", None, id="5.6.7 an Arabic digit"),
    pytest.param("1994-11-06T08:49:37Z", None, id="5.6.7 ISO 8601"),
    pytest.param("784111777", None, id="5.6.7 a number"),
    pytest.param("", None, id="5.6.7 empty"),
]


@pytest.mark.parametrize(("text", "expected"), DATES)
def test_a_date_is_parsed_strictly(text: str, expected: datetime | None) -> None:
    assert parse_http_date(text, now=datetime(2026, 11, 21, tzinfo=UTC)) == expected


@pytest.mark.parametrize(
    ("now", "short_year", "expected"),
    [
        pytest.param(datetime(2026, 11, 6, 8, 49, 37, tzinfo=UTC), "76", 2076, id="exactly 50 years ahead"),
        pytest.param(datetime(2026, 11, 6, 8, 49, 36, tzinfo=UTC), "76", 1976, id="50 years and a second ahead"),
        pytest.param(datetime(2026, 11, 21, tzinfo=UTC), "77", 1977, id="51 years ahead"),
        pytest.param(datetime(2026, 11, 21, tzinfo=UTC), "26", 2026, id="this year"),
        pytest.param(datetime(2099, 12, 31, tzinfo=UTC), "00", 2000, id="the end of a century"),
        pytest.param(datetime(2028, 2, 29, tzinfo=UTC), "78", 1978, id="on a leap day"),
    ],
)
def test_two_digits_of_a_year_are_at_most_50_years_ahead(now: datetime, short_year: str, expected: int) -> None:
    date = parse_http_date(f"Sunday, 06-Nov-{short_year} 08:49:37 GMT", now=now)  # §5.6.7
    assert date == MODIFIED.replace(year=expected)


def test_a_date_is_formatted_in_gmt_whatever_its_zone() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    assert format_http_date(MODIFIED.astimezone(east)) == SAME
    assert format_http_date(datetime(987, 1, 2, 3, 4, 5, tzinfo=UTC)) == "Tue, 02 Jan 0987 03:04:05 GMT"


def test_a_date_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        format_http_date(MODIFIED.replace(tzinfo=None))


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_date_survives_the_round_trip(moment: datetime) -> None:
    assert parse_http_date(format_http_date(moment)) == moment.replace(microsecond=0)


@given(st.datetimes(timezones=st.just(UTC)))
def test_the_obsolete_form_of_c_survives_too(moment: datetime) -> None:
    assert parse_http_date(moment.ctime()) == moment.replace(microsecond=0)


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"))
def test_no_text_is_an_error(text: str) -> None:
    date = parse_http_date(text)
    assert date is None or date.tzinfo is UTC
