"""The description of the gateway's interface, as OpenAPI 3.1."""

from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.auth import COOKIE
from gateway.bodies import json_response
from gateway.errors import TABLE
from gateway.variants import AUTO, ORIGINAL, VARIANTS

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_NULLABLE: Json = {"type": ["string", "null"]}
_COUNT: Json = {"type": ["integer", "null"]}
_TIME: Json = {"type": ["string", "null"], "format": "date-time"}
_STATUS: Json = {"type": "string", "enum": ["pending", "processing", "completed", "failed"]}
_VARIANT: Json = {"type": "string", "enum": sorted(VARIANTS), "default": ORIGINAL}
_WORD: Json = {"type": "string", "minLength": 1, "maxLength": 255}
_HOST: list[Json] = [{"apiKey": []}]
_USER: list[Json] = [*_HOST, {"token": []}, {"tokenCookie": []}]
_READER: list[Json] = [*_USER, {"signature": [], "keyId": [], "expiry": []}, {"originSecret": []}]
_OPERATOR: list[Json] = [{"operationsToken": []}, {}]
_ANYBODY: list[Json] = []


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _parameter(place: str, name: str, description: str, schema: Json | None = None) -> Json:
    parameter = {"in": place, "name": name, "description": description, "schema": schema or _TEXT}
    return parameter | ({"required": True} if place == "path" else {})


def _answer(description: str, schema: Json | None = None, media_type: str = "application/json") -> Json:
    return {"description": description} | ({"content": {media_type: {"schema": schema}}} if schema else {})


def _body(schema: Json, *, required: bool = True) -> Json:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _operation(summary: str, security: list[Json], answers: dict[int, Json], **more: Any) -> Json:
    responses = {str(status): answer for status, answer in answers.items()}
    problem = _answer("A problem document (RFC 9457).", _ref("Problem"), "application/problem+json")
    return {"summary": summary, "security": security, **more, "responses": {**responses, "default": problem}}


def _problem_types() -> list[str]:
    """Return what ``type`` of a problem may be; more may come, and a client treats those by their status."""
    codes = {row.type or str(getattr(kind, "code")) for kind, row in TABLE.items()}  # noqa: B009 two trees, one name
    return sorted(codes | {"too-many-requests", "header-fields-too-large", "request-timeout"})


_MESSAGE_ID = _parameter("path", "message_id", "The host application's own id, percent-encoded.", _WORD)
_WORKSPACE_ID = _parameter("path", "workspace_id", "Whose webhooks these are.", _WORD)
_FILE = _parameter("path", "file", "`master.m3u8`, or what a playlist names.", _WORD)
_CONDITIONS = [
    _parameter("header", "Range", "RFC 9110 section 14; of GET only."),
    *(
        _parameter("header", name, "RFC 9110 section 13.")
        for name in ("If-Match", "If-Unmodified-Since", "If-None-Match", "If-Modified-Since", "If-Range")
    ),
]
_READING = [
    _parameter("query", "variant", "Which rendition.", _VARIANT),
    _parameter("header", "Accept", "RFC 9110 section 12.5.1; of the variant `auto` only."),
    _parameter("query", "download", "1: to be saved, not shown.", {"type": "string", "enum": ["0", "1"]}),
    *_CONDITIONS,
]
_MEDIUM = {"description": "The medium.", "content": {"*/*": {}}}
_UNCHANGED = _answer("Not modified.")

