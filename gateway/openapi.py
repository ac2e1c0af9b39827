"""The description of the gateway's interface, as OpenAPI 3.1."""

from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.bodies import json_response
from gateway.variants import ORIGINAL, VARIANTS

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_NULLABLE: Json = {"type": ["string", "null"]}
_TIME: Json = {"type": ["string", "null"], "format": "date-time"}
_STATUS: Json = {"type": "string", "enum": ["pending", "processing", "completed", "failed"]}
_VARIANT: Json = {"type": "string", "enum": sorted(VARIANTS), "default": ORIGINAL}
_WORD: Json = {"type": "string", "minLength": 1, "maxLength": 255}
_HOST: list[Json] = [{"apiKey": []}]
_READER: list[Json] = [{"apiKey": []}, {"signature": [], "keyId": [], "expiry": []}]
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


_MESSAGE_ID = _parameter("path", "message_id", "The host application's own id, percent-encoded.", _WORD)
_WORKSPACE_ID = _parameter("path", "workspace_id", "Whose webhooks these are.", _WORD)
_READING = [
    _parameter("query", "variant", "Which rendition.", _VARIANT),
    _parameter("query", "download", "1: to be saved, not shown.", {"type": "string", "enum": ["0", "1"]}),
    _parameter("header", "Range", "RFC 9110 section 14; of GET only."),
    *(
        _parameter("header", name, "RFC 9110 section 13.")
        for name in ("If-Match", "If-Unmodified-Since", "If-None-Match", "If-Modified-Since", "If-Range")
    ),
]
_MEDIUM = {"description": "The medium.", "content": {"*/*": {}}}
_UNCHANGED = _answer("Not modified.")

_SCHEMAS: dict[str, Json] = {
    "Problem": {
        **_object(type=_TEXT, title=_TEXT, status={"type": "integer"}, detail=_TEXT, request_id=_TEXT),
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
        error=_NULLABLE,
        mime_type=_NULLABLE,
        size={"type": ["integer", "null"]},
        sha256=_NULLABLE,
        width={"type": ["integer", "null"]},
        height={"type": ["integer", "null"]},
        duration={"type": ["number", "null"], "description": "Seconds."},
        codec=_NULLABLE,
        blurhash=_NULLABLE,
        lqip={**_NULLABLE, "description": "A data URI."},
        dominant_color=_NULLABLE,
        waveform={"type": ["array", "null"], "items": {"type": "number"}},
        exif={"type": ["object", "null"]},
        filename=_NULLABLE,
        stored_url=_NULLABLE,
        stored_at=_TIME,
        storage_backend=_NULLABLE,
        expires_at=_TIME,
        created_at=_TIME,
        variants={
            "type": "object",
            "additionalProperties": _object(url=_TEXT, size={"type": "integer"}, type=_TEXT),
        },
    ),
    "UrlOrder": _object(
        variant=_VARIANT,
        download={"type": "boolean", "default": False},
        expires_in={"type": "integer", "description": "Seconds.", "minimum": 1, "maximum": 604800, "default": 3600},
    ),
    "SignedUrl": _object(url=_TEXT, expires_at=_TIME),
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
    "/media/messages/{message_id}/info": {
        "parameters": [_MESSAGE_ID],
        "get": _operation("Show the record.", _HOST, {200: _answer("The record.", _ref("Info"))}),
    },
    "/media/messages/{message_id}/url": {
        "parameters": [_MESSAGE_ID],
        "post": _operation(
            "Mint a signed URL.",
            _HOST,
            {200: _answer("The URL.", _ref("SignedUrl"))},
            requestBody=_body(_ref("UrlOrder"), required=False),
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
    "/readyz": {"get": _operation("Readiness.", _ANYBODY, {200: _answer("All depended on is there.", _ref("Ready"))})},
    "/metrics": {"get": _operation("Metrics.", _ANYBODY, {200: _answer("Prometheus text.", _TEXT, "text/plain")})},
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
