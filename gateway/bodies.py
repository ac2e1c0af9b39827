"""Reads request bodies within bounds of size, time and depth, and writes JSON."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gateway.errors import BadRequest, ContentTooLarge

MAX_JSON = 256 * 1024  # bytes
BODY_DEADLINE = 30.0  # seconds to send the whole body

M = TypeVar("M", bound=BaseModel)


async def read_body(request: Request, *, limit: int) -> bytes:
    """Read a whole body of at most ``limit`` bytes.

    Raises:
        ContentTooLarge: It is longer, or says so.
        BadRequest: It took too long, or broke off.
    """
    declared = request.headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit()) or len(declared) > len(str(limit)) or int(declared) > limit:
        raise ContentTooLarge
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_DEADLINE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise ContentTooLarge
    except (TimeoutError, ClientDisconnect):
        raise BadRequest("The body did not arrive in time.") from None
    return bytes(body)


async def read_json(request: Request, model: type[M]) -> M:
    """Read a body as a model.

    Raises:
        BadRequest: It is not JSON, is nested too deeply, or does not fit; the detail says where.
        ContentTooLarge: It is too long.
    """
    body = await read_body(request, limit=MAX_JSON)
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise bad_request(error) from None


def bad_request(error: ValidationError) -> BadRequest:
    """Say what is wrong with the first field that is, without repeating its value."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return BadRequest(f"{place}: {first['msg']}" if place else first["msg"])


def json_response(content: Any, status: int = 200, **headers: str) -> Response:
    """Return an answer that no cache keeps: it is about one moment, and about private messages."""
    fields = {"Cache-Control": "no-store", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Response(json.dumps(content, ensure_ascii=False), status, fields, "application/json")


def timestamp(moment: datetime | float | None) -> str | None:
    """Return a moment as RFC 3339 in UTC; a number counts seconds since the epoch."""
    if moment is None:
        return None
    if isinstance(moment, int | float):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
