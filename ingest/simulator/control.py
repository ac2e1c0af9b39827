"""Steers a simulator from another process: `/_simulator/...` on the API host, without credentials.

=======  ==========================  =================================================================
method   path                        body or answer
=======  ==========================  =================================================================
GET      /_simulator/media           {"media": [...]}: facts, media object, times resolved and downloaded
POST     /_simulator/media           {"size", "mime_type", "seed"?, "filename"?, "voice"?, "faults"?}: adds a
                                     synthetic medium, 201 and its facts
POST     /_simulator/media/{id}      {"faults": {...} | null, "gate": "open" | "close" | number of permits}
GET      /_simulator/faults          the faults of all media
POST     /_simulator/faults          `Faults` by the names of its fields; what is not named gets its default
GET      /_simulator/provider        {"online", "outage", "now"}
POST     /_simulator/provider        {"online"?, "outage"?, "advance_seconds"?}
GET      /_simulator/requests        {"requests": [...]}, oldest first
DELETE   /_simulator/requests        forgets them
=======  ==========================  =================================================================

What is not understood is answered with 422 and the reason.
"""

import asyncio
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from ingest.simulator.content import SyntheticContent
from ingest.simulator.faults import Faults
from ingest.simulator.hosts import CONTROL_PATH
from ingest.simulator.media import Medium
from ingest.simulator.provider import Outage, Provider
from ingest.simulator.webhooks import Webhooks

_STRICT = ConfigDict(extra="forbid")
_FAULTS = TypeAdapter(Faults)


class _NewMedium(BaseModel):
    model_config = _STRICT
    size: Annotated[int, Field(ge=0)]
    mime_type: str
    seed: int = 0
    filename: str | None = None
    voice: bool = False
    faults: dict[str, Any] | None = None


class _MediumChange(BaseModel):
    model_config = _STRICT
    faults: dict[str, Any] | None = None
    gate: Literal["open", "close"] | Annotated[int, Field(gt=0)] | None = None


class _ProviderChange(BaseModel):
    model_config = _STRICT
    online: bool | None = None
    outage: Outage | None = None
    advance_seconds: float = 0


def control_routes(provider: Provider) -> list[Mount]:
    """Build the routes of the control API."""
    control = _Control(provider)
    routes = [
        Route("/media", control.list_media, methods=["GET"]),
        Route("/media", control.add_medium, methods=["POST"]),
        Route("/media/{media_id}", control.change_medium, methods=["POST"]),
        Route("/faults", control.show_faults, methods=["GET"]),
        Route("/faults", control.set_faults, methods=["POST"]),
        Route("/provider", control.show_provider, methods=["GET"]),
        Route("/provider", control.change_provider, methods=["POST"]),
        Route("/requests", control.list_requests, methods=["GET"]),
        Route("/requests", control.forget_requests, methods=["DELETE"]),
    ]
    return [Mount(CONTROL_PATH, routes=routes)]


async def not_understood(_: Request, error: Exception) -> Response:
    """Answer a body that does not fit with 422."""
    return JSONResponse({"detail": str(error)}, 422)


class _Control:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def list_media(self, _: Request) -> Response:
        return JSONResponse({"media": [self._facts(medium) for medium in self._provider.media.values()]})

    async def add_medium(self, request: Request) -> Response:
        wanted = _NewMedium.model_validate_json(await request.body())
        medium = await asyncio.to_thread(
            self._provider.add,
            SyntheticContent(wanted.size, seed=wanted.seed),
            wanted.mime_type,
            filename=wanted.filename,
            voice=wanted.voice,
            faults=None if wanted.faults is None else _FAULTS.validate_python(wanted.faults),
        )
        return JSONResponse(self._facts(medium), 201)

    async def change_medium(self, request: Request) -> Response:
        medium = self._provider.media.get(request.path_params["media_id"])
        if medium is None:
            return JSONResponse({"detail": "no such medium"}, 404)
        change = _MediumChange.model_validate_json(await request.body())
        if "faults" in change.model_fields_set:
            faults = None if change.faults is None else _FAULTS.validate_python(change.faults)
            self._provider.set_faults(medium.id, faults)
        match change.gate:
            case "open":
                medium.gate.open()
            case "close":
                medium.gate.close()
            case int(permits):
                medium.gate.release(permits)
        return JSONResponse(self._facts(medium))

    async def show_faults(self, _: Request) -> Response:
        return JSONResponse(_FAULTS.dump_python(self._provider.faults, mode="json"))

    async def set_faults(self, request: Request) -> Response:
        self._provider.faults = _FAULTS.validate_json(await request.body())
        return await self.show_faults(request)

    async def show_provider(self, _: Request) -> Response:
        provider = self._provider
        state = {"online": provider.online, "outage": provider.outage, "now": provider.now().isoformat()}
        return JSONResponse(state)

    async def change_provider(self, request: Request) -> Response:
        change = _ProviderChange.model_validate_json(await request.body())
        self._provider.online = self._provider.online if change.online is None else change.online
        self._provider.outage = change.outage or self._provider.outage
        self._provider.advance(timedelta(seconds=change.advance_seconds))
        return await self.show_provider(request)

    async def list_requests(self, _: Request) -> Response:
        log = [{**asdict(entry), "at": entry.at.isoformat()} for entry in self._provider.requests]
        return JSONResponse({"requests": log})

    async def forget_requests(self, _: Request) -> Response:
        self._provider.requests.clear()
        return Response(status_code=204)

    def _facts(self, medium: Medium) -> dict[str, Any]:
        return {
            "id": medium.id,
            "kind": medium.kind,
            "size": medium.size,
            "sha256": medium.sha256_hex,
            "phone_number_id": medium.phone_number_id,
            "expires_at": medium.expires_at.isoformat(),
            "media_object": Webhooks(self._provider).media_object(medium),
            "resolves": self._provider.resolves(medium.id),
            "downloads": self._provider.downloads(medium.id),
        }
