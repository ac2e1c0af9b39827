"""Which renditions of an object are kept, and where: rules as pure functions over values."""

from datetime import UTC, datetime
from pathlib import Path

from ingest.processing.kinds import kind_of
from ingest.processing.pool import Rendition
from ingest.processing.steps import RECIPE
from storage.record import StoredObject, Variant, key_part
from storage.sniff import essence

AS_IT_IS = {
    "image/webp": ("compressed", "webp"),
    "image/gif": ("compressed",),
    "audio/ogg": ("compressed",),
    "application/ogg": ("compressed",),
}
"""The variants that are the original itself where nothing better is made: what phones send is as small as it gets."""
_PLAYED_NOWHERE = frozenset({
    *("audio/amr", "audio/amr-wb", "audio/3gpp"),
    *("video/3gpp", "video/3gpp2", "video/x-msvideo", "video/mpeg", "video/x-ms-wmv"),
})  # fmt: skip # by no browser
_FOLDERS = {
    "compressed": "compressed",
    "webp": "webp",
    "preview": "previews",
    "aac": "audio",
    "waveform": "waveforms",
}
_SUFFIXES = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "video/mp4": ".mp4",
    "audio/mp4": ".m4a",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "application/vnd.apple.mpegurl": ".m3u8",
}


def processable(content_type: str) -> bool:
    """Whether there is anything to be made of such media."""
    return kind_of(content_type) is not None


def worth_keeping(stored: StoredObject, rendition: Rendition) -> bool:
    """Whether a rendition serves anybody: none that is smaller by its size alone may be larger than its original.

    What shows another kind of medium (a film's frame, a page, a waveform), or plays where the original does not
    (``aac``, ``hls``, anything of AMR, 3GP or AVI), is kept whatever its size.
    """
    picture = stored.content_type.startswith("image/")
    smaller_or_nothing = picture or rendition.name in {"compressed", "preview"}
    return rendition.size <= stored.size or not smaller_or_nothing or essence(stored.content_type) in _PLAYED_NOWHERE


def rendition_key(stored: StoredObject, rendition: Rendition) -> str:
    """Return where a rendition lies: ``{folder}/{workspace}/{YYYY}/{MM}/{sha256}…``, ending in its own content's hash.

    So two that make the same variant differently, or at the same time, never write to one key.
    """
    name, _, file = rendition.name.partition("/")
    folder = _FOLDERS.get(name, name if file or name == "hls" else "thumbnails")
    label = Path(file or name).stem
    suffix = _SUFFIXES.get(rendition.content_type, "")
    month = f"{stored.created_at:%Y/%m}"
    leaf = f"{stored.sha256}-{label}-{rendition.sha256[:16]}{suffix}"
    return f"{folder}/{key_part(stored.workspace_id)}/{month}/{leaf}"


def itself(stored: StoredObject, name: str) -> Variant:
    """Return the original under a variant's name."""
    return Variant(
        object_id=stored.id,
        name=name,
        content_type=stored.content_type,
        size=stored.size,
        sha256=stored.sha256,
        backend=stored.backend,
        key=stored.key,
        url=stored.url,
        recipe=RECIPE,
        created_at=datetime.now(UTC),
    )
