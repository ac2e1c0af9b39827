"""Has media processed again: after a recipe has changed, or what had failed may work now."""

from collections.abc import AsyncIterator, Iterable

from ingest.processing.steps import RECIPE
from ingest.queue import PROCESS, UPKEEP, Queue, processing_queue
from storage.record import StoredObject
from storage.records import Records
from storage.renditions import Renditions


async def of_messages(records: Records, message_ids: Iterable[str]) -> AsyncIterator[StoredObject]:
    """Yield the objects of those messages that have one."""
    for message_id in message_ids:
        record = await records.get(message_id)
        if record is not None and record.stored is not None:
            yield record.stored


async def of_workspace(
    renditions: Renditions, workspace_id: str | None, *, outdated: bool
) -> AsyncIterator[StoredObject]:
    """Yield the objects of a workspace, or of all; only those made by an older recipe where ``outdated``."""
    after, older_than = "", RECIPE if outdated else None
    while found := await renditions.reprocessable(workspace_id=workspace_id, older_than=older_than, after=after):
        for stored in found:
            yield stored
        after = found[-1].id


async def enqueue(queue: Queue, objects: AsyncIterator[StoredObject]) -> int:
    """Write a job for each, behind everything that has just arrived; return how many."""
    count = 0
    async for stored in objects:
        await queue.enqueue(PROCESS, stored.id, processing_queue(stored.content_type), priority=UPKEEP)
        count += 1
    return count
