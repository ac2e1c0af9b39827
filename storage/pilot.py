"""Downloads a medium into a spool, verifying the bytes as they pass."""

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from storage.errors import OriginFailed, OriginLied, OriginTimeout
from storage.flight import Flight
from storage.origin import Download, MediaRef, Origin
from storage.sniff import SNIFF_LENGTH, effective_type
from storage.spool import Spools, SpoolState, settled

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to fetch, and what the record says of it."""

    ref: MediaRef
    declared_type: str | None = None
    declared_sha256: str | None = None
    deadline: float = 300.0
    """In seconds, for the whole download."""


class _Spooled:
    """The growing file and the digest of what is in it. Blocking: call its methods in a thread.

    A cancelled download leaves its last write running in a thread. The lock keeps that write from hitting whatever
    file the kernel gives the same descriptor to next.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.size = 0
        self._digest = hashlib.sha256()
        self._lock = threading.Lock()

    def write(self, chunk: bytes) -> int:
        """Append a chunk; a full disk raises OSError here, before any reader is told of the bytes."""
        with self._lock:
            view = memoryview(chunk)
            while view:
                view = view[os.write(self.descriptor, view) :]
            self._digest.update(chunk)
            self.size += len(chunk)
            return self.size

    def close(self) -> None:
        """Close the file behind the last write; later ones fail."""
        with self._lock:
            os.close(self.descriptor)
            self.descriptor = -1

    def sha256(self) -> str:
        """Return the digest so far as 64 hex digits."""
        return self._digest.hexdigest()


async def download(
    flight: Flight, origin: Origin, order: Order, spools: Spools, *, mirror: Callable[[int | None], bool]
) -> None:
    """Fill the spool of ``flight``, whose lock the caller holds, and settle it.

    ``mirror`` says whether a medium of that size may be kept in memory too.

    Raises:
        OriginError: The provider failed, or its bytes are not what it declared.
        OSError: The spool could not be written.
    """
    spooled = await asyncio.to_thread(_Spooled, spools.data(flight.name))
    try:
        async with asyncio.timeout(order.deadline), origin.open(order.ref) as coming:
            head = await _head(coming.chunks)
            state = _declared(order, coming, head)
            if mirror(state.size):
                flight.mirror = bytearray()
            flight.begin(state, os.dup(spooled.descriptor))
            await asyncio.to_thread(spools.write_state, flight.name, state)
            await _absorb(flight, spooled, state, head)
            async for chunk in coming.chunks:
                await _absorb(flight, spooled, state, chunk)
            verified = _verified(state, spooled)  # within: the provider's error budget shall learn of a lie
    except TimeoutError:
        raise OriginTimeout("The provider took too long to deliver the whole medium.") from None
    finally:
        await asyncio.shield(asyncio.to_thread(spooled.close))
    await asyncio.to_thread(spools.write_state, flight.name, verified)
    flight.settle(verified)


async def _absorb(flight: Flight, spooled: _Spooled, state: SpoolState, chunk: bytes) -> None:
    if state.size is not None and spooled.size + len(chunk) > state.size:
        raise OriginLied("The provider sent more bytes than it declared.")
    flight.arrive(await asyncio.to_thread(spooled.write, chunk), chunk)


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
    return settled(state, size=spooled.size, sha256=sha256)
