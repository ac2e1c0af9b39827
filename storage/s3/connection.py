"""One connection to a store, on which one ``GET`` after the other is asked and answered."""

import asyncio
import os
import ssl
from collections import deque
from typing import Final, cast

from storage.errors import StoreUnavailable
from storage.s3.heads import Head, HeadReader
from storage.store import CHUNK_SIZE

PIECE: Final = 4 * CHUNK_SIZE  # bytes of a body that are read at once
PIECES_IN_A_ROW: Final = 8  # that one reader gets before others have their turn


class Connection(asyncio.Protocol):
    """Takes in no more than is read from it: while a piece waits, the socket is not read.

    What the kernel has already when a body is read comes from it directly, into the memory that is handed on: the event
    loop would copy it, and would first take in a piece for each other connection, so that none is in the processor's
    cache when it is sent on. Of the future that its reader waits for there is one at a time, and of the timer that
    limits its waiting one for many requests: it is set anew only when it has gone off.
    """

    def __init__(self, *, silence: float) -> None:
        """Take for how many seconds the store may be silent."""
        self._loop = asyncio.get_running_loop()
        self._silence = silence
        self._transport: asyncio.Transport | None = None
        self._socket: int | None = None
        """What may be read past the event loop; None: there is TLS in between."""
        self._reading = True
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._reader: HeadReader | None = None
        """Of the head that is due."""
        self._head: Head | None = None
        self._pieces: deque[bytes] = deque()
        self._in_a_row = 0
        self._due = 0
        """Bytes of the body that have not come yet."""
        self._excess = False
        self._failure: StoreUnavailable | None = None
        self._late = False
        self.silent = True
        """Whether nothing has come since the last request was sent."""
        self.answered = 0
        """How many requests have been answered."""
        self.idle_since = 0.0
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done when the socket is."""

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        """Take bytes to where they belong."""
        self.silent = False
        try:
            if self._due:
                self._take_body(data)
            elif self._reader is not None:
                self._take_head(self._reader, data)
            elif self._head is not None and not self._head.ok:
                self._head.feed_error(data)
                self._wake()
            else:
                self._excess = True  # nobody has asked for them
        except StoreUnavailable as failure:
            self._fail(failure)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 what broke it does not matter
        """End."""
        self._fail(StoreUnavailable("The object store closed the connection."))
        if not self.closed.done():
            self.closed.set_result(None)

    # What a reader calls.

    @property
    def usable(self) -> bool:
        """Whether another request may be sent: all is read that was asked for, and the store keeps the connection."""
        if self._failure is not None or self._excess or self._reader is not None or self._due:
            return False
        return self._head is None or (self._head.keep_alive and (self._head.ok or self._head.ended))

    @property
    def whole(self) -> bool:
        """Whether the whole of the body has come and been read."""
        return not self._due and not self._pieces and self._reader is None

    def rest(self) -> None:
        """Forget the last answer, and watch for the end of the connection."""
        self._pieces.clear()
        self._head = None
        self.idle_since = self._loop.time()
        self._flow(on=True)

    def send(self, request: bytes) -> None:
        """Send a request."""
        self._pieces.clear()
        self._head, self._reader, self.silent = None, HeadReader(), True
        self._late = False
        self._flow(on=True)
        if self._transport is not None:
            self._transport.write(request)

    async def secure(self, trusted: ssl.SSLContext, hostname: str | None) -> None:
        """Speak TLS from now on, with whoever can show a certificate for ``hostname``.

        Raises:
            OSError: That was somebody else, or nobody.
        """
        opened = cast("asyncio.Transport", self._transport)
        self._socket = None
        self._transport = await self._loop.start_tls(opened, self, trusted, server_hostname=hostname)
        self._head, self.answered = None, 0

    async def head(self) -> Head | None:
        """Wait for the answer, and where it is an error for its body; None: `remind` has been called.

        Raises:
            StoreUnavailable: There is none.
        """
        while (head := self._head) is None or not (head.ok or head.ended):
            if self._failure is not None:
                if head is not None and head.ends_with_connection:
                    break
                raise self._failure
            if self._late:
                self._late = False
                return None
            await self._wait()
        self.answered += 1
        return head

    def remind(self) -> None:
        """Wake who waits for the head."""
        self._late = True
        self._wake()

    async def read(self) -> bytes:
        """Return the next piece of the body, or nothing at its end.

        Raises:
            StoreUnavailable: The body broke off.
        """
        while not self._pieces:
            if not self._due:
                return b""
            if self._failure is not None:
                raise StoreUnavailable("The object broke off.") from self._failure
            if self._in_a_row == PIECES_IN_A_ROW:
                self._in_a_row = 0
                await asyncio.sleep(0)
            elif piece := self._read_at_once():
                return piece
            else:
                self._flow(on=True)
                await self._wait()
        return self._pieces.popleft()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self._fail(StoreUnavailable("The connection was closed."))
        if self._transport is not None:
            self._transport.abort()

    # The rest is our own.

    def _take_head(self, reader: HeadReader, data: bytes) -> None:
        found = reader.feed(data)
        if found is None:
            return
        self._reader = None
        self._head, rest = found
        if self._head.ok:
            declared = self._head.fields.get("Content-Length")
            self._head.keep_alive &= declared is not None
            self._due = int(declared or 0)
            if rest:
                self._take_body(rest)
        elif rest:
            self._head.feed_error(rest)
        self._wake()

    def _take_body(self, data: bytes) -> None:
        if own := self._of_the_body(data):
            self._pieces.append(own)
        if self._due:
            self._flow(on=False)  # until it is read: to pause for each piece costs nothing that could be measured
        self._wake()

    def _read_at_once(self) -> bytes:
        """Return the next bytes of the body if they are there, as far as the event loop does not read itself."""
        # Of a transport that closes, the number may be another socket's by now.
        if self._reading or self._socket is None or self._transport is None or self._transport.is_closing():
            return b""
        try:
            data = os.read(self._socket, min(self._due + 1, PIECE))  # one more shows whether too much comes
        except OSError:  # nothing there, which is no error, or broken, which the event loop finds out and tells
            return b""
        self._in_a_row += 1
        return self._of_the_body(data)

    def _of_the_body(self, data: bytes) -> bytes:
        if len(data) > self._due:  # what follows belongs to nobody
            data, self._excess = data[: self._due], True
        self._due -= len(data)
        return data

    def _flow(self, *, on: bool) -> None:
        if self._reading is on or self._transport is None:
            return
        self._reading = on
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    async def _wait(self) -> None:
        """Wait until something happens, which may be that nothing happens for too long."""
        self._in_a_row = 0
        self._deadline = self._loop.time() + self._silence
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._time_out)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _time_out(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._time_out)
            return
        self.silent = False  # it did not close the connection: asking again would take as long
        self._fail(StoreUnavailable("The object store is silent."))
        self.abort()

    def _fail(self, failure: StoreUnavailable) -> None:
        if self._failure is None:
            self._failure = failure
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()
