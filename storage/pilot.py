"""Downloads a medium into a spool, verifying the bytes as they pass."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import structlog

from storage.errors import OriginFailed, OriginLied, OriginTimeout
from storage.flight import Flight
from storage.origin import Download, MediaRef, Origin
from storage.sniff import SNIFF_LENGTH, effective_type
from storage.spool import Spools, SpoolState
from storage.threads import settled

log = structlog.get_logger()

Reserve = Callable[[Flight, int | None], None]
"""Gives a flight a mirror, if a medium of that size in bytes may be kept in memory too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to fetch, and what the record says of it."""

    ref: MediaRef
    declared_type: str | None = None
    declared_sha256: str | None = None
    deadline: float = 300.0
    """In seconds, for the whole download."""


class _Spooled:
    """The growing file and the digest of what is in it. Blocking: call `write` in a thread."""

    def __init__(self, descriptor: int) -> None:
        self.size = 0
        self._descriptor = descriptor
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> int:
        """Append a chunk and return the size; a full disk raises OSError here, before any reader is told of it."""
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._digest.update(chunk)
        self.size += len(chunk)
        return self.size

    def sha256(self) -> str:
        """Return the digest so far as 64 hex digits."""
        return self._digest.hexdigest()


async def download(flight: Flight, origin: Origin, order: Order, spools: Spools, *, reserve: Reserve) -> None:
    """Fill the spool of ``flight``, whose lock the caller holds, and settle it.

    Raises:
        OriginError: The provider failed, or its bytes are not what it declared.
        OSError: The spool could not be written.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
    spooled = _Spooled(await settled(asyncio.to_thread(flight.open, spools.data(flight.name), flags)))
    try:
        async with asyncio.timeout(order.deadline), origin.open(order.ref) as coming:
            head = await _head(coming.chunks)
            state = _declared(order, coming, head)
            reserve(flight, state.size)
            flight.begin(state)
            await settled(asyncio.to_thread(spools.write_state, flight.name, state))
            await _absorb(flight, spooled, state, head)
            async for chunk in coming.chunks:
                await _absorb(flight, spooled, state, chunk)
            verified = _verified(state, spooled)  # within: the provider's error budget shall learn of a lie
    except TimeoutError:
        raise OriginTimeout("The provider took too long to deliver the whole medium.") from None
    await settled(asyncio.to_thread(spools.write_state, flight.name, verified))
    flight.settle(verified)


async def _absorb(flight: Flight, spooled: _Spooled, state: SpoolState, chunk: bytes) -> None:
    if state.size is not None and spooled.size + len(chunk) > state.size:
        raise OriginLied("The provider sent more bytes than it declared.")
    flight.arrive(await settled(asyncio.to_thread(spooled.write, chunk)), chunk)


async def _head(chunks: AsyncIterator[bytes]) -> bytes:
    """Take the first bytes off the iterator: enough to tell the type from."""
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= SNIFF_LENGTH:
            break
    return head


def _declared(order: Order, coming: Download, head: bytes) -> SpoolState:
    """Combine what the provider and the record declare; the provider's hash is documented as that of the bytes."""
    sha256 = coming.sha256 or order.declared_sha256
    if coming.sha256 and order.declared_sha256 and coming.sha256 != order.declared_sha256:
        log.warning("declared hashes differ", record=order.declared_sha256, provider=coming.sha256)
    content_type = effective_type(order.declared_type or coming.content_type, head[:SNIFF_LENGTH])
    return SpoolState(phase="flying", size=coming.size, sha256=sha256, content_type=content_type)


def _verified(state: SpoolState, spooled: _Spooled) -> SpoolState:
    if state.size is not None and spooled.size < state.size:
        raise OriginFailed("The provider's bytes broke off.")
    sha256 = spooled.sha256()
    if state.sha256 is not None and sha256 != state.sha256:
        raise OriginLied("The provider's bytes have another hash than it declared.")
    return state.settled(size=spooled.size, sha256=sha256)
