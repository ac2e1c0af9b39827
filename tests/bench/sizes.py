"""Real media of every kind through the real pool, with the real rules: bytes that came, are shown, and are kept beside.

What is shown is what ``auto`` chooses for a browser that knows WebP.
"""

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.demo.samples import build_samples
from gateway.showing import Showing
from gateway.variants import AUTO
from ingest.processing.limits import Limits
from ingest.processing.pool import Pool
from ingest.processing.steps import Ceilings
from ingest.rendering import Rendering
from storage.cache import VariantCache
from storage.database import open_engine
from storage.local import LocalStore
from storage.record import StoredObject
from storage.records import Records
from storage.renditions import Renditions
from storage.sniff import SNIFF_LENGTH, effective_type
from storage.store import ObjectStore
from tests.bench import camera
from tests.bench.processors import cpu_seconds
from tests.databases import databases
from tests.messages import message, stored

ACCEPT = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"  # as Chromium asks for a picture
PATIENCE = 1800.0  # seconds for a step, and between two: a busy machine shall not change what is made, nor by whom
_CAMERAS = {"photographs of a camera", "videos of a camera"}
_OF_THE_DEMO = {
    "image": "photographs as chats send them",
    "video": "videos as chats send them",
    "audio": "voice notes",
    "document": "documents",
    "sticker": "stickers",
}


@dataclass(frozen=True, slots=True)
class Sent:
    """A file as it is sent."""

    kind: str
    path: Path
    content_type: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What has become of it, in bytes."""

    kind: str
    name: str
    received: int
    shown: int
    renditions: int
    seconds: float
    """Of CPU time, in the child."""


@dataclass(slots=True)
class Observed:
    """Steps that did not make what they should, and nothing else of interest."""

    failed: Counter[str] = field(default_factory=Counter)

    def step_ended(self, step: str, outcome: str, seconds: float) -> None:
        """Count a step that has not made anything."""
        if outcome != "made":
            self.failed[f"{step}: {outcome}"] += 1

    def child_ended(self, reason: str) -> None:
        """Children come and go."""

    def variant_made(self, name: str, original: int, size: int) -> None:
        """Variants are asked of the database."""

    def quarantined(self) -> None:
        """Nothing is scanned."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A gateway without its HTTP: what it stores, and what it would show."""

    pool: Pool
    store: ObjectStore
    records: Records
    renditions: Renditions
    rendering: Rendering
    showing: Showing

    async def keep(self, sent: Sent) -> Kept:
        """Store a file, make everything of it, and look at what there is then."""
        name, candidate = sent.path.name, await asyncio.to_thread(self._candidate, sent)
        await self.store.put(candidate.key, sent.path, content_type=candidate.content_type)
        await self.records.register(message(name))
        held = await self.records.adopt(name, candidate, content_type=candidate.content_type)
        assert held is not None
        before = self._seconds()
        await self.rendering.process(held.id)
        seconds = self._seconds() - before
        record = await self.records.get(name)
        assert record is not None
        shown = (await self.showing.choose(record, AUTO, ACCEPT)).record.stored
        assert shown is not None
        made = {each.key: each.size for each in (await self.renditions.of(held.id)).values() if each.key != held.key}
        return Kept(sent.kind, name, held.size, shown.size, sum(made.values()), seconds)

    def _seconds(self) -> float:
        return sum(cpu_seconds(child.pid) for child in self.pool._children._alive)

    def _candidate(self, sent: Sent) -> StoredObject:
        content = sent.path.read_bytes()
        key = f"media/{sent.path.name}/1"
        return stored(
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            content_type=effective_type(sent.content_type, content[:SNIFF_LENGTH]),
            backend=self.store.backend,
            key=key,
            url=self.store.url(key),
        )


async def measure(folder: Path) -> dict[str, Any]:
    """Keep one file after the other, and add up by kind."""
    media = await asyncio.to_thread(_media, folder / "media")
    observed = Observed()
    async with _archive(folder, observed) as archive:
        kept = [await archive.keep(sent) for sent in media]
    return {
        "part": "sizes",
        "load": [round(load, 1) for load in os.getloadavg()],
        "kinds": {
            kind: _sum(each for each in kept if each.kind == kind) for kind in dict.fromkeys(s.kind for s in media)
        },
        "as_cameras_make_them": _sum(each for each in kept if each.kind in _CAMERAS),
        "everything": _sum(kept),
        "shown_larger_than_received": [each.name for each in kept if each.shown > each.received],
        "steps_without_result": dict(observed.failed),
    }


def _media(folder: Path) -> list[Sent]:
    folder.mkdir()
    samples = [Sent(_OF_THE_DEMO[each.kind], each.path, each.mime_type) for each in build_samples(folder)]
    photographs = [camera.photograph(name, folder / f"camera-{name}.jpg") for name in ("astronaut", "cat", "coffee")]
    return [
        *(Sent("photographs of a camera", path, "image/jpeg") for path in photographs),
        Sent("videos of a camera", camera.clip("rocket", folder / "camera.mp4"), "video/mp4"),
        Sent("voice notes", camera.voice_note(folder / "16.ogg", bit_rate=16_000), "audio/ogg; codecs=opus"),
        Sent("voice notes", camera.voice_note(folder / "64.ogg", bit_rate=64_000), "audio/ogg; codecs=opus"),
        Sent("screenshots", camera.screenshot("coffee", folder / "screenshot.png"), "image/png"),
        Sent("animated GIFs", camera.animation("cat", folder / "animation.gif"), "image/gif"),
        *samples,
    ]


@asynccontextmanager
async def _archive(folder: Path, observed: Observed) -> AsyncIterator[Archive]:
    with databases("sqlite", folder) as provided:
        engine = open_engine(await asyncio.to_thread(provided.new, folder / "database"))
    store, renditions = LocalStore(folder / "store"), Renditions(engine)
    limits = Limits(seconds=PATIENCE, idle=PATIENCE)
    scratch = folder / "scratch"
    pool = Pool(scratch=scratch, children=1, limits=limits, ceilings=Ceilings(), observer=observed)
    rendering = Rendering(
        renditions=renditions, store=store, pool=pool, scratch=scratch, scanner=None, observer=observed
    )
    showing = Showing(variants=VariantCache(renditions.of), rendering=rendering)
    try:
        yield Archive(pool, store, Records(engine), renditions, rendering, showing)
    finally:
        await pool.aclose()
        await engine.dispose()


def _sum(kept: Iterable[Kept]) -> dict[str, Any]:
    each = list(kept)
    received, shown, renditions = (
        sum(getattr(one, name) for one in each) for name in ("received", "shown", "renditions")
    )
    return {
        "files": len(each),
        "received": received,
        "shown": shown,
        "saved_percent": round(100 * (1 - shown / received), 1),
        "renditions": renditions,
        "renditions_percent": round(100 * renditions / received, 1),
        "most_cpu_seconds": round(max(one.seconds for one in each), 1),
    }
