"""Keeps the connections to one store: warm, bounded, and given out in the order in which they were asked for."""

import asyncio
from collections import deque
from typing import Final

from storage.errors import StoreUnavailable
from storage.s3.connection import Connection
from storage.s3.dialling import Dialler

CONNECTIONS: Final = 1024  # a slow client holds one as long as it reads
TURN_TIMEOUT: Final = 10.0  # seconds until a connection is there, connecting included
IDLE_TIMEOUT: Final = 4.0  # seconds; stores close what is idle after five to twenty
CLOSE_TIMEOUT: Final = 1.0  # seconds for sockets to close at the end


class Pool:
    """Connections, each of which is idle or belongs to one reader; there is a place for each, from dialling on."""

    def __init__(
        self,
        dialler: Dialler,
        *,
        limit: int = CONNECTIONS,
        turn_timeout: float = TURN_TIMEOUT,
        idle_timeout: float = IDLE_TIMEOUT,
    ) -> None:
        """Take who opens connections, how many there may be, and how long to wait and to be idle in seconds."""
        self._dialler = dialler
        self._limit = limit
        self._turn_timeout = turn_timeout
        self._idle_timeout = idle_timeout
        self._loop = asyncio.get_running_loop()
        self._places = 0
        self._open: set[Connection] = set()
        self._idle: deque[Connection] = deque()
        """The one that was used last at the end."""
        self._turns: deque[asyncio.Future[Connection | None]] = deque()
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def taken(self) -> int:
        """How many connections there are, open or being opened."""
        return self._places

    @property
    def full(self) -> bool:
        """Whether one who wants a connection would have to wait for it."""
        return self._places >= self._limit and not self._idle

    def kept(self) -> Connection | None:
        """Return a connection that has been used before, if one is idle."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            self.drop(connection)
        return None

    async def take(self, *, anew: bool = False) -> Connection:
        """Return a connection as soon as there is a place: opened ``anew``, or perhaps one that another has left.

        Raises:
            StoreUnavailable: There was no place in time.
            OSError: The store cannot be reached.
        """
        handed = await self._turn()
        if handed is not None:
            if handed.usable and not anew:
                return handed
            self._close(handed)  # its place is ours
        try:
            connection = await self._dialler.dial()
        except BaseException:
            self._vacate()
            raise
        self._open.add(connection)
        return connection

    def give(self, connection: Connection) -> None:
        """Take a connection back; it is kept if it can be used again, and closed if not."""
        if not connection.usable:
            self.drop(connection)
        elif not self._hand(connection):
            connection.rest()
            self._idle.append(connection)
            if self._sweeping is None:
                self._sweeping = self._loop.call_later(self._idle_timeout, self._sweep)

    def drop(self, connection: Connection) -> None:
        """Close a connection."""
        self._close(connection)
        self._vacate()

    async def aclose(self) -> None:
        """Close all connections, and wait until their sockets are closed."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        closing = [connection.closed for connection in self._open]
        for connection in self._open:
            connection.abort()
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_TIMEOUT)

    async def _turn(self) -> Connection | None:
        """Wait for a place, and return the connection that is in it already, if so."""
        if self._places < self._limit:
            self._places += 1
            return None
        if self._idle:
            return self._idle.popleft()
        turn: asyncio.Future[Connection | None] = self._loop.create_future()
        self._turns.append(turn)
        try:
            async with asyncio.timeout(self._turn_timeout):
                return await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            self._decline(turn)
            if isinstance(error, TimeoutError):
                raise StoreUnavailable("The object store is busy.") from error
            raise

    def _decline(self, turn: asyncio.Future[Connection | None]) -> None:
        """Leave the queue; what has been handed over in the same moment goes to the next one."""
        if turn.cancelled():
            self._turns.remove(turn)
        elif (handed := turn.result()) is not None:
            self.give(handed)
        else:
            self._vacate()

    def _hand(self, connection: Connection | None) -> bool:
        """Give a connection, or a place for one, to whoever has waited longest; return whether there was somebody."""
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        return False

    def _vacate(self) -> None:
        if not self._hand(None):
            self._places -= 1

    def _close(self, connection: Connection) -> None:
        connection.abort()
        self._open.discard(connection)

    def _sweep(self) -> None:
        before = self._loop.time() - self._idle_timeout
        while self._idle and (self._idle[0].idle_since <= before or not self._idle[0].usable):
            self.drop(self._idle.popleft())
        self._sweeping = None
        if self._idle:
            self._sweeping = self._loop.call_at(self._idle[0].idle_since + self._idle_timeout, self._sweep)
