"""Conditions over HTTP, RFC 9110 section 13: the order of section 13.2.2 at every layer, for GET and HEAD."""

from collections.abc import Mapping

from tests.gateway.layers import Layer
from tests.gateway.scene import IMMUTABLE

CONDITIONS: dict[str, tuple[Mapping[str, str], int]] = {
    # what it is about: (headers, status)
    "13.2.2 step 1: If-Match names it": ({"If-Match": "{etag}"}, 200),
    "13.2.2 step 1: If-Match names another": ({"If-Match": '"other"'}, 412),
    "13.1.1 any": ({"If-Match": "*"}, 200),
    "13.1.1 one of several": ({"If-Match": '"other", {etag}'}, 200),
    "13.1.1 weak tags never match": ({"If-Match": "W/{etag}"}, 412),
    "13.2.2 step 2: not modified since": ({"If-Unmodified-Since": "{date}"}, 200),
    "13.2.2 step 2: modified since": ({"If-Unmodified-Since": "{earlier}"}, 412),
    "13.1.4 a malformed date is ignored": ({"If-Unmodified-Since": "yesterday"}, 200),
    "13.2.2 step 1 goes before 2": ({"If-Match": "{etag}", "If-Unmodified-Since": "{earlier}"}, 200),
    "13.2.2 step 3: If-None-Match names it": ({"If-None-Match": "{etag}"}, 304),
    "13.2.2 step 3: If-None-Match names another": ({"If-None-Match": '"other"'}, 200),
    "13.1.2 any": ({"If-None-Match": "*"}, 304),
    "13.1.2 weak comparison": ({"If-None-Match": "W/{etag}"}, 304),
    "13.1.2 one of several": ({"If-None-Match": '"other", {etag}'}, 304),
    "13.2.2 step 4: not modified since": ({"If-Modified-Since": "{date}"}, 304),
    "13.2.2 step 4: not modified since a later date": ({"If-Modified-Since": "{later}"}, 304),
    "13.2.2 step 4: modified since": ({"If-Modified-Since": "{earlier}"}, 200),
    "13.1.3 a malformed date is ignored": ({"If-Modified-Since": "yesterday"}, 200),
    "13.2.2 step 3 goes before 4": ({"If-None-Match": '"other"', "If-Modified-Since": "{later}"}, 200),
    "13.2.2 step 4 does not undo 3": ({"If-None-Match": "{etag}", "If-Modified-Since": "{earlier}"}, 304),
    "13.2.2 step 3 after 1": ({"If-Match": "{etag}", "If-None-Match": "{etag}"}, 304),
    "13.2.2 step 1 before 3": ({"If-Match": '"other"', "If-None-Match": "{etag}"}, 412),
    "13.2.2 step 2 before 3": ({"If-Unmodified-Since": "{earlier}", "If-None-Match": "{etag}"}, 412),
}
WITH_RANGE: dict[str, tuple[Mapping[str, str], int]] = {
    "14.2 a range after the conditions": ({"If-None-Match": "{etag}", "Range": "bytes=5000-"}, 304),
    "14.2 a failed condition before a range": ({"If-Match": '"other"', "Range": "bytes=5000-"}, 412),
    "13.2.2 step 6 after 3": ({"If-None-Match": '"other"', "Range": "bytes=0-9"}, 206),
    "13.2.2 step 5 after 3": ({"If-None-Match": "{etag}", "Range": "bytes=0-9", "If-Range": "{etag}"}, 304),
    "13.2.2 step 5 after 4": ({"If-Modified-Since": "{date}", "Range": "bytes=0-9", "If-Range": "{etag}"}, 304),
    "13.2.2 step 5 after 1": ({"If-Match": "{etag}", "Range": "bytes=0-9", "If-Range": '"other"'}, 200),
    "13.1.5 no range, nothing to be conditional": ({"If-Range": '"other"'}, 200),
}


async def test_every_layer_keeps_the_order_of_rfc_9110(layer: Layer) -> None:
    table = CONDITIONS | WITH_RANGE
    given = {title: (await layer.ask("GET", headers)).response.status_code for title, (headers, _) in table.items()}
    assert given == {title: status for title, (_, status) in table.items()}


async def test_a_head_is_answered_like_a_get(layer: Layer) -> None:
    given = {title: (await layer.ask("HEAD", each)).response.status_code for title, (each, _) in CONDITIONS.items()}
    assert given == {title: status for title, (_, status) in CONDITIONS.items()}


async def test_not_modified_repeats_what_a_cache_needs_and_nothing_else(layer: Layer) -> None:
    answer = await layer.ask(headers={"If-None-Match": "{etag}"})
    headers = answer.response.headers
    assert answer.response.content == b""
    assert {name: headers[name] for name in ("etag", "cache-control", "x-media-source", "x-media-variant")} == {
        "etag": answer.message.etag,
        "cache-control": IMMUTABLE,
        "x-media-source": layer.source,
        "x-media-variant": "original",
    }
    assert "last-modified" in headers
    assert "date" in headers
    assert not {"content-type", "content-length", "content-range", "transfer-encoding"} & set(headers)


async def test_a_failed_condition_is_a_problem_document(layer: Layer) -> None:
    response = (await layer.ask(headers={"If-Match": '"other"'})).response
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "precondition-failed"
    assert response.headers["cache-control"] == "no-store"


async def test_several_lines_of_a_field_are_one_list(layer: Layer) -> None:
    """RFC 9110 section 5.3."""
    message = (await layer.ask("HEAD")).message
    lines = [("If-None-Match", '"other"'), ("If-None-Match", message.etag)]
    assert (await layer.scene.client.get(message.path, headers=lines)).status_code == 304


async def test_conditions_do_not_turn_an_error_into_something_else(layer: Layer) -> None:
    """RFC 9110 section 13.2.1."""
    response = await layer.scene.client.get("/media/messages/unknown", headers={"If-None-Match": "*"})
    assert response.status_code == 404
