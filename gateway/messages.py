"""What the host application does with messages: register, look at, mint URLs for, retry, list and delete."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from gateway.auth import DEFAULT_LIFE, MAX_LIFE, Gatekeeper, Signer
from gateway.bodies import bad_request, json_response, read_json, timestamp
from gateway.errors import BadRequest, Deleted, NotFound
from gateway.variants import ORIGINAL, VARIANTS
from ingest.registry import Registry
from ingest.whatsapp.answers import normalise_sha256
from storage.record import Cursor, MediaRecord, NewMessage, Processing, Status
from storage.records import MAX_PAGE
from storage.renditions import NOTHING, Processed, Renditions

PROCESSED = (
    "width",
    "height",
    "duration",
    "codec",
    "audio_codec",
    "bitrate",
    "frames",
    "pages",
    "blurhash",
    "lqip",
    "dominant_color",
    "waveform",
    "exif",
)
"""What only the processing of a medium finds out: null until then, and where there is no such thing."""
_MAX_SIZE = 2**53  # bytes; beyond, JSON numbers are not exact


def _plain(text: str) -> str:
    if any(ch < " " or ch == "\x7f" for ch in text):
        raise ValueError("must not hold control characters")
    return text


def _sha256(text: str) -> str:
    return normalise_sha256(text) or ""


def _cursor(text: str) -> Cursor:
    return Cursor.decode(text)


def _variant(text: str) -> str:
    if text not in VARIANTS:
        raise ValueError("there is no such variant")
    return text


Word = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_plain)]


class Registration(BaseModel):
    """The body of ``PUT /media/messages/{id}``."""

    model_config = ConfigDict(extra="ignore")

    workspace_id: Word = "default"
    provider_media_id: Word | None = None
    copy_of: Word | None = None
    kind: Annotated[str, Field(pattern=r"^(image|video|audio|document|sticker)$")] | None = None
    mime_type: Word | None = None
    sha256: Annotated[str, Field(max_length=64), AfterValidator(_sha256)] | None = None
    size: Annotated[int, Field(ge=0, le=_MAX_SIZE)] | None = None
    filename: Annotated[str, Field(max_length=1024), AfterValidator(_plain)] | None = None
    conversation_id: Word | None = None
    participants: Annotated[list[Word], Field(max_length=10_000)] | None = None
    ingest: bool = True

    def new_message(self, message_id: str) -> NewMessage:
        """Return what is to be recorded."""
        return NewMessage(
            message_id=message_id,
            workspace_id=self.workspace_id,
            provider_media_id=self.provider_media_id,
            kind=self.kind,
            filename=self.filename,
            declared_type=self.mime_type,
            declared_sha256=self.sha256,
            declared_size=self.size,
            conversation_id=self.conversation_id,
            participants=tuple(self.participants) if self.participants is not None else None,
        )


class UrlOrder(BaseModel):
    """The body of ``POST /media/messages/{id}/url``."""

    variant: Annotated[str, AfterValidator(_variant)] = ORIGINAL
    download: bool = False
    expires_in: Annotated[int, Field(ge=1, le=MAX_LIFE)] = DEFAULT_LIFE


class Listing(BaseModel):
    """The query of ``GET /media/messages``; what is empty is left out."""

    model_config = ConfigDict(extra="ignore", arbitrary_types_allowed=True)

    workspace_id: Word | None = None
    status: Status | None = None
    cursor: Annotated[Cursor | None, BeforeValidator(_cursor)] = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50


class Messages:
    """The endpoints; all of them need the host application's API key."""

    def __init__(self, *, gatekeeper: Gatekeeper, signer: Signer, registry: Registry, renditions: Renditions) -> None:
        self._renditions = renditions
        self._gatekeeper = gatekeeper
        self._signer = signer
        self._registry = registry

    async def put(self, request: Request) -> Response:
        """Register a message's medium: 201, or 200 where it was known."""
        message_id = self._admit(request)
        registration = await read_json(request, Registration)
        if (registration.provider_media_id is None) == (registration.copy_of is None):
            raise BadRequest("Either provider_media_id or copy_of is needed.")
        new = registration.new_message(message_id)
        if registration.copy_of is not None:
            source = await self._live(registration.copy_of)
            record, created = await self._registry.copy(new, source, ingest=registration.ingest)
        else:
            record, created = await self._registry.register(new, ingest=registration.ingest)
        (info,) = await self._infos([record], request)
        return json_response(info, 201 if created else 200)

    async def delete(self, request: Request) -> Response:
        """Delete a message's medium: 204, also where it is gone already."""
        message_id = self._admit(request)
        if not await self._registry.delete(message_id) and await self._registry.get(message_id) is None:
            raise NotFound
        return Response(status_code=204)

    async def info(self, request: Request) -> Response:
        """Show the record and what is known of the medium."""
        (info,) = await self._infos([await self._live(self._admit(request))], request)
        return json_response(info)

    async def mint(self, request: Request) -> Response:
        """Mint a signed URL for one variant."""
        record = await self._live(self._admit(request))
        order = await read_json(request, UrlOrder)
        minted = self._signer.mint(
            record.message_id,
            order.variant,
            download=order.download,
            expires_in=order.expires_in,
            base=_base(request),
        )
        return json_response({"url": minted.url, "expires_at": timestamp(minted.expires_at)})

    async def retry(self, request: Request) -> Response:
        """Ingest again, whatever became of it before: 202."""
        record = await self._live(self._admit(request))
        await self._registry.retry(record)
        return json_response({"message_id": record.message_id, "status": Status.PENDING}, 202)

    async def page(self, request: Request) -> Response:
        """List records."""
        self._gatekeeper.admit_host(request.headers.get("x-api-key"))
        query = request.query_params
        try:
            listing = Listing.model_validate({name: value for name, value in query.items() if value})
        except ValidationError as error:
            raise bad_request(error) from None
        found, cursor = await self._registry.page(
            workspace_id=listing.workspace_id, status=listing.status, after=listing.cursor, limit=listing.limit
        )
        messages = await self._infos(found, request)
        return json_response({"messages": messages, "next_cursor": cursor.encode() if cursor else None})

    def _admit(self, request: Request) -> str:
        self._gatekeeper.admit_host(request.headers.get("x-api-key"))
        message_id: str = request.path_params["message_id"]
        return message_id

    async def _live(self, message_id: str) -> MediaRecord:
        record = await self._registry.get(message_id)
        if record is None:
            raise NotFound
        if record.deleted_at is not None:
            raise Deleted
        return record

    async def _infos(self, records: Sequence[MediaRecord], request: Request) -> list[dict[str, Any]]:
        known = await self._renditions.describe([each.stored.id for each in records if each.stored is not None])
        return [
            self._info(each, known.get(each.stored.id, NOTHING) if each.stored else NOTHING, request)
            for each in records
        ]

    def _info(self, record: MediaRecord, processed: Processed, request: Request) -> dict[str, Any]:
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
            "variants": self._variants(record, processed, request),
        }

    def _variants(self, record: MediaRecord, processed: Processed, request: Request) -> dict[str, Any]:
        stored = record.stored
        if stored is None or stored.processing_status == Processing.QUARANTINED:
            return {}
        shown = [(ORIGINAL, stored.size, record.content_type or stored.content_type)]
        shown += [
            (name, _total(name, processed), variant.content_type)
            for name, variant in sorted(processed.variants.items())
            if "/" not in name and variant.backend == stored.backend
        ]
        base = _base(request)
        return {
            name: {"url": self._url(record.message_id, name, base), "size": size, "type": content_type}
            for name, size, content_type in shown
        }

    def _url(self, message_id: str, variant: str, base: str) -> str:
        if self._signer.can_mint:
            return self._signer.mint(message_id, variant, base=base).url
        return self._signer.unsigned(message_id, variant, base=base)


def _total(name: str, processed: Processed) -> int:
    """Return the bytes of a variant, those of all its files where it has several: a stream."""
    return sum(each.size for each in processed.variants.values() if each.name.partition("/")[0] == name)


def _base(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"
