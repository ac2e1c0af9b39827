"""Threads that cannot be cancelled, awaited so that a cancellation leaves nothing half done behind it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def settled(work: Awaitable[T], *, on_cancel: Callable[[], None] | None = None) -> T:
    """Await ``work`` in a thread; where the caller is cancelled, wait for the thread before raising.

    ``on_cancel`` asks the thread to end soon.

    A thread goes on whatever becomes of its caller: it would write to a file that somebody else owns by then, or open
    one that nobody closes.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        await asyncio.wait([task])
        raise
