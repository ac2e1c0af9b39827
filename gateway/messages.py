"""What the host application does with messages: register, look at, retry, list and delete."""

from functools import partial
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from gateway.admission import Admission
from gateway.audit import Action
from gateway.bodies import bad_request, json_response, read_json
from gateway.errors import BadRequest, NotFound
from gateway.info import Infos
from gateway.subjects import base_of, live, path_id
from ingest.registry import Registry
from ingest.whatsapp.answers import normalise_sha256
from storage.record import Cursor, NewMessage, Status
from storage.records import MAX_PAGE

_MAX_SIZE = 2**53  # bytes; beyond, JSON numbers are not exact


def _plain(text: str) -> str:
    if any(ch < " " or ch == "\x7f" for ch in text):
        raise ValueError("must not hold control characters")
    return text


def _sha256(text: str) -> str:
    return normalise_sha256(text) or ""


def _cursor(text: str) -> Cursor:
    return Cursor.decode(text)


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


class Listing(BaseModel):
    """The query of ``GET /media/messages``; what is empty is left out."""

    model_config = ConfigDict(extra="ignore", arbitrary_types_allowed=True)

    workspace_id: Word | None = None
    status: Status | None = None
    cursor: Annotated[Cursor | None, BeforeValidator(_cursor)] = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50


class Messages:
    """The endpoints: for the host application's backend all of them, for a token's holder what only looks."""

    def __init__(self, *, admission: Admission, registry: Registry, infos: Infos) -> None:
        self._admission = admission
        self._registry = registry
        self._infos = infos

    async def put(self, request: Request) -> Response:
        """Register a message's medium: 201, or 200 where it was known."""
        grant, message_id = self._admission.host(request), path_id(request)
        registration = await read_json(request, Registration)
        if (registration.provider_media_id is None) == (registration.copy_of is None):
            raise BadRequest("Either provider_media_id or copy_of is needed.")
        new = registration.new_message(message_id)
        if registration.copy_of is not None:
            source = await live(
                self._registry, registration.copy_of, partial(self._admission.check, request.scope, grant)
            )
            record, created = await self._registry.copy(new, source, ingest=registration.ingest)
        else:
            record, created = await self._registry.register(new, ingest=registration.ingest)
        self._admission.done(Action.REGISTER, request.scope, grant, record)
        (info,) = await self._infos.of([record], base_of(request))
        return json_response(info, 201 if created else 200)

    async def delete(self, request: Request) -> Response:
        """Delete a message's medium: 204, also where it is gone already."""
        grant, message_id = self._admission.host(request), path_id(request)
        record = await self._registry.get(message_id)
        if not await self._registry.delete(message_id) and record is None:
            raise NotFound
        self._admission.done(Action.DELETE, request.scope, grant, record)
        return Response(status_code=204)

    async def info(self, request: Request) -> Response:
        """Show the record and what is known of the medium."""
        grant = await self._admission.user(request)
        record = await live(self._registry, path_id(request), partial(self._admission.check, request.scope, grant))
        self._admission.done(Action.READ, request.scope, grant, record, variant="info")
        (info,) = await self._infos.of([record], base_of(request))
        return json_response(info)

    async def retry(self, request: Request) -> Response:
        """Ingest again, whatever became of it before: 202."""
        grant = self._admission.host(request)
        record = await live(self._registry, path_id(request), partial(self._admission.check, request.scope, grant))
        await self._registry.retry(record)
        self._admission.done(Action.RETRY, request.scope, grant, record)
        return json_response({"message_id": record.message_id, "status": Status.PENDING}, 202)

    async def page(self, request: Request) -> Response:
        """List records."""
        grant = self._admission.host(request)
        query = request.query_params
        try:
            listing = Listing.model_validate({name: value for name, value in query.items() if value})
        except ValidationError as error:
            raise bad_request(error) from None
        found, cursor = await self._registry.page(
            workspace_id=listing.workspace_id, status=listing.status, after=listing.cursor, limit=listing.limit
        )
        for workspace_id in dict.fromkeys(each.workspace_id for each in found) or [listing.workspace_id]:
            self._admission.done(Action.LIST, request.scope, grant, workspace_id=workspace_id)
        messages = await self._infos.of(found, base_of(request))
        return json_response({"messages": messages, "next_cursor": cursor.encode() if cursor else None})
