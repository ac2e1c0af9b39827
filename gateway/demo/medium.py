"""What the page needs to show one medium: what processing has found out, and a signed URL of every variant."""

from collections.abc import Callable
from typing import Any

from storage.record import StoredObject
from storage.renditions import Processed

FACTS = ("width", "height", "duration", "pages", "lqip", "dominant_color", "waveform")


def described(stored: StoredObject | None, processed: Processed, url_of: Callable[[str], str]) -> dict[str, Any]:
    """Return the facts by their names in ``info``, null until they are known, and the variants that are ready."""
    variants = {
        name: {"url": url_of(name), "size": _size(name, processed), "type": variant.content_type}
        for name, variant in processed.variants.items()
        if "/" not in name and stored is not None and variant.backend == stored.backend
    }
    return {**{name: processed.facts.get(name) for name in FACTS}, "variants": variants}


def _size(name: str, processed: Processed) -> int:
    """Return the bytes of a variant; a stream has several files."""
    return sum(each.size for each in processed.variants.values() if each.name.partition("/")[0] == name)
