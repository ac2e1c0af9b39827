"""The provider's API host: resolve, delete and upload of media, with the Graph API's errors."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ingest.simulator.bodies import pause
from ingest.simulator.control import control_routes, not_understood
from ingest.simulator.faults import Faults, SizeForm, UrlForm
from ingest.simulator.forms import format_hash, format_type
from ingest.simulator.graph_errors import RATE_LIMITS, GraphCode, GraphFailure, usage_headers
from ingest.simulator.hosts import while_connected
from ingest.simulator.links import ATTACHMENTS
from ingest.simulator.media import MAX_BYTES, UPLOAD_LIFETIME, Medium
from ingest.simulator.provider import Credential, Profile, Provider
from ingest.simulator.traffic import HostName
from ingest.simulator.upload import Part, UploadTooLargeError, parts, save_body

_FORM_OVERHEAD_BYTES = 65_536
_Endpoint = Callable[[Request], Awaitable[Response]]


def graph_app(provider: Provider, downloads: ASGIApp) -> ASGIApp:
    """Assemble the API host; `downloads` answers attachments where a profile has them on this host."""
    graph = _Graph(provider)
    return Starlette(
        routes=[*control_routes(provider), *_media_routes(graph, provider.profile, downloads)],
        exception_handlers={
            GraphFailure: graph.refuse,
            HTTPException: _unknown_path,
            ValidationError: not_understood,
        },
    )


def _media_routes(graph: "_Graph", profile: Profile, downloads: ASGIApp) -> list[Route]:
    if profile is Profile.DIALOG360:
        prefix, upload = "", "/media"
        extra = [Route(ATTACHMENTS, downloads)]
    else:
        prefix, upload = "/v{version:int}.0", "/v{version:int}.0/{phone_number_id}/media"
        extra = []
    return [
        *extra,
        Route(upload, graph.upload, methods=["POST"]),
        Route(prefix + "/{media_id}", graph.throttled(graph.resolve), methods=["GET"]),
        Route(prefix + "/{media_id}", graph.delete, methods=["DELETE"]),
    ]


class _Graph:
    """The endpoints, and the error budget that the 360dialog profile keeps."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._errors: deque[datetime] = deque(maxlen=provider.error_block.errors)
        self._blocked_until = datetime.min.replace(tzinfo=UTC)

    async def resolve(self, request: Request) -> Response:
        """`GET /{media-id}`."""
        medium, faults = self._admit(request)
        if faults.resolve_silent:
            await while_connected(request.receive, pause(medium, faults))
        return JSONResponse(self._resolved(medium, faults), headers=self._usage(faults))

    async def delete(self, request: Request) -> Response:
        """`DELETE /{media-id}`."""
        medium, faults = self._admit(request)
        self._provider.delete(medium.id)
        return JSONResponse({"success": True}, headers=self._usage(faults))

    async def upload(self, request: Request) -> Response:
        """`POST /{phone-number-id}/media`."""
        number: str = request.path_params.get("phone_number_id", self._provider.number.phone_number_id)
        faults = self._provider.plan.of(number)
        self._check_call(request, number, faults)
        folder = await asyncio.to_thread(self._provider.upload_folder)
        limit = MAX_BYTES + _FORM_OVERHEAD_BYTES
        try:
            path = await save_body(request.stream(), folder, max_bytes=limit)
            form = await asyncio.to_thread(lambda: list(parts(path, request.headers.get("content-type", ""))))
            medium = await asyncio.to_thread(self._add, {part.name: part for part in form}, number)
        except UploadTooLargeError as error:
            raise GraphFailure(GraphCode.MEDIA_UPLOAD) from error
        except (KeyError, ValueError) as error:
            raise GraphFailure(GraphCode.INVALID_PARAMETER, object_id=number, method="post") from error
        return JSONResponse({"id": medium.id}, headers=self._usage(faults))

    def throttled(self, endpoint: _Endpoint) -> _Endpoint:
        """Count the errors of an endpoint, and block it when a profile's budget of them is used up."""
        if self._provider.profile is not Profile.DIALOG360:
            return endpoint
        block = self._provider.error_block

        async def counting(request: Request) -> Response:
            now = self._provider.now()
            if now < self._blocked_until:
                return Response(status_code=block.status)
            try:
                return await endpoint(request)
            except GraphFailure:
                self._errors.append(now)
                if len(self._errors) == block.errors and now - self._errors[0] <= block.within:
                    self._blocked_until = now + block.lasts
                    self._errors.clear()
                raise

        return counting

    async def refuse(self, request: Request, failure: Exception) -> Response:
        """Answer with the error envelope."""
        assert isinstance(failure, GraphFailure)  # noqa: S101 - the table of handlers says so, mypy cannot see it
        faults = self._provider.plan.of(request.path_params.get("media_id", ""))
        headers = self._usage(faults)
        if failure.code in RATE_LIMITS:
            waba_id = self._provider.number.waba_id
            headers = usage_headers(100, business_id=waba_id, regain_minutes=faults.regain_minutes)
        if failure.status < 500:  # noqa: PLR2004 - an HTTP status
            headers["WWW-Authenticate"] = failure.challenge()
        return JSONResponse(failure.envelope(), failure.status, headers)

    def _admit(self, request: Request) -> tuple[Medium, Faults]:
        """Find the medium of a call, or fail like the provider does."""
        media_id: str = request.path_params["media_id"]
        faults = self._provider.plan.of(media_id)
        self._check_call(request, media_id, faults)
        medium = self._provider.find(media_id)
        method = request.method.lower()
        if medium is None:
            raise GraphFailure(faults.id_refusal, object_id=media_id, method=method)
        if request.query_params.get("phone_number_id", medium.phone_number_id) != medium.phone_number_id:
            raise GraphFailure(faults.number_refusal, object_id=media_id, method=method)
        return medium, faults

    def _check_call(self, request: Request, object_id: str, faults: Faults) -> None:
        code, times = faults.graph_error, faults.graph_error_times
        if code is not None and self._provider.plan.strikes(HostName.GRAPH, object_id, times):
            raise GraphFailure(code, object_id=object_id, method=request.method.lower())
        if self._provider.credential(request.scope) is not Credential.VALID:
            raise GraphFailure(GraphCode.TOKEN_EXPIRED)

    def _usage(self, faults: Faults) -> dict[str, str]:
        if faults.app_usage is None:
            return {}
        return usage_headers(faults.app_usage, business_id=self._provider.number.waba_id)

    def _resolved(self, medium: Medium, faults: Faults) -> dict[str, Any]:
        size = medium.size + faults.file_size_error
        url = self._provider.media_url(medium, expired=faults.url is UrlForm.EXPIRED)
        stated = {
            "messaging_product": "whatsapp",
            "url": None if faults.url is UrlForm.ABSENT else url,
            "mime_type": format_type(medium, faults.mime_type),
            "sha256": format_hash(medium, faults.sha256),
            "file_size": {SizeForm.STRING: str(size), SizeForm.NUMBER: size}.get(faults.file_size),
            "id": medium.id,
        }
        return {key: value for key, value in stated.items() if value is not None}

    def _add(self, form: dict[str, Part], number: str) -> Medium:
        file = form["file"]
        if form["messaging_product"].text() != "whatsapp":
            raise ValueError("messaging_product")
        mime_type = form["type"].text() if "type" in form else file.content_type
        return self._provider.add(
            file.content,
            mime_type or "application/octet-stream",
            filename=file.filename,
            phone_number_id=number,
            lifetime=UPLOAD_LIFETIME,
        )


async def _unknown_path(request: Request, _: Exception) -> Response:
    failure = GraphFailure(GraphCode.UNKNOWN_PATH, object_id=request.url.path.strip("/"))
    return JSONResponse(failure.envelope(), failure.status, {"WWW-Authenticate": failure.challenge()})