_SCHEMAS: dict[str, Json] = {
    "Problem": {
        **_object(
            type={**_TEXT, "examples": _problem_types()},
            title=_TEXT,
            status={"type": "integer"},
            detail=_TEXT,
            request_id=_TEXT,
        ),
        "required": ["type", "title", "status", "detail", "request_id"],
    },
    "Registration": {
        **_object(
            workspace_id={**_WORD, "default": "default"},
            provider_media_id=_WORD,
            copy_of={**_WORD, "description": "A message whose medium this one refers to, instead of a provider's id."},
            kind={"type": "string", "enum": ["image", "video", "audio", "document", "sticker"]},
            mime_type=_WORD,
            sha256={"type": "string", "description": "64 hex digits, or base64 of the 32 bytes."},
            size={"type": "integer", "minimum": 0},
            filename={"type": "string", "maxLength": 1024},
            conversation_id=_WORD,
            participants={"type": "array", "items": _WORD},
            ingest={"type": "boolean", "default": True},
        ),
        "oneOf": [{"required": ["provider_media_id"]}, {"required": ["copy_of"]}],
    },
    "Info": _object(
        message_id=_TEXT,
        workspace_id=_TEXT,
        conversation_id=_NULLABLE,
        kind=_NULLABLE,
        status=_STATUS,
        error={**_NULLABLE, "description": "Why there is no medium, such as `media-expired` or `quarantined`."},
        mime_type=_NULLABLE,
        size=_COUNT,
        sha256=_NULLABLE,
        width={**_COUNT, "description": "Pixels, as it is shown."},
        height=_COUNT,
        duration={"type": ["number", "null"], "description": "Seconds."},
        codec=_NULLABLE,
        audio_codec={**_NULLABLE, "description": "Of a film's sound."},
        bitrate={**_COUNT, "description": "Bits per second."},
        channels=_COUNT,
        sample_rate={**_COUNT, "description": "Samples per second."},
        frames={**_COUNT, "description": "Of an animation."},
        pages={**_COUNT, "description": "Of a PDF."},
        blurhash=_NULLABLE,
        lqip={**_NULLABLE, "description": "A data URI of a picture of at most 20 pixels."},
        dominant_color={**_NULLABLE, "pattern": "^#[0-9a-f]{6}$"},
        waveform={
            "type": ["array", "null"],
            "items": {"type": "integer", "minimum": 0, "maximum": 100},
            "description": "64 peaks, in hundredths of the loudest.",
        },
        exif={
            "type": ["object", "null"],
            "description": "How a picture was taken; never where, by whom or with which camera's number.",
        },
        filename=_NULLABLE,
        stored_url=_NULLABLE,
        stored_at=_TIME,
        storage_backend=_NULLABLE,
        expires_at=_TIME,
        created_at=_TIME,
        variants={
            "type": "object",
            "description": "What is ready, by name.",
            "propertyNames": {"enum": sorted(VARIANTS - {AUTO})},
            "additionalProperties": _object(url=_TEXT, size={"type": "integer"}, type=_TEXT),
        },
    ),
    "UrlOrder": _object(
        variant=_VARIANT,
        download={"type": "boolean", "default": False},
        expires_in={"type": "integer", "description": "Seconds.", "minimum": 1, "maximum": 604800, "default": 3600},
    ),
    "SignedUrl": _object(url=_TEXT, expires_at=_TIME),
    "UrlOrders": _object(
        urls={
            "type": "array",
            "maxItems": 200,
            "items": {"allOf": [_ref("UrlOrder"), {**_object(message_id=_WORD), "required": ["message_id"]}]},
        },
    ),
    "SignedUrls": _object(
        urls={"type": "array", "items": _object(message_id=_TEXT, url=_TEXT, expires_at=_TIME, error=_TEXT)},
    ),
    "Page": _object(messages={"type": "array", "items": _ref("Info")}, next_cursor=_NULLABLE),
    "Accepted": _object(message_id=_TEXT, status=_STATUS),
    "Received": _object(new_media={"type": "integer"}),
    "Alive": _object(status=_TEXT),
    "Ready": _object(status=_TEXT, checks={"type": "object", "additionalProperties": _TEXT}),
}

_SIGNED_EVENTS = _operation(
    "Take signed events in; 200 once they are durable.",
    [{"webhookSignature": []}],
    {200: _answer("Durable.", _ref("Received"))},
    requestBody=_body({"type": "object"}),
)
_HANDSHAKE = _operation(
    "Verify the subscription.",
    _ANYBODY,
    {200: _answer("The challenge.", _TEXT, "text/plain")},
    parameters=[_parameter("query", f"hub.{name}", "See Meta.") for name in ("mode", "verify_token", "challenge")],
)

