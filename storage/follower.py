"""Follows a spool that another process fills, through its files alone."""

import asyncio
import hashlib
import os

from storage import errors
from storage.errors import MediaError, OriginFailed
from storage.flight import Flight
from storage.spool import Spools, SpoolState
from storage.threads import settled


async def board(flight: Flight, spools: Spools) -> bool:
    """Begin a flight with the spool that is there; False where there is none that is any use."""
    try:
        await settled(asyncio.to_thread(flight.open, spools.data(flight.name), os.O_RDONLY))
        state, _ = await asyncio.to_thread(spools.progress, flight.name, flight.descriptor)
    except (FileNotFoundError, OriginFailed):  # its pilot has yet to begin, or a new one began in between
        state = None
    if state is None or state.phase == "failed":
        flight.close()
        return False
    if state.phase == "verified":
        flight.settle(state)
    else:
        flight.begin(state)
    return True


async def follow(flight: Flight, spools: Spools) -> bool:
    """Tell the readers what the pilot has published; True once that is the end.

    Raises:
        OriginFailed: The pilot is dead.
    """
    if flight.state is None and not await board(flight, spools):
        return False
    await _look(flight, spools)
    return flight.verified


async def conclude(flight: Flight, spools: Spools) -> None:
    """End a flight that was followed: its pilot has given the lock back, or lost it with its life.

    Raises:
        MediaError: What the pilot failed of.
        OriginFailed: The pilot is dead.
    """
    state = await _look(flight, spools)
    if state is not None and state.phase == "failed":
        raise failure_of(state)
    if not flight.verified and (whole := await settled(asyncio.to_thread(_verified, flight.descriptor, flight.state))):
        flight.settle(whole)  # it was stored, and its spool dropped, since we looked last
    if not flight.verified:
        raise OriginFailed("The process that downloaded the medium died.")


def failure_of(state: SpoolState) -> MediaError:
    """Return the error that another process's flight ended with."""
    kind = getattr(errors, state.error or "", OriginFailed)
    known = isinstance(kind, type) and issubclass(kind, MediaError)
    return kind(retry_after=state.retry_after) if known else OriginFailed()


async def _look(flight: Flight, spools: Spools) -> SpoolState | None:
    state, arrived = await asyncio.to_thread(spools.progress, flight.name, flight.descriptor)
    flight.arrive(arrived)
    if state is not None and state.phase == "verified":
        flight.settle(state)
    return state


def _verified(descriptor: int, state: SpoolState | None) -> SpoolState | None:
    """Return the state of bytes that are what their pilot declared; None where they are not, or it declared nothing."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return state.settled(size=file.tell(), sha256=sha256) if state and state.sha256 == sha256 else None
