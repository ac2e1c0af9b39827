"""Threads that cannot be cancelled, awaited so that a cancellation leaves nothing half done behind it."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def settled(work: Awaitable[T]) -> T:
    """Await ``work`` in a thread; where the caller is cancelled, wait for the thread before raising.

    A thread goes on whatever becomes of its caller: it would write to a file that somebody else owns by then, or open
    one that nobody closes.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
