"""Ranges over HTTP, RFC 9110 section 14: every row of the table at every layer."""

from email import message_from_bytes, policy
from email.message import EmailMessage

import httpx

from tests.gateway.layers import Answer, Layer
from tests.gateway.scene import IMMUTABLE, SIZE, Message

Parts = list[tuple[int, int]]
WHOLE: tuple[int, Parts] = (200, [(0, SIZE)])
UNSATISFIABLE: tuple[int, Parts] = (416, [])


def many(count: int) -> str:
    """Ask for every tenth byte."""
    return "bytes=" + ",".join(f"{n * 10}-{n * 10}" for n in range(count))


RANGES: dict[str, tuple[str, tuple[int, Parts]]] = {
    # what it is about: (header, status and parts as start and stop)
    "14.1.2 first 500 bytes": ("bytes=0-499", (206, [(0, 500)])),
    "14.1.2 second 500 bytes": ("bytes=500-999", (206, [(500, 1000)])),
    "14.1.2 final 500 bytes": ("bytes=-500", (206, [(500, 1000)])),
    "14.1.2 open-ended": ("bytes=900-", (206, [(900, 1000)])),
    "14.1.2 everything, as a browser asks for a video": ("bytes=0-", (206, [(0, 1000)])),
    "14.1.2 Safari's probe": ("bytes=0-1", (206, [(0, 2)])),
    "14.1.2 the last byte": ("bytes=-1", (206, [(999, 1000)])),
    "14.1.2 a last position past the end": ("bytes=990-2000", (206, [(990, 1000)])),
    "14.1.2 a suffix longer than all": ("bytes=-5000", (206, [(0, 1000)])),
    "14.1.2 a last position beyond 64 bits": ("bytes=0-99999999999999999999", (206, [(0, 1000)])),
    "14.1.2 first, middle and last": ("bytes= 0-99, 450-549, -100", (206, [(0, 100), (450, 550), (900, 1000)])),
    "14.1.2 first and last byte": ("bytes=0-0,-1", (206, [(0, 1), (999, 1000)])),
    "14.2 in the order of the request": ("bytes=800-899,100-199", (206, [(800, 900), (100, 200)])),
    "14.2 overlapping ones are merged": ("bytes=0-300,200-400", (206, [(0, 401)])),
    "14.2 merged among others": ("bytes=900-949,0-300,200-400", (206, [(900, 950), (0, 401)])),
    "14.1.2 the satisfiable one of two": ("bytes=2000-,0-9", (206, [(0, 10)])),
    "14.1 units are case-insensitive": ("Bytes=0-9", (206, [(0, 10)])),
    "5.6.1.2 empty elements": ("bytes=,0-9,", (206, [(0, 10)])),
    "contract 16 ranges": (many(16), (206, [(n * 10, n * 10 + 1) for n in range(16)])),
    "contract more than 16 ranges": (many(17), WHOLE),
    "contract ranges that add up to more than all": ("bytes=0-999,0-0", WHOLE),
    "14.1.1 last before first is malformed": ("bytes=5-4", WHOLE),
    "14.1.1 no number": ("bytes=abc", WHOLE),
    "14.1.1 no position": ("bytes=-", WHOLE),
    "14.1.1 one malformed element of two": ("bytes=0-9,x", WHOLE),
    "14.1.1 a sign": ("bytes=+0-9", WHOLE),
    "14.2 an unknown unit": ("seconds=0-9", WHOLE),
    "14.1.1 no unit": ("0-9", WHOLE),
    "15.5.17 begins at the end": ("bytes=1000-", UNSATISFIABLE),
    "15.5.17 begins past the end": ("bytes=5000-6000", UNSATISFIABLE),
    "14.1.2 a suffix of nothing": ("bytes=-0", UNSATISFIABLE),
    "15.5.17 all of several": ("bytes=1000-1001,-0", UNSATISFIABLE),
}  # fmt: skip

