"""Every error that a client can see: one table from exception to status and problem (RFC 9457).

::

    GatewayError
    ├── BadRequest              the request itself is malformed
    ├── Unauthorized            no credential
    ├── Forbidden               a bad or expired one
    ├── NotFound                unknown, without media, or not to be seen with this credential
    ├── Deleted                 the message was deleted
    ├── Quarantined             its content is malware
    ├── MethodNotAllowed        the resource does not know the method
    ├── PreconditionFailed      RFC 9110 §13
    ├── RangeNotSatisfiable     RFC 9110 §14.2
    ├── ContentTooLarge         the request's body is too large
    └── NotReady                a dependency is missing
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from starlette.responses import Response

from storage import errors as storage_errors
from storage.errors import MediaError


class GatewayError(Exception):
    """The request cannot be answered as asked."""

    code: ClassVar[str] = "bad-request"

    def __init__(
        self,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        """Take what the client may read, headers that belong to the answer, and further members of the document."""
        super().__init__(detail or (type(self).__doc__ or "").partition("\n")[0])
        self.headers = dict(headers or {})
        self.members = dict(members or {})


class BadRequest(GatewayError):
    """The request is malformed."""


class Unauthorized(GatewayError):
    """A credential is needed: a signed URL, a token or an API key."""

    code = "unauthorized"


class Forbidden(GatewayError):
    """The credential is not valid, or not any more."""

    code = "forbidden"


class NotFound(GatewayError):
    """There is no such medium."""

    code = "not-found"


class Deleted(GatewayError):
    """The message has been deleted."""

    code = "deleted"


class Quarantined(GatewayError):
    """The medium is malware, and nobody gets it."""

    code = "quarantined"


class MethodNotAllowed(GatewayError):
    """The resource does not support this method."""

    code = "method-not-allowed"


class PreconditionFailed(GatewayError):
    """The medium is not the one that the condition names."""

    code = "precondition-failed"


class RangeNotSatisfiable(GatewayError):
    """The medium has no bytes in the requested range."""

    code = "range-not-satisfiable"


class ContentTooLarge(GatewayError):
    """The request's body is too large."""

    code = "content-too-large"


class NotReady(GatewayError):
    """The gateway is not ready to serve."""

    code = "not-ready"


@dataclass(frozen=True, slots=True)
class Row:
    """How an error looks over HTTP."""

    status: int
    title: str
    retry_after: int | None = None
    """Seconds, where the error itself does not say."""
    type: str | None = None
    """Of the problem, where that is not the error's own code."""


TABLE: dict[type[Exception], Row] = {
    BadRequest: Row(400, "Bad request"),
    Unauthorized: Row(401, "Credential needed"),
    Forbidden: Row(403, "Credential refused"),
    NotFound: Row(404, "No such medium"),
    MethodNotAllowed: Row(405, "Method not allowed"),
    Deleted: Row(410, "Deleted"),
    Quarantined: Row(410, "Quarantined"),
    PreconditionFailed: Row(412, "Precondition failed"),
    ContentTooLarge: Row(413, "Too large"),
    NotReady: Row(503, "Not ready", 5),
    RangeNotSatisfiable: Row(416, "Range not satisfiable"),
    storage_errors.RecordConflict: Row(409, "Conflict"),
    storage_errors.RecordsError: Row(503, "Records unavailable", 5),
    storage_errors.ObjectFrozen: Row(503, "Being restored", 3600),
    storage_errors.StoreFull: Row(503, "Storage full", 60),
    storage_errors.StorageError: Row(503, "Storage unavailable", 5),
    storage_errors.OriginGone: Row(410, "Expired at the provider"),
    storage_errors.OriginBusy: Row(503, "Provider busy", 30),
    storage_errors.OriginTimeout: Row(504, "Provider too slow"),
    storage_errors.OriginTooLarge: Row(502, "Provider failed", type="provider-error"),
    storage_errors.OriginError: Row(502, "Provider failed"),
    MediaError: Row(503, "Not available right now", 5),
}


def row_of(error: Exception) -> Row:
    """Return the row of an error's nearest class; what has none is a 500."""
    return next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), Row(500, "Internal error"))


def problem(error: Exception, request_id: str) -> Response:
    """Return the answer for an error: nothing of it but its class, and what its message was written for."""
    row = row_of(error)
    code = row.type or (error.code if isinstance(error, GatewayError | MediaError) else "internal-error")
    members = error.members if isinstance(error, GatewayError) else {}
    return problem_response(row, code, _detail(error), request_id, headers=_headers(error, row), members=members)


def problem_response(
    row: Row,
    code: str,
    detail: str,
    request_id: str,
    *,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """Return a problem document, never to be stored by a cache."""
    body: dict[str, Any] = {
        "type": code,
        "title": row.title,
        "status": row.status,
        "detail": detail,
        "request_id": request_id,
        **(members or {}),
    }
    fields = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return Response(json.dumps(body), row.status, fields, "application/problem+json")


def _detail(error: Exception) -> str:
    if isinstance(error, storage_errors.OriginError):
        return str(type(error)())  # what the provider has said or named is for the log alone
    return str(error) if isinstance(error, GatewayError | MediaError) else "Something went wrong on our side."


def _headers(error: Exception, row: Row) -> dict[str, str]:
    headers = dict(error.headers) if isinstance(error, GatewayError) else {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="media", ApiKey realm="media"'
    seconds = getattr(error, "retry_after", None)
    if seconds is None:
        seconds = row.retry_after
    if seconds is not None:
        headers["Retry-After"] = str(max(1, round(seconds + 0.499)))
    return headers
