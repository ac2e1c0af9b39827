"""Makes the variants of stored objects: reads the original, has it processed in a child, keeps what comes of it."""

import hashlib
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from typing import Protocol

import aiofiles
import structlog
from anyio.to_thread import run_sync

from ingest.keeping import AS_IT_IS, itself, processable, rendition_key, worth_keeping
from ingest.processing.children import PoolUnavailable
from ingest.processing.pool import Event, Finished, Rendition
from ingest.processing.steps import RECIPE, Source
from ingest.scanner import Scanner
from storage.errors import MediaError, StoreFull, StoreUnavailable
from storage.record import Processing, StoredObject, Variant
from storage.renditions import Renditions
from storage.sniff import essence
from storage.store import ObjectStore

_MAX_ERROR = 500  # characters of what is remembered of failed steps

log = structlog.get_logger()


class ProcessingUnavailable(MediaError):
    """The medium could not be processed now, for no fault of its own."""

    code = "processing-unavailable"


class Processor(Protocol):
    """What runs the steps of media: `ingest.processing.pool.Pool`."""

    def process(
        self, source: Source, folder: Path, *, wanted: frozenset[str] | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yield what comes of each step, with its files in ``folder``; raises PoolUnavailable."""


class RenderingObserver(Protocol):
    """What wants to know of variants, such as metrics."""

    def variant_made(self, name: str, original: int, size: int) -> None:
        """A variant was stored: the bytes of the original and its own."""

    def quarantined(self) -> None:
        """Malware was found."""


@dataclass(slots=True)
class _Harvest:
    """What has come of one processing so far."""

    names: set[str] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def error(self) -> str | None:
        text = ", ".join(f"{step}: {code}" for step, code in self.failures.items())
        return text[:_MAX_ERROR] or None


class Rendering:
    """Processes objects; may be called any number of times for one object, also at the same time."""

    def __init__(
        self,
        *,
        renditions: Renditions,
        store: ObjectStore,
        pool: Processor,
        scratch: Path,
        scanner: Scanner | None,
        observer: RenderingObserver,
        purge: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """Take the collaborators.

        ``scratch`` is a folder for files in work, ``scanner`` None scans nothing, ``purge`` has the CDN forget what it
        has of an object, by its id; None where there is no CDN.
        """
        self._renditions = renditions
        self._store = store
        self._pool = pool
        self._scratch = scratch
        self._scanner = scanner
        self._observer = observer
        self._purge = purge

    async def process(self, object_id: str) -> str:
        """Make everything of an object; return ``processed``, ``quarantined``, ``deleted`` or ``kept``.

        Raises:
            MediaError: It could not be read, scanned or stored; what has been made until then stays.
        """
        stored = await self._renditions.object(object_id)
        if stored is None:
            return "deleted"
        if stored.processing_status == Processing.QUARANTINED:
            await self._forgotten(stored)  # whoever found the malware may have been killed since
            return "kept"
        if stored.backend != self._store.backend:
            return "kept"
        if self._scanner is None and not processable(stored.content_type):
            return await self._finish(stored, _Harvest())
        before = await self._renditions.of(object_id)
        async with self._original(stored) as (source, folder):
            if await self._infected(stored, source.path):
                return "quarantined"
            harvest = await self._harvest(stored, source, folder, None)
        outcome = await self._finish(stored, harvest)
        if _contents(before) - _contents(await self._renditions.of(object_id)):
            await self._forgotten(stored)
        return outcome

    async def make(self, stored: StoredObject, name: str) -> bool:
        """Make one variant, and those that come with it, now; False where there can be none.

        Raises:
            MediaError: The original could not be read, or the variant not be stored.
        """
        async with self._original(stored) as (source, folder):
            harvest = await self._harvest(stored, source, folder, frozenset({name}))
        return name in harvest.names

    async def give_up(self, object_id: str, reason: str) -> None:
        """Let an object be served with what has been made of it so far."""
        made = await self._renditions.of(object_id)
        await self._renditions.finish(object_id, Processing.FAILED, recipe=RECIPE, keeping=made, error=reason)

    async def sweep(self, older_than: timedelta) -> int:
        """Delete what killed processes have left in the scratch folder for so long; return how many."""
        return await run_sync(lambda: sum(map(_remove, _left(self._scratch, time() - older_than.total_seconds()))))

    async def _harvest(
        self, stored: StoredObject, source: Source, folder: Path, wanted: frozenset[str] | None
    ) -> _Harvest:
        """Keep every variant as soon as it is made: a thumbnail does not wait for the film."""
        harvest = _Harvest()
        try:
            async with aclosing(self._pool.process(source, folder, wanted=wanted)) as events:
                async for event in events:
                    await self._reap(stored, event, harvest)
        except PoolUnavailable as error:
            raise ProcessingUnavailable(str(error)) from error
        for name in AS_IT_IS.get(essence(stored.content_type), ()) if wanted is None else ():
            if name not in harvest.names:
                harvest.names |= await self._keep(stored, itself(stored, name))
        return harvest

    async def _reap(self, stored: StoredObject, event: Event, harvest: _Harvest) -> None:
        if isinstance(event, Finished):
            harvest.names |= await self._take(stored, event)
        else:
            log.warning("processing failed", object_id=stored.id, step=event.step, code=event.code)
            harvest.failures[event.step] = event.code

    async def _take(self, stored: StoredObject, event: Finished) -> set[str]:
        if event.facts:
            await self._renditions.learn(stored.id, event.facts)
        if event.step == "compressed" and not event.renditions:  # there was nothing to gain
            return await self._keep(stored, itself(stored, event.step))
        kept: set[str] = set()
        for rendition in event.renditions:
            if worth_keeping(stored, rendition):
                kept |= await self._store_rendition(stored, rendition)
            await run_sync(lambda path: path.unlink(missing_ok=True), rendition.path)
        return kept

    async def _store_rendition(self, stored: StoredObject, rendition: Rendition) -> set[str]:
        key = rendition_key(stored, rendition)
        await self._store.put(key, rendition.path, content_type=rendition.content_type)
        variant = Variant(
            object_id=stored.id,
            name=rendition.name,
            content_type=rendition.content_type,
            size=rendition.size,
            sha256=rendition.sha256,
            backend=self._store.backend,
            key=key,
            url=self._store.url(key),
            recipe=RECIPE,
            created_at=datetime.now(UTC),
        )
        kept = await self._keep(stored, variant)
        if kept:
            self._observer.variant_made(rendition.name, stored.size, rendition.size)
        return kept

    async def _keep(self, stored: StoredObject, variant: Variant) -> set[str]:
        alive, before = await self._renditions.keep(variant)
        if not alive:
            await self._drop(stored, [variant])
            return set()
        if before is not None and before.key != variant.key:
            await self._drop(stored, [before])
        return {variant.name}

    async def _drop(self, stored: StoredObject, variants: Iterable[Variant]) -> None:
        """Delete the bytes of variants that nobody refers to any more."""
        for variant in variants:
            if variant.backend == self._store.backend and variant.key != stored.key:
                await self._store.delete(variant.key)

    async def _finish(self, stored: StoredObject, harvest: _Harvest) -> str:
        # A step that failed this time leaves what an older recipe has made of it.
        keeping = await self._renditions.of(stored.id) if harvest.failures else harvest.names
        stale = await self._renditions.finish(
            stored.id, Processing.COMPLETED, recipe=RECIPE, keeping=keeping, error=harvest.error
        )
        await self._drop(stored, stale)
        return "processed"

    async def _infected(self, stored: StoredObject, file: Path) -> bool:
        malware = await self._scanner.scan(file) if self._scanner is not None else None
        if malware is None:
            return False
        log.error("media quarantined", object_id=stored.id, workspace_id=stored.workspace_id, malware=malware)
        self._observer.quarantined()
        made = await self._renditions.finish(
            stored.id, Processing.QUARANTINED, recipe=-1, keeping=(), error=f"malware: {malware}"[:_MAX_ERROR]
        )
        await self._drop(stored, made)
        await self._forgotten(stored)
        return True

    async def _forgotten(self, stored: StoredObject) -> None:
        """Have the CDN forget what it has of an object: it was told that this would not change for a year."""
        if self._purge is not None:
            await self._purge(stored.id)

    @asynccontextmanager
    async def _original(self, stored: StoredObject) -> AsyncIterator[tuple[Source, Path]]:
        """Copy an object's bytes to a folder of our own for a while, and see that they are what was stored.

        Raises:
            StoreFull: There is no room for the copy.
            StorageError: The object cannot be read, or is damaged.
        """
        async with AsyncExitStack() as stack:
            try:
                folder = await run_sync(self._folder)
                stack.push_async_callback(run_sync, folder.cleanup)
                path, work = Path(folder.name) / "original", Path(folder.name) / "made"
                await self._copy(stored, path)
                await run_sync(work.mkdir)
            except OSError as error:
                raise StoreFull("There is no room to process the medium.") from error
            yield Source(path=path, content_type=stored.content_type, size=stored.size), work

    def _folder(self) -> "TemporaryDirectory[str]":
        self._scratch.mkdir(parents=True, exist_ok=True)
        return TemporaryDirectory(dir=self._scratch, prefix="render-", ignore_cleanup_errors=True)

    async def _copy(self, stored: StoredObject, path: Path) -> None:
        digest = hashlib.sha256()
        async with aiofiles.open(path, "xb") as file, self._store.open(stored.key) as reader:
            async for chunk in reader.chunks:
                await run_sync(digest.update, chunk)
                await file.write(chunk)
        if digest.hexdigest() != stored.sha256:
            log.error("stored object is damaged", object_id=stored.id)
            raise StoreUnavailable("The stored object is damaged.")


def _contents(variants: Mapping[str, Variant]) -> set[tuple[str, str]]:
    return {(name, variant.sha256) for name, variant in variants.items()}


def _left(scratch: Path, before: float) -> list[Path]:
    """Return the folders in work that nobody has touched since then, in seconds since the epoch."""
    return [folder for folder in scratch.glob("render-*") if folder.stat().st_mtime < before]


def _remove(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)  # it may have been removed since we looked
    return not folder.exists()
