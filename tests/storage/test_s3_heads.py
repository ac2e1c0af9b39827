"""The head of an answer as RFC 9112 writes it, in whatever pieces it comes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import StoreUnavailable
from storage.s3.heads import ERROR_BODY_LIMIT, HEAD_LIMIT, Head, HeadReader

OBJECT = (
    b"HTTP/1.1 206 Partial Content\r\nDate: Sat, 21 Nov 2026 18:17:26 GMT\r\ncontent-length: 4\r\n"
    b'Content-Range:bytes 2-5/10 \r\nETag: "x"\r\nRetry-After: 7\r\n\r\n'
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def read(data: bytes, cuts: set[int]) -> tuple[Head, bytes]:
    """Feed a reader with the pieces between the cuts; return the head and all that follows it."""
    reader, edges = HeadReader(), [0, *sorted(cuts), len(data)]
    for start, stop in pairwise(edges):
        if found := reader.feed(data[start:stop]):
            return found[0], found[1] + data[stop:]
    raise AssertionError("there is no head")


@pytest.mark.parametrize("before", [b"", INTERIM], ids=["final", "RFC 9110 15.2 after interim ones"])
@given(data=st.data())
def test_a_head_is_the_same_in_whatever_pieces_it_comes(before: bytes, data: st.DataObject) -> None:
    sent = before + OBJECT + b"2345"
    cuts = data.draw(st.sets(st.integers(1, len(sent) - 1)))

    head, rest = read(sent, cuts)

    assert (head.status, head.ok, head.keep_alive, rest) == (206, True, True, b"2345")
    assert head.fields == {"Content-Length": "4", "Content-Range": "bytes 2-5/10", "Retry-After": "7"}


def test_a_head_may_come_byte_by_byte() -> None:
    head, rest = read(INTERIM + OBJECT, set(range(1, len(INTERIM + OBJECT))))

    assert (head.status, rest) == (206, b"")


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", True, id="RFC 9112 9.3 persistent by default"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n", False, id="close"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", False, id="HTTP/1.0"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", True, id="1.0, kept"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", False, id="RFC 9112 6.3 the end is that of the connection"),
    ],
)
def test_whether_the_connection_stays(head: bytes, *, kept: bool) -> None:
    assert Head(head).keep_alive is kept


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 2x0 OK\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", id="two lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="a length below nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", id="two framings"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent Length: 1\r\n\r\n", id="a space in a name"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", id="a bare CR"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * HEAD_LIMIT + b"\r\n\r\n", id="too long"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * HEAD_LIMIT, id="endless"),
        pytest.param(INTERIM * 400 + OBJECT, id="endless interim heads"),
    ],
)
def test_what_is_no_head_is_refused(sent: bytes) -> None:
    with pytest.raises(StoreUnavailable):
        HeadReader().feed(sent)


BODY = b"<Error><Code>SlowDown</Code></Error>"


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        pytest.param(b"Content-Length: %d\r\n" % len(BODY), BODY, id="a length"),
        pytest.param(
            b"Transfer-Encoding: chunked\r\n", b"10\r\n" + BODY[:16] + b"\r\n14\r\n" + BODY[16:] + b"\r\n0\r\n\r\n",
            id="RFC 9112 7.1 chunked, as S3 sends them",
        ),
    ],
)  # fmt: skip
@given(cut=st.integers(0, 60))
def test_the_body_of_an_error_is_read_to_its_end(fields: bytes, body: bytes, cut: int) -> None:
    head = Head(b"HTTP/1.1 503 Slow Down\r\n" + fields + b"\r\n")

    for piece in (body[:cut], body[cut:]):
        assert not head.ended
        if piece:
            head.feed_error(piece)
        if cut >= len(body):
            break

    assert (head.body, head.ended, head.keep_alive) == (BODY, True, True)


def test_no_more_of_an_error_is_kept_than_is_looked_at() -> None:
    head = Head(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 1000000\r\n\r\n")

    while not head.ended:
        head.feed_error(bytes(4096))

    assert len(head.body) <= ERROR_BODY_LIMIT
    assert not head.keep_alive, "the rest of it is still to come"
