"""A process that ingests and is killed just before its n-th change of disk or database."""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import event

from storage.database import open_engine
from storage.local import LocalStore
from tests.ingest.node import Node, ScriptedOrigin, open_node

CHANGES = frozenset({"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir"})
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

# Forked from a process that has imported all this already, and has no threads: a spawned one takes a second.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


async def survives(work: Callable[..., Any], folder: Path, bodies: dict[str, bytes], subject: str, moment: int) -> bool:
    """Run ``work`` on a subject in a process of its own; False where it was killed at that moment.

    Args:
        work: A coroutine function of a `Node` and the subject, defined at the top of a module.
        folder: Of the node: spools, store and ``gateway.db``.
        bodies: What the provider has, by media id.
        subject: What to work on.
        moment: How many changes are too many.
    """
    process = _processes.Process(target=_run, args=(work, folder, bodies, subject, moment))
    process.start()
    await asyncio.to_thread(process.join, 30)
    assert process.exitcode in {0, -signal.SIGKILL}, "neither done nor killed"
    return process.exitcode == 0


def _run(work: Callable[..., Any], folder: Path, bodies: dict[str, bytes], subject: str, moment: int) -> None:
    changes = count(1)

    def change(*_: object) -> None:
        if next(changes) >= moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        changes_disk = name in CHANGES or (name == "open" and arguments[2] & WRITING)
        if changes_disk and str(arguments[0]).startswith(str(folder)):
            change()

    async def run() -> None:
        engine = open_engine(f"sqlite:///{folder / 'gateway.db'}")
        event.listen(engine.sync_engine, "commit", change)
        async with open_node(folder, engine, LocalStore(folder / "store"), ScriptedOrigin(bodies=bodies)) as node:
            sys.addaudithook(audit)
            await work(node, subject)
        await engine.dispose()

    asyncio.run(run())


async def ingest(node: Node, message_id: str) -> None:
    """Do what an ingest job does."""
    await node.ingest(message_id)


async def delete(node: Node, object_id: str) -> None:
    """Do what a deletion job does."""
    await node.tasks.delete(object_id)