PART: tuple[int, Parts] = (206, [(0, 10)])
CONDITIONS: dict[str, tuple[str, tuple[int, Parts]]] = {
    # what it is about: (If-Range, what comes of the first ten bytes)
    "13.1.5 the current tag": ("{etag}", PART),
    "13.1.5 another tag": ('"other"', WHOLE),
    "13.1.5 a weak tag never matches": ("W/{etag}", WHOLE),
    "13.1.5 exactly the date": ("{date}", PART),
    "13.1.5 a later date is not the date": ("{later}", WHOLE),
    "13.1.5 an earlier date": ("{earlier}", WHOLE),
    "13.1.5 no date at all": ("yesterday", WHOLE),
}


async def test_every_layer_serves_the_ranges_of_rfc_9110(layer: Layer) -> None:
    served = {title: served_parts(await layer.ask(headers={"Range": header})) for title, (header, _) in RANGES.items()}
    assert served == {title: expected for title, (_, expected) in RANGES.items()}


async def test_no_layer_looks_at_the_range_of_a_head(layer: Layer) -> None:
    response = (await layer.ask("HEAD", {"Range": "bytes=0-9"})).response
    assert response.status_code == 200
    assert "content-range" not in response.headers


async def test_a_range_may_be_asked_for_on_condition(layer: Layer) -> None:
    served = {
        title: served_parts(await layer.ask(headers={"Range": "bytes=0-9", "If-Range": condition}))
        for title, (condition, _) in CONDITIONS.items()
    }
    assert served == {title: expected for title, (_, expected) in CONDITIONS.items()}


async def test_what_is_not_verified_yet_is_not_to_be_kept_unless_its_last_byte_was_held_back(layer: Layer) -> None:
    kept = {
        header: (await layer.ask(headers={"Range": header} if header else None)).response.headers["cache-control"]
        for header in ("", "bytes=0-9", "bytes=0-9,20-29", "bytes=-1", "bytes=0-9,-1", "bytes=0-")
    }
    unverified = "no-store" if layer.name in {"provider", "growing"} else IMMUTABLE
    part = dict.fromkeys(("bytes=0-9", "bytes=0-9,20-29"), unverified)
    assert kept == dict.fromkeys(kept, IMMUTABLE) | part


def served_parts(answer: Answer) -> tuple[int, Parts]:
    """Return the status and which bytes came, after holding every header and byte against the RFC."""
    response, message = answer.response, answer.message
    assert "transfer-encoding" not in response.headers
    if response.status_code == 416:
        assert response.headers["content-range"] == f"bytes */{SIZE}"
        assert response.json()["type"] == "range-not-satisfiable"
        return 416, []
    assert len(response.content) == int(response.headers["content-length"])
    if response.status_code == 206:
        assert response.headers["etag"] == message.etag
        return 206, _partial(response, message)
    assert "content-range" not in response.headers
    assert response.content == message.body
    return response.status_code, [(0, len(response.content))]


def _partial(response: httpx.Response, message: Message) -> Parts:
    if not response.headers["content-type"].startswith("multipart/byteranges; boundary="):
        assert response.headers["content-type"] == "image/jpeg"
        return [_part(response.headers["content-range"], response.content, message)]
    assert "content-range" not in response.headers  # section 15.3.7.2: only in the parts
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    whole = message_from_bytes(head + response.content, policy=policy.HTTP)
    parts = [part for part in whole.iter_parts() if isinstance(part, EmailMessage)]
    assert len(parts) > 1
    assert {part.get_content_type() for part in parts} == {"image/jpeg"}
    return [_part(part["content-range"], part.get_payload(decode=True), message) for part in parts]


def _part(content_range: str, body: object, message: Message) -> tuple[int, int]:
    unit, _, rest = content_range.partition(" ")
    positions, _, size = rest.partition("/")
    first, last = map(int, positions.split("-"))
    assert (unit, size) == ("bytes", str(SIZE))
    assert body == message.body[first : last + 1]
    return first, last + 1
