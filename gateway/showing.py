"""Which variant of a stored medium a request gets: the asked one, made now where that is quick, or the nearest."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from cachetools import TTLCache

from gateway.negotiation import Offer, best, nearest
from gateway.variants import AUTO, ORIGINAL, QUICK, SQUARES
from ingest.keeping import processable
from ingest.processing.kinds import kind_of
from ingest.rendering import Rendering
from storage.cache import Coalesced, VariantCache
from storage.errors import MediaError
from storage.record import MediaRecord, Processing, StoredObject, Variant

AT_ONCE = 16  # variants that are made for requests; whoever comes then gets the nearest one
PATIENCE = 5.0  # seconds that a request waits for a variant
REMEMBER = 60.0  # seconds that a variant which could not be made is not tried again
MAX_REMEMBERED = 10_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Shown:
    """What is served of a message."""

    name: str
    """Of the variant."""
    record: MediaRecord
    """With the variant in place of the original."""
    final: bool
    """Whether it will still be what such a request gets when everything is ready."""
    variants: Mapping[str, Variant] | None = None
    """What it was chosen from, as the cache has it; None: there was no choice."""


class Showing:
    """Chooses variants, and has those made that are quick to make."""

    def __init__(self, *, variants: VariantCache, rendering: Rendering) -> None:
        self._variants = variants
        self._rendering = rendering
        self._making: Coalesced[tuple[str, str], bool] = Coalesced()
        self._hopeless: TTLCache[tuple[str, str], bool] = TTLCache(MAX_REMEMBERED, REMEMBER)

    async def choose(self, record: MediaRecord, variant: str, accept: str | None) -> Shown:
        """Return what to serve for a variant's name as the URL has it."""
        if variant == ORIGINAL:
            return Shown(ORIGINAL, record, final=True)
        stored = record.stored
        if stored is None:
            return Shown(ORIGINAL, record, final=False)
        ready = await self._ready(stored)
        if variant == AUTO:
            name = best(accept, _offers(record, stored, ready))
            return _shown(name, record, ready, final=_is_settled(stored))
        if variant not in ready and await self._made(stored, variant):
            ready = await self._ready(stored)
        name = nearest(variant, ready)
        return _shown(name, record, ready, final=name == variant)

    async def exactly(self, record: MediaRecord, name: str) -> Shown | None:
        """Return a variant by its own name, or None where it is not ready."""
        ready = await self._ready(record.stored) if record.stored is not None else {}
        return _shown(name, record, ready, final=True) if name in ready else None

    def forget(self, stored: StoredObject) -> None:
        """Ask the database again which variants there are."""
        self._variants.forget(stored.id)

    async def _ready(self, stored: StoredObject) -> Mapping[str, Variant]:
        known = await self._variants.get(stored.id) or {}
        if all(variant.backend == stored.backend for variant in known.values()):
            return known
        return {name: variant for name, variant in known.items() if variant.backend == stored.backend}

    async def _made(self, stored: StoredObject, variant: str) -> bool:
        """Have a variant made now, within the bounds; one flight for each, whoever asks."""
        flight = (stored.id, "squares" if variant in SQUARES else variant)
        image = stored.content_type.startswith("image/")
        if not image or variant not in QUICK or _is_settled(stored) or flight in self._hopeless:
            return False
        if flight not in self._making and len(self._making) >= AT_ONCE:
            return False
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._making.get(flight, lambda: self._make(stored, variant, flight))
        except TimeoutError:  # it is being made all the same
            return False

    async def _make(self, stored: StoredObject, variant: str, flight: tuple[str, str]) -> bool:
        try:
            made = await self._rendering.make(stored, variant)
        except MediaError as error:
            log.warning("variant could not be made", variant=variant, error=type(error).__name__)
            made = False
        if made:
            self._variants.forget(stored.id)
        else:
            self._hopeless[flight] = True
        return made


def _shown(name: str, record: MediaRecord, ready: Mapping[str, Variant], *, final: bool) -> Shown:
    if name == ORIGINAL:
        return Shown(ORIGINAL, record, final=final, variants=ready)
    return Shown(name, record.showing(ready[name]), final=final, variants=ready)


def _is_settled(stored: StoredObject) -> bool:
    return stored.processing_status != Processing.PENDING or not processable(stored.content_type)


def _offers(record: MediaRecord, stored: StoredObject, ready: Mapping[str, Variant]) -> list[Offer]:
    """Return what ``auto`` may show, the best first; the original is always among it."""
    names = {"image": ("webp", "compressed"), "video": ("compressed",), "audio": ("compressed", "aac")}
    kind = kind_of(stored.content_type) or ""
    made = [(name, ready[name].content_type) for name in names.get(kind, ()) if name in ready]
    return [*made, (ORIGINAL, record.content_type or stored.content_type)]
