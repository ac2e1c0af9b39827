"""All flights of a process, and its view of those of its siblings on the node.

One download per medium and node: who gets the spool's lock is the *pilot* and downloads; the other processes *follow*
the same spool as it grows. A flight's task belongs to `Flights`: no reader's departure cancels it.
"""

import asyncio
import errno
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Protocol

import structlog

from storage.errors import MediaError, OriginBusy, OriginFailed, OriginTimeout, StoreFull, StoreUnavailable
from storage.flight import Flight
from storage.follower import board, conclude, failure_of, follow
from storage.origin import Origin
from storage.pilot import Order, download
from storage.spool import Spools, SpoolState
from storage.threads import settled

FOLLOW_INTERVAL = 0.02  # seconds between two looks at another process's spool
MIRROR_LIMIT = 4 * 1024 * 1024  # bytes; a medium up to this size is also kept in memory while it flies
MIRROR_BUDGET = 64 * 1024 * 1024  # bytes, of all flights of a process together
MAX_FLIGHTS = 64  # of one workspace in a process, while no other has any

log = structlog.get_logger()

Recheck = Callable[[], Awaitable[bool]]
"""Whether the medium has been stored after all; asked under the lock, when nobody can be storing it."""

OnLanded = Callable[[Flight], Awaitable[None]]


class StoredMeanwhile(MediaError):
    """The medium was stored while we were about to fetch it."""


class FlightObserver(Protocol):
    """What wants to know of flights, such as metrics."""

    def flight_opened(self) -> None:
        """A flight began."""

    def flight_joined(self) -> None:
        """A reader attached to a flight that was there already."""

    def flight_closed(self) -> None:
        """A flight ended."""


