"""Reads the beginning of an answer, and the whole of one that is an error; knows nothing of connections."""

from http import HTTPStatus
from typing import Final

from httptools import HttpParserError, HttpResponseParser

from storage.errors import StoreUnavailable

HEAD_LIMIT: Final = 16 * 1024  # bytes, of all heads of an answer
ERROR_BODY_LIMIT: Final = 16 * 1024  # bytes of an error that are looked at

_END: Final = b"\r\n\r\n"
_KNOWN: Final = {
    name.lower().encode(): name for name in ("Content-Length", "Content-Range", "Transfer-Encoding", "Retry-After")
}


class Head:
    """Status and fields of an answer; where it is an error, its body too."""

    __slots__ = ("_parser", "_seen", "body", "ended", "fields", "keep_alive", "status")

    def __init__(self, data: bytes) -> None:
        """Take the bytes of the head, to the last one.

        Raises:
            StoreUnavailable: This is no HTTP.
        """
        self.fields: dict[str, str] = {}
        """Those that are of interest, under the names of RFC 9110."""
        self.body = b""
        """Of an error: the beginning, as far as it has come."""
        self.ended = False
        """Whether an error has come whole, or enough of it."""
        self._seen = 0
        parser = HttpResponseParser(self)
        _feed(parser, data)
        self.status = parser.get_status_code()
        self.keep_alive = parser.should_keep_alive()
        """Whether the connection stays open after the body (RFC 9112, section 9.3)."""
        self._parser = None if self.ok or self.ended else parser  # each refers to the other: not where it is not needed

    @property
    def ok(self) -> bool:
        """Whether the object follows."""
        return self.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT)

    @property
    def ends_with_connection(self) -> bool:
        """Whether the body has no other end (RFC 9112, section 6.3)."""
        return self.fields.keys().isdisjoint({"Content-Length", "Transfer-Encoding"})

    def feed_error(self, data: bytes) -> None:
        """Take in some more of an error's body.

        Raises:
            StoreUnavailable: This is no HTTP.
        """
        if self._parser is None or self.ended:  # bytes that nobody has asked for
            self.keep_alive = False
            return
        self._seen += len(data)
        _feed(self._parser, data)
        if self._seen >= ERROR_BODY_LIMIT and not self.ended:
            self.ended, self.keep_alive = True, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field (httptools)."""
        known = _KNOWN.get(name.lower())
        if known is not None:
            self.fields[known] = value.decode("latin-1").rstrip(" \t")  # the parser leaves what follows

    def on_body(self, data: bytes) -> None:
        """Take a piece of an error's body (httptools)."""
        self.body += data

    def on_message_complete(self) -> None:
        """Note the end of an error (httptools)."""
        self.ended = True
        self._parser = None  # which refers to us


class HeadReader:
    """Puts the head of one answer together, whatever pieces it comes in; interim ones (1xx) are passed over."""

    __slots__ = ("_kept", "_passed")

    def __init__(self) -> None:
        self._kept = b""
        self._passed = 0

    def feed(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return the head and what follows it, as soon as it is whole.

        Raises:
            StoreUnavailable: It is no HTTP, or too long.
        """
        data = self._kept + data if self._kept else data
        while (end := data.find(_END)) >= 0:
            end += len(_END)
            if self._passed + end > HEAD_LIMIT:
                break
            head, rest = Head(data[:end]), data[end:]
            if head.status >= HTTPStatus.OK:
                return head, rest
            self._passed, data = self._passed + end, rest
        if self._passed + len(data) > HEAD_LIMIT:
            raise StoreUnavailable("The object store sent a head that is too long.")
        self._kept = data
        return None


def _feed(parser: HttpResponseParser, data: bytes) -> None:
    try:
        parser.feed_data(data)
    except HttpParserError as error:
        raise StoreUnavailable("The object store does not speak HTTP.") from error
