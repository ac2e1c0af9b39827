"""Reads objects of a bucket: asks, judges the answer, and hands the bytes on as they come."""

from types import TracebackType
from typing import Self

from storage.s3.answers import driver_errors, meaning, read_sizes, refusal
from storage.s3.client import Client
from storage.s3.connection import Connection
from storage.s3.heads import Head
from storage.s3.signing import Signatures
from storage.store import ByteRange, ObjectReader


class Read:
    """One object, or a range of it: a context that opens it, and the iterator over its bytes."""

    __slots__ = ("_client", "_connection", "_key", "_range", "_signatures")

    def __init__(self, client: Client, signatures: Signatures, key: str, byte_range: ByteRange | None) -> None:
        """Take who asks, who signs, and what for."""
        self._client = client
        self._signatures = signatures
        self._key = key
        self._range = byte_range
        self._connection: Connection | None = None

    async def __aenter__(self) -> ObjectReader:
        try:
            request = await self._signatures.request(self._key)
            self._connection, head = await self._client.ask(_ranged(request, self._range))
        except driver_errors() as error:
            raise meaning(error) from error
        try:
            size = _size(head, self._range)
        except BaseException:
            self._leave()
            raise
        return ObjectReader(size=size, chunks=self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._connection is None:
            raise StopAsyncIteration
        chunk = await self._connection.read()
        if self._connection.whole:  # who is slow to send it on needs the connection no longer
            self._leave()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._client.leave(connection)


async def check_listing(client: Client, signatures: Signatures) -> None:
    """Raise what it means that the bucket cannot be listed."""
    try:
        connection, head = await client.ask(await signatures.listing() + b"\r\n")
    except driver_errors() as error:
        raise meaning(error) from error
    client.leave(connection)
    if not head.ok:
        raise refusal(head.status, head.body, head.fields.get("Retry-After"))


def _ranged(request: bytes, byte_range: ByteRange | None) -> bytes:
    if byte_range is None:
        return request + b"\r\n"
    return request + b"range: bytes=%d-%d\r\n\r\n" % (byte_range.start, byte_range.stop - 1)


def _size(head: Head, byte_range: ByteRange | None) -> int:
    """Return the size of the object of which exactly the wanted bytes follow."""
    if not head.ok:
        raise refusal(head.status, head.body, head.fields.get("Retry-After"))
    size, _ = read_sizes(head.status, head.fields, byte_range)
    return size