class Flights:
    """Opens flights, shares them, and closes each behind its last reader.

    Of ``2 * max_flights`` in all, a workspace may have as many as it leaves free for others: half of them where it is
    alone. Those whose providers hang come to have equal shares, and one more share stays free.
    """

    def __init__(
        self, spools: Spools, origin: Origin, *, observer: FlightObserver | None = None, max_flights: int = MAX_FLIGHTS
    ) -> None:
        self._spools = spools
        self._origin = origin
        self._observer = observer
        self._max_flights = max_flights
        self._flights: dict[str, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._aloft: Counter[str] = Counter()
        self._mirrored = 0

    @asynccontextmanager
    async def join(
        self, name: str, order: Order, *, recheck: Recheck, landed: OnLanded | None = None
    ) -> AsyncIterator[Flight]:
        """Attach to the flight of a spool's name, opening it if nobody has.

        ``landed`` runs once, in the process that downloaded, when all bytes are there and right.

        Raises:
            OriginBusy: Too many flights are open already.
        """
        flight = self._flights.get(name)
        if flight is None or flight.failure is not None:
            flight = self._open(name, order, recheck, landed)
        elif self._observer is not None:
            self._observer.flight_joined()
        flight.readers += 1
        try:
            yield flight
        finally:
            flight.readers -= 1
            self._close_if_done(flight)

    @asynccontextmanager
    async def hold(self, name: str, *, seconds: float) -> AsyncIterator[None]:
        """Keep everybody on this node from opening a flight of that name: its medium is being stored or deleted.

        Raises:
            StoreUnavailable: Somebody else held it for too long.
        """
        try:
            async with asyncio.timeout(seconds):
                while not self._spools.try_lock(name):
                    await asyncio.sleep(FOLLOW_INTERVAL)
        except TimeoutError:
            raise StoreUnavailable("The medium's spool is in use.") from None
        try:
            yield
        finally:
            self._spools.unlock(name)

    async def known(self, name: str) -> SpoolState | None:
        """Return what is known of a medium that has been fetched or is on its way; None: nothing."""
        flight = self._flights.get(name)
        if flight is not None and flight.failure is None and flight.state is not None:
            return flight.state
        state = await asyncio.to_thread(self._spools.state, name)
        return state if state is not None and state.phase != "failed" else None

    async def discard(self, name: str) -> None:
        """Delete a spool that is not needed any more; those who read it read on."""
        await asyncio.to_thread(self._spools.remove, name)

    async def sweep(self, *, older_than: timedelta, max_bytes: int) -> int:
        """Delete what nobody fetched from the spools; return how many."""
        return await asyncio.to_thread(self._spools.sweep, older_than=older_than, max_bytes=max_bytes)

    async def drain(self, seconds: float) -> None:
        """Let flights end by themselves for so long, then cancel them."""
        if self._tasks:
            _, running = await asyncio.wait(self._tasks, timeout=seconds)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _open(self, name: str, order: Order, recheck: Recheck, landed: OnLanded | None) -> Flight:
        workspace_id = order.ref.workspace_id
        if self._aloft[workspace_id] + len(self._tasks) >= 2 * self._max_flights:
            raise OriginBusy("Too many downloads are under way.", retry_after=1.0)
        self._aloft[workspace_id] += 1
        flight = self._flights[name] = Flight(name)
        flight.task = asyncio.create_task(self._fly(flight, order, recheck, landed), name=f"flight {name[:12]}")
        self._tasks.add(flight.task)
        flight.task.add_done_callback(lambda task: self._ended(flight, workspace_id, task))
        if self._observer is not None:
            self._observer.flight_opened()
        return flight

    def _ended(self, flight: Flight, workspace_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._aloft -= Counter([workspace_id])  # which keeps no zeros
        if self._observer is not None:
            self._observer.flight_closed()
        if task.cancelled():
            flight.fail(OriginFailed("The gateway is shutting down."))
        elif (error := task.exception()) is not None:
            log.error("flight crashed", exc_info=error)
        self._close_if_done(flight)

    def _close_if_done(self, flight: Flight) -> None:
        if flight.busy:
            return
        if self._flights.get(flight.name) is flight:
            del self._flights[flight.name]
        self._mirrored -= flight.reserved
        flight.reserved = 0
        flight.close()

    async def _fly(self, flight: Flight, order: Order, recheck: Recheck, landed: OnLanded | None) -> None:
        try:
            await self._lead_or_follow(flight, order, recheck)
        except Exception as error:
            flight.fail(_translated(error))  # readers must not wait for ever, not even for what a bug has ended
            if not isinstance(error, MediaError | OSError):
                raise
        else:
            if landed is not None and not flight.followed:
                await landed(flight)

    async def _lead_or_follow(self, flight: Flight, order: Order, recheck: Recheck) -> None:
        """Follow for as long as another process has the lock; then do what is left to do."""
        patience = asyncio.get_running_loop().time() + order.deadline
        while not self._spools.try_lock(flight.name):
            flight.followed = True
            if await follow(flight, self._spools):
                return
            if asyncio.get_running_loop().time() > patience:
                raise OriginTimeout("Another process took too long to download the medium.")
            await asyncio.sleep(FOLLOW_INTERVAL)
        try:
            await self._lead(flight, order, recheck)
        finally:
            self._spools.unlock(flight.name)

    async def _lead(self, flight: Flight, order: Order, recheck: Recheck) -> None:
        if flight.state is not None:
            await conclude(flight, self._spools)
            return
        if await self._landed_before(flight):
            return
        # What an earlier flight left must not be taken for ours by those who follow us.
        await settled(asyncio.to_thread(self._spools.remove, flight.name))
        if await recheck():
            raise StoredMeanwhile
        flight.followed = False
        await self._pilot(flight, order)

    async def _landed_before(self, flight: Flight) -> bool:
        """Whether an earlier flight left the medium in its spool; raises what the one failed of that we waited for."""
        state = await asyncio.to_thread(self._spools.state, flight.name)
        if state is not None and state.phase == "failed" and flight.followed:
            raise failure_of(state)  # asking again at once would double its failures
        return state is not None and state.phase == "verified" and await board(flight, self._spools)

    async def _pilot(self, flight: Flight, order: Order) -> None:
        try:
            await download(flight, self._origin, order, self._spools, reserve=self._reserve)
        except asyncio.CancelledError:
            # Shutting down is no failure of the medium: who waits for us in another process shall take over.
            await settled(asyncio.to_thread(self._spools.remove, flight.name))
            raise
        except Exception as error:
            await self._publish(flight.name, _translated(error))
            raise

    async def _publish(self, name: str, failure: MediaError) -> None:
        """Tell the other processes, before the lock is given back."""
        try:
            await settled(asyncio.to_thread(self._spools.fail, name, type(failure).__name__, failure.retry_after))
        except OSError as error:  # a full disk: they will find neither bytes nor a pilot
            log.error("failure could not be published", failure=type(failure).__name__, error=error.strerror)  # noqa: TRY400 no bug of ours

    def _reserve(self, flight: Flight, size: int | None) -> None:
        """Give a flight a mirror in memory if its medium is small enough and the budget allows it."""
        if size is not None and size <= MIRROR_LIMIT and self._mirrored + size <= MIRROR_BUDGET:
            self._mirrored += size
            flight.mirror, flight.reserved = bytearray(), size


def _translated(error: Exception) -> MediaError:
    if isinstance(error, MediaError):
        return error
    if isinstance(error, OSError):
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        return StoreFull() if full else StoreUnavailable("The spool could not be written.")
    return OriginFailed()
