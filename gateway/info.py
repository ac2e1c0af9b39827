"""What ``info`` shows of a message: its record, what processing has learned of the medium, and its variants' URLs."""

from collections.abc import Sequence
from typing import Any

from gateway.bodies import timestamp
from gateway.minting import Minter
from gateway.variants import ORIGINAL
from storage.record import MediaRecord, Processing
from storage.renditions import NOTHING, Processed, Renditions

PROCESSED = (
    "width",
    "height",
    "duration",
    "codec",
    "audio_codec",
    "bitrate",
    "channels",
    "sample_rate",
    "frames",
    "pages",
    "blurhash",
    "lqip",
    "dominant_color",
    "waveform",
    "exif",
)
"""What only the processing of a medium finds out: null until then, and where there is no such thing."""


class Infos:
    """Describes messages."""

    def __init__(self, renditions: Renditions, minter: Minter) -> None:
        self._renditions = renditions
        self._minter = minter

    async def of(self, records: Sequence[MediaRecord], base: str) -> list[dict[str, Any]]:
        """Describe records; ``base`` is what URLs begin with where no public URL is configured."""
        known = await self._renditions.describe([each.stored.id for each in records if each.stored is not None])
        return [
            self._info(each, known.get(each.stored.id, NOTHING) if each.stored else NOTHING, base) for each in records
        ]

    def _info(self, record: MediaRecord, processed: Processed, base: str) -> dict[str, Any]:
        stored = record.stored
        return {
            "message_id": record.message_id,
            "workspace_id": record.workspace_id,
            "conversation_id": record.conversation_id,
            "kind": record.kind,
            "status": record.status,
            "error": record.error,
            "mime_type": record.content_type or record.declared_type,
            "size": stored.size if stored else record.declared_size,
            "sha256": stored.sha256 if stored else record.declared_sha256,
            **{name: processed.facts.get(name) for name in PROCESSED},
            "filename": record.filename,
            "stored_url": stored.url if stored else None,
            "stored_at": timestamp(record.media_stored_at) if stored else None,
            "storage_backend": stored.backend if stored else None,
            "expires_at": timestamp(record.expires_at),
            "created_at": timestamp(record.created_at),
            "variants": self._variants(record, processed, base),
        }

    def _variants(self, record: MediaRecord, processed: Processed, base: str) -> dict[str, Any]:
        stored = record.stored
        if stored is None or stored.processing_status == Processing.QUARANTINED:
            return {}
        shown = [(ORIGINAL, stored.size, record.content_type or stored.content_type)]
        shown += [
            (name, _total(name, processed), variant.content_type)
            for name, variant in sorted(processed.variants.items())
            if "/" not in name and variant.backend == stored.backend
        ]
        return {
            name: {"url": self._url(record.message_id, name, base), "size": size, "type": content_type}
            for name, size, content_type in shown
        }

    def _url(self, message_id: str, variant: str, base: str) -> str:
        if self._minter.can_mint:
            return self._minter.mint(message_id, variant, base=base).url
        return self._minter.unsigned(message_id, variant, base=base)


def _total(name: str, processed: Processed) -> int:
    """Return the bytes of a variant, those of all its files where it has several: a stream."""
    return sum(each.size for each in processed.variants.values() if each.name.partition("/")[0] == name)
