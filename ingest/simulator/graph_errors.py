"""The Graph API's errors: codes, HTTP statuses and the envelope (Meta's page of error codes, December 2025)."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class GraphCode(IntEnum):
    """The codes that a media call can answer with."""

    AUTH_EXCEPTION = 0
    UNKNOWN = 1
    SERVICE_DOWN = 2
    METHOD = 3
    APP_RATE_LIMIT = 4
    PERMISSION_DENIED = 10
    NUMBER_DELETED = 33
    INVALID_PARAMETER = 100
    """With subcode 33: an ID that is unknown, expired, deleted or another number's; these cannot be told apart."""
    TOKEN_EXPIRED = 190
    PERMISSION = 200
    ALIAS_UNKNOWN = 803
    UNKNOWN_PATH = 2500
    """No evidence but habit: a path that the Graph API does not have."""
    WABA_RATE_LIMIT = 80007
    THROUGHPUT = 130429
    SOMETHING_WRONG = 131000
    ACCESS_DENIED = 131005
    SERVICE_UNAVAILABLE = 131016
    MEDIA_DOWNLOAD = 131052
    MEDIA_UPLOAD = 131053
    MAINTENANCE = 131057


RATE_LIMITS = frozenset({GraphCode.APP_RATE_LIMIT, GraphCode.WABA_RATE_LIMIT, GraphCode.THROUGHPUT})


@dataclass(frozen=True, slots=True)
class _Form:
    status: int
    message: str
    type: str = "OAuthException"
    subcode: int | None = None


_FORMS: Mapping[GraphCode, _Form] = {
    GraphCode.AUTH_EXCEPTION: _Form(401, "We were unable to authenticate the app user."),
    GraphCode.UNKNOWN: _Form(400, "An unknown error occurred"),
    GraphCode.SERVICE_DOWN: _Form(503, "An unexpected error has occurred. Please retry your request later."),
    GraphCode.METHOD: _Form(500, "Capability or permissions issue."),
    GraphCode.APP_RATE_LIMIT: _Form(400, "(#4) Application request limit reached"),
    GraphCode.PERMISSION_DENIED: _Form(403, "(#10) Application does not have permission for this action"),
    GraphCode.NUMBER_DELETED: _Form(400, "(#33) This object does not exist or does not support this action"),
    GraphCode.INVALID_PARAMETER: _Form(
        400,
        "Unsupported {method} request. Object with ID '{object_id}' does not exist, cannot be loaded due to missing "
        "permissions, or does not support this operation",
        "GraphMethodException",
        33,
    ),
    GraphCode.TOKEN_EXPIRED: _Form(401, "Error validating access token: Session has expired", subcode=460),
    GraphCode.PERMISSION: _Form(403, "(#200) Permissions error"),
    GraphCode.ALIAS_UNKNOWN: _Form(404, "(#803) Some of the aliases you requested do not exist: {object_id}"),
    GraphCode.UNKNOWN_PATH: _Form(400, "Unknown path components: /{object_id}"),
    GraphCode.WABA_RATE_LIMIT: _Form(400, "(#80007) Rate limit issues"),
    GraphCode.THROUGHPUT: _Form(400, "(#130429) Rate limit hit", subcode=2494055),
    GraphCode.SOMETHING_WRONG: _Form(500, "(#131000) Something went wrong"),
    GraphCode.ACCESS_DENIED: _Form(403, "(#131005) Access denied"),
    GraphCode.SERVICE_UNAVAILABLE: _Form(500, "(#131016) Service unavailable"),
    GraphCode.MEDIA_DOWNLOAD: _Form(400, "(#131052) Media download error"),
    GraphCode.MEDIA_UPLOAD: _Form(400, "(#131053) Media upload error"),
    GraphCode.MAINTENANCE: _Form(500, "(#131057) Account in maintenance mode"),
}


class GraphFailure(Exception):
    """A Graph call ends with this error.

    Args:
        code: Which error; it settles the HTTP status.
        object_id: The ID that the message names, where it names one.
        method: The HTTP method, in lower case.
    """

    def __init__(self, code: GraphCode, *, object_id: str = "", method: str = "get") -> None:
        self.code = code
        self.status = _FORMS[code].status
        self.message = _FORMS[code].message.format(object_id=object_id, method=method)
        super().__init__(self.message)

    def envelope(self) -> dict[str, Any]:
        """Build the error object of the answer."""
        form = _FORMS[self.code]
        error: dict[str, Any] = {"message": self.message, "type": form.type, "code": int(self.code)}
        if self.code >= GraphCode.WABA_RATE_LIMIT:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self.message}
        if form.subcode is not None:
            error["error_subcode"] = form.subcode
        return {"error": {**error, "fbtrace_id": f"A{secrets.token_urlsafe(16)}"}}

    def challenge(self) -> str:
        """Build the `WWW-Authenticate` header, which comes with client errors of every sort."""
        reason = "invalid_token" if self.status == 401 else "invalid_request"  # noqa: PLR2004 - an HTTP status
        return f'OAuth "Facebook Platform" "{reason}" "{self.message}"'


def usage_headers(percent: int, *, business_id: str, regain_minutes: int = 0) -> dict[str, str]:
    """Build the usage headers: `X-App-Usage`, and the business use case's when access is suspended.

    Args:
        percent: How much of the limit is used up; all three figures get it.
        business_id: The account that the business use case header names.
        regain_minutes: When access returns; 0 leaves the business use case header out.
    """
    usage = {"call_count": percent, "total_cputime": percent, "total_time": percent}
    headers = {"X-App-Usage": json.dumps(usage)}
    if regain_minutes:
        case = {"type": "whatsapp", **usage, "estimated_time_to_regain_access": regain_minutes}
        headers["X-Business-Use-Case-Usage"] = json.dumps({business_id: [case]})
    return headers
