"""Which steps there are for which type of medium; a decoder is imported when the first medium of its kind comes."""

from importlib import import_module
from typing import Any

from ingest.processing.steps import Ceilings, Source, Step

_KINDS = frozenset({"image", "video", "audio"})
_TYPES = {"application/pdf": "document", "application/ogg": "video"}
_NOT_DECODED = frozenset({"image/svg+xml", "audio/midi"})  # programs rather than pictures and sound


def kind_of(content_type: str) -> str | None:
    """Return ``image``, ``video``, ``audio`` or ``document``, None for a type of which nothing is made."""
    if content_type in _NOT_DECODED:
        return None
    kind = content_type.partition("/")[0]
    return _TYPES.get(content_type, kind if kind in _KINDS else None)


def steps(source: Source, ceilings: Ceilings) -> list[Step]:
    """Return what is to be done with a medium, in order; nothing for a type that is not decoded.

    Raises:
        Unprocessable: Nothing can be done with it.
    """
    kind = kind_of(source.content_type)
    if kind is None:
        return []
    if kind == "video" and _decoder("probe").is_sound_alone(source.path):
        kind = "audio"
    found: list[Step] = _decoder(kind).steps(source, ceilings)
    return found


def _decoder(name: str) -> Any:
    return import_module(f"ingest.processing.{name}")
