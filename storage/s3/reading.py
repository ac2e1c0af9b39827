"""Reads objects of a bucket: asks, judges the answer, and hands the bytes on as they come."""

from types import TracebackType
from typing import Self

from storage.errors import StoreUnavailable
from storage.s3.answers import DRIVER_ERRORS, meaning, read_sizes, refusal
from storage.s3.connection import Connection
from storage.s3.heads import Head
from storage.s3.pool import Pool
from storage.s3.signing import Signatures
from storage.store import ByteRange, ObjectReader


class Reads:
    """Sends the reads of one bucket."""

    def __init__(self, pool: Pool, signatures: Signatures) -> None:
        """Take the connections, and who signs."""
        self.pool = pool
        self._signatures = signatures

    async def ask(self, key: str, byte_range: ByteRange | None) -> tuple[Connection, Head]:
        """Ask for an object, and return the head of the answer with the connection on which the rest follows.

        A store may close a kept connection in the moment in which it is used again: that is no failure, if it has not
        begun to answer, and the same is asked on a new one.

        Raises:
            StorageError: There is no answer, or it cannot be asked for.
        """
        try:
            request = _ranged(await self._signatures.request(key), byte_range)
            connection = self.pool.kept() or await self.pool.take()
            used = connection.answered > 0
            try:
                return connection, await self._answer(connection, request)
            except StoreUnavailable:
                if not (used and connection.silent):
                    raise
            connection = await self.pool.take(anew=True)
            return connection, await self._answer(connection, request)
        except DRIVER_ERRORS as error:
            raise meaning(error) from error

    async def _answer(self, connection: Connection, request: bytes) -> Head:
        connection.send(request)
        try:
            return await connection.head()
        except BaseException:
            self.pool.drop(connection)
            raise


class Read:
    """One object, or a range of it: a context that opens it, and the iterator over its bytes."""

    __slots__ = ("_connection", "_key", "_range", "_reads")

    def __init__(self, reads: Reads, key: str, byte_range: ByteRange | None) -> None:
        self._reads = reads
        self._key = key
        self._range = byte_range
        self._connection: Connection | None = None

    async def __aenter__(self) -> ObjectReader:
        connection, head = await self._reads.ask(self._key, self._range)
        self._connection = connection
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
            self._reads.pool.give(connection)


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
