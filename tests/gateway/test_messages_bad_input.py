"""What the host application may get wrong: each time a clear refusal, and nothing is left behind."""

from collections.abc import AsyncIterator

import pytest

from tests.gateway.problems import problem_type
from tests.gateway.scene import Scene

PATH = "/media/messages/m"

BAD_BODIES = {
    "no JSON": b"{",
    "a bare word": b"medium",
    "no UTF-8": b'{"provider_media_id": "\xff"}',
    "half a surrogate pair": b'{"provider_media_id": "\\ud83d"}',
    "NaN": b'{"provider_media_id": "1", "size": NaN}',
    "a list": b"[]",
    "null": b"null",
    "a number": b"17",
    "nothing": b"",
    "neither id nor copy": b"{}",
    "both id and copy": b'{"provider_media_id": "1", "copy_of": "n"}',
    "too deep": b'{"provider_media_id": "1", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "deep in objects": b'{"x":' * 5000 + b"1" + b"}" * 5000,
    "an empty id": b'{"provider_media_id": ""}',
    "an id of 256 characters": b'{"provider_media_id": "%s"}' % (b"x" * 256),
    "an id with NUL": b'{"provider_media_id": "a\\u0000"}',
    "a type of two lines": b'{"provider_media_id": "1", "mime_type": "a/b\\r\\nSet-Cookie: x"}',
    "a size that is none": b'{"provider_media_id": "1", "size": "many"}',
    "a negative size": b'{"provider_media_id": "1", "size": -1}',
    "a size beyond reason": b'{"provider_media_id": "1", "size": 99999999999999999999}',
    "a kind that is none": b'{"provider_media_id": "1", "kind": "poem"}',
    "a hash that is none": b'{"provider_media_id": "1", "sha256": "abc"}',
    "participants that are none": b'{"provider_media_id": "1", "participants": "ana"}',
    "a participant that is none": b'{"provider_media_id": "1", "participants": [17]}',
    "a name that is none": b'{"provider_media_id": "1", "filename": {}}',
    "an ingest that is neither": b'{"provider_media_id": "1", "ingest": "perhaps"}',
}


@pytest.mark.parametrize("body", [pytest.param(body, id=title) for title, body in BAD_BODIES.items()])
async def test_a_bad_registration_is_refused_and_leaves_nothing(scene: Scene, body: bytes) -> None:
    response = await scene.client.put(PATH, content=body)
    assert (response.status_code, problem_type(response)) == (400, "bad-request")
    assert (await scene.client.get(PATH)).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"variant": "huge"}',
        b'{"variant": 1}',
        b'{"expires_in": 0}',
        b'{"expires_in": 604801}',
        b'{"download": 3}',
    ],
)
async def test_a_bad_order_of_a_url_is_refused(scene: Scene, body: bytes) -> None:
    message = await scene.message()
    response = await scene.client.post(f"{message.path}/url", content=body)
    assert (response.status_code, problem_type(response)) == (400, "bad-request")


@pytest.mark.parametrize("says_so", [True, False])
async def test_a_body_that_is_too_large_is_refused(scene: Scene, *, says_so: bool) -> None:
    large = b'{"provider_media_id": "1", "x": "' + b"x" * 1024**2 + b'"}'

    async def in_chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 65_536):
            yield large[start : start + 65_536]

    response = await scene.client.put(PATH, content=large if says_so else in_chunks())
    assert (response.status_code, problem_type(response)) == (413, "content-too-large")


@pytest.mark.parametrize(
    "query",
    [
        "status=done",
        "cursor=nonsense",
        "cursor=%FF",
        "cursor=W10",
        "cursor=" + "W1tb" * 5000,
        "cursor=WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzE0OjAwIiwibSJd",
        "limit=none",
        "limit=0",
        "limit=201",
        "limit=99999999999999999999",
        "workspace_id=%00",
        "workspace_id=" + "x" * 256,
    ],
)
async def test_a_list_of_nonsense_is_refused(scene: Scene, query: str) -> None:
    response = await scene.client.get(f"/media/messages?{query}")
    assert (response.status_code, problem_type(response)) == (400, "bad-request")