_PATHS: dict[str, Json] = {
    "/media/messages/{message_id}": {
        "parameters": [_MESSAGE_ID],
        "get": _operation(
            "Serve a message's medium.",
            _READER,
            {200: _MEDIUM, 206: {**_MEDIUM, "description": "Parts of the medium."}, 304: _UNCHANGED},
            parameters=_READING,
        ),
        "head": _operation(
            "Describe a message's medium, without asking the provider.",
            _READER,
            {200: _answer("The headers of GET."), 304: _UNCHANGED},
            parameters=_READING,
        ),
        "put": _operation(
            "Register a message's medium.",
            _HOST,
            {200: _answer("Known already.", _ref("Info")), 201: _answer("Registered.", _ref("Info"))},
            requestBody=_body(_ref("Registration")),
        ),
        "delete": _operation("Delete a message's medium.", _HOST, {204: _answer("Deleted.")}),
    },
    "/media/messages/{message_id}/hls/{file}": {
        "parameters": [_MESSAGE_ID, _FILE],
        "get": _operation(
            "Serve a file of a film's stream, with a signature over the variant `hls`.",
            _READER,
            {200: _MEDIUM, 206: {**_MEDIUM, "description": "Parts of the file."}, 304: _UNCHANGED},
            parameters=_CONDITIONS,
        ),
        "head": _operation(
            "Describe a file of a film's stream.",
            _READER,
            {200: _answer("The headers of GET."), 304: _UNCHANGED},
            parameters=_CONDITIONS,
        ),
    },
    "/media/messages/{message_id}/info": {
        "parameters": [_MESSAGE_ID],
        "get": _operation("Show the record.", _USER, {200: _answer("The record.", _ref("Info"))}),
    },
    "/media/messages/{message_id}/url": {
        "parameters": [_MESSAGE_ID],
        "post": _operation(
            "Mint a signed URL.",
            _USER,
            {200: _answer("The URL.", _ref("SignedUrl"))},
            requestBody=_body(_ref("UrlOrder"), required=False),
        ),
    },
    "/media/urls": {
        "post": _operation(
            "Mint the URLs of a chat history; one that may not be minted has `error` in its place.",
            _USER,
            {200: _answer("The URLs.", _ref("SignedUrls"))},
            requestBody=_body(_ref("UrlOrders")),
        ),
    },
    "/media/messages/{message_id}/retry": {
        "parameters": [_MESSAGE_ID],
        "post": _operation("Ingest again.", _HOST, {202: _answer("Accepted.", _ref("Accepted"))}),
    },
    "/media/messages": {
        "get": _operation(
            "List records.",
            _HOST,
            {200: _answer("A page of records.", _ref("Page"))},
            parameters=[
                _parameter("query", "workspace_id", "Only this workspace's."),
                _parameter("query", "status", "Only those that stand there.", _STATUS),
                _parameter("query", "cursor", "`next_cursor` of the page before."),
                _parameter("query", "limit", "How many.", {"type": "integer", "minimum": 1, "maximum": 200}),
            ],
        )
    },
    "/webhooks/whatsapp": {"get": _HANDSHAKE, "post": _SIGNED_EVENTS},
    "/webhooks/whatsapp/{workspace_id}": {"parameters": [_WORKSPACE_ID], "get": _HANDSHAKE, "post": _SIGNED_EVENTS},
    "/healthz": {"get": _operation("Liveness.", _ANYBODY, {200: _answer("It lives.", _ref("Alive"))})},
    "/readyz": {"get": _operation("Readiness.", _OPERATOR, {200: _answer("All depended on is there.", _ref("Ready"))})},
    "/metrics": {"get": _operation("Metrics.", _OPERATOR, {200: _answer("Prometheus text.", _TEXT, "text/plain")})},
    "/openapi.json": {
        "get": _operation("This description.", _ANYBODY, {200: _answer("OpenAPI 3.1.", {"type": "object"})})
    },
}


def _key(place: str, name: str) -> Json:
    return {"type": "apiKey", "in": place, "name": name}


def document() -> Json:
    """Return the description of every route."""
    schemes = {
        "apiKey": _key("header", "X-API-Key"),
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "tokenCookie": _key("cookie", COOKIE),
        "originSecret": _key("header", "X-Origin-Verify"),
        "operationsToken": {"type": "http", "scheme": "bearer"},
        "signature": _key("query", "sig"),
        "keyId": _key("query", "kid"),
        "expiry": _key("query", "exp"),
        "webhookSignature": _key("header", "X-Hub-Signature-256"),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Media gateway", "version": version("media-gateway"), "license": {"name": "MIT"}},
        "paths": _PATHS,
        "components": {"schemas": _SCHEMAS, "securitySchemes": schemes},
    }


async def openapi(_request: Request) -> Response:
    """Answer with the description."""
    return json_response(document())
