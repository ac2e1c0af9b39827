"""Every switch of the simulator; each default is what the provider is known to do."""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import with_config

from ingest.simulator.graph_errors import GraphCode


class SizeForm(StrEnum):
    """How a resolve answer gives `file_size`."""

    STRING = "string"
    NUMBER = "number"
    MISSING = "missing"


class HashForm(StrEnum):
    """How `sha256` is given."""

    HEX = "hex"
    BASE64 = "base64"
    WRONG = "wrong"  # well-formed hex of other bytes
    MISSING = "missing"


class TypeForm(StrEnum):
    """How a MIME type is given."""

    FULL = "full"  # with its parameters
    BARE = "bare"
    UPPER = "upper"
    OCTET_STREAM = "octet_stream"
    MISSING = "missing"


class UrlForm(StrEnum):
    """Whether a media object or a resolve answer holds a `url`."""

    PRESENT = "present"
    ABSENT = "absent"
    EXPIRED = "expired"


class DownloadAuth(StrEnum):
    """What the download host makes of credentials."""

    REQUIRED = "required"
    UNCHECKED = "unchecked"
    REFUSED = "refused"  # one library's tests claim that any Authorization is rejected


class RangeMode(StrEnum):
    """What the download host makes of a `Range` header."""

    IGNORED = "ignored"  # 200, the whole body
    HONOURED = "honoured"  # 206, or 416 where it cannot be satisfied
    REFUSED = "refused"  # 416 whatever is asked for


class Body(StrEnum):
    """What a download's 200 carries."""

    MEDIUM = "medium"
    HTML = "html"
    CORRUPT = "corrupt"  # the right length, other bytes than the hash says


class Transport(StrEnum):
    """How a download's body travels."""

    WHOLE = "whole"
    TRUNCATED = "truncated"  # the connection closes in order at `at_byte`
    RESET = "reset"  # the connection is reset at `at_byte`
    DRIP = "drip"  # every chunk waits: for `pause`, or for the medium's gate
    STALL = "stall"  # one wait at `at_byte`
    SILENT = "silent"  # one wait before the status line


class Redirect(StrEnum):
    """Where a download is sent to first."""

    NONE = "none"
    SAME_HOST = "same_host"
    OTHER_HOST = "other_host"
    INWARD = "inward"  # to `redirect_target`, which no client may follow
    LOOP = "loop"  # on the same host, for ever


@with_config(extra="forbid")
@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong, for all media or for one."""

    # What the API host does
    graph_error: GraphCode | None = None
    """Answers with this code instead; rate limits bring their usage headers."""
    graph_error_times: int | None = None
    """Only the first so many calls about a medium fail; None: every one."""
    id_refusal: GraphCode = GraphCode.INVALID_PARAMETER
    """For an ID that is unknown, expired or deleted."""
    number_refusal: GraphCode = GraphCode.INVALID_PARAMETER
    """For the ID of another number; projects have also assumed 200 and 803."""
    app_usage: int | None = None
    """Percent of the call limit in `X-App-Usage` of good answers."""
    regain_minutes: int = 5
    """When access returns after a rate limit."""
    resolve_silent: bool = False
    """Resolving waits for `pause`, or at the medium's gate, before it answers."""
    url: UrlForm = UrlForm.PRESENT
    file_size: SizeForm = SizeForm.STRING
    file_size_error: int = 0
    """Bytes by which `file_size` lies."""
    sha256: HashForm = HashForm.HEX
    mime_type: TypeForm = TypeForm.BARE

    # What a webhook's media object says
    webhook_url: UrlForm = UrlForm.PRESENT
    webhook_sha256: HashForm = HashForm.BASE64
    webhook_mime_type: TypeForm = TypeForm.FULL

    # What the download host answers
    download_error: int | None = None
    """Answers with this HTTP status instead."""
    download_error_times: int | None = None
    """Only the first so many downloads of a medium fail; None: every one."""
    retry_after: int | None = None
    """Seconds in the `Retry-After` of a `download_error`."""
    download_auth: DownloadAuth = DownloadAuth.REQUIRED
    missing_token_status: int = 401
    """Meta only says that "the request will fail"; 404 is the other reading."""
    wrong_token_status: int = 401
    user_agent_status: int | None = 400
    """For no User-Agent, a repeated one, or one that repeats a product; None: any will do."""
    expired_url_status: int = 404
    redirect: Redirect = Redirect.NONE
    redirect_hops: int = 1
    redirect_target: str = "http://169.254.169.254/latest/meta-data/"

    # What a download's body is, and how it travels
    body: Body = Body.MEDIUM
    length_error: int = 0
    """Bytes by which the body is longer (or, negative, shorter) than the medium; its Content-Length agrees with it."""
    content_type: TypeForm = TypeForm.BARE
    content_disposition: bool = False
    range: RangeMode = RangeMode.IGNORED
    chunked: bool = False
    """Sends no Content-Length."""
    transport: Transport = Transport.WHOLE
    at_byte: int | None = None
    """Where the body breaks off or stalls; None: at its half."""
    chunk_size: int = 65_536
    pause: float | None = None
    """Seconds of each wait; None: until the medium's gate lets it pass."""
