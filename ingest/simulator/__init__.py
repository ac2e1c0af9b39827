"""A simulation of WhatsApp's Cloud API with every fault that is known of it, for tests and for the demo.

It imports nothing else of this project. How to reach what the facts about the provider list:

====================  =================================================================================
token                 none or wrong: 401/190; `graph_error=GraphCode.PERMISSION_DENIED` 403/10; on the
                      download host `missing_token_status`, `wrong_token_status`, `download_auth`
state of an ID        unknown, `advance`, another `phone_number_id`, DELETE: 400/100/33, or `id_refusal`,
                      `number_refusal`
`file_size`           `file_size`, `file_size_error`
`sha256`              `sha256`, `webhook_sha256`; other bytes than it says: `body=Body.CORRUPT`
`mime_type`           `mime_type`, `webhook_mime_type`, `content_type`
webhook `url`         `webhook_url`; in a resolve answer: `url`
URL older than 5 min  `advance` past it, `expired_url_status`
User-Agent            `user_agent_status`
Range                 `range`
transport             `chunked`; `transport` with `at_byte`, `chunk_size`, `pause` or `Medium.gate`;
                      `resolve_silent`; `download_error` with `download_error_times` and `retry_after`;
                      `redirect`; `body`; `length_error`; `online` and `outage`
rate                  `graph_error` of `RATE_LIMITS`, `app_usage`; `Profile.DIALOG360` with `ErrorBlock`
webhook delivery      `Simulator.webhooks`, `batch`, `encode`, `WebhookSender`
size                  `SyntheticContent`; above 100 MB `Webhooks.too_large`
clock                 `Simulator(clock=...)`, `advance`
====================  =================================================================================
"""

from ingest.simulator.content import BytesContent, Content, FileContent, SyntheticContent
from ingest.simulator.faults import (
    Body,
    DownloadAuth,
    Faults,
    HashForm,
    RangeMode,
    Redirect,
    SizeForm,
    Transport,
    TypeForm,
    UrlForm,
)
from ingest.simulator.gate import Gate
from ingest.simulator.graph_errors import RATE_LIMITS, GraphCode
from ingest.simulator.media import (
    INBOUND_LIFETIME,
    MAX_BYTES,
    NO_STORAGE_LIFETIME,
    UPLOAD_LIFETIME,
    URL_LIFETIME,
    Kind,
    Medium,
)
from ingest.simulator.provider import BusinessNumber, ErrorBlock, Outage, Profile
from ingest.simulator.sender import SIGNATURE_HEADER, Signature, WebhookSender, sign
from ingest.simulator.server import Endpoints, serve
from ingest.simulator.simulator import Simulator
from ingest.simulator.traffic import HostName, ReceivedRequest
from ingest.simulator.webhooks import ANA, NO_PHONE_NUMBER, Contact, Webhooks, batch, encode, error, new_wamid

__all__ = [
    "ANA",
    "INBOUND_LIFETIME",
    "MAX_BYTES",
    "NO_PHONE_NUMBER",
    "NO_STORAGE_LIFETIME",
    "RATE_LIMITS",
    "SIGNATURE_HEADER",
    "UPLOAD_LIFETIME",
    "URL_LIFETIME",
    "Body",
    "BusinessNumber",
    "BytesContent",
    "Contact",
    "Content",
    "DownloadAuth",
    "Endpoints",
    "ErrorBlock",
    "Faults",
    "FileContent",
    "Gate",
    "GraphCode",
    "HashForm",
    "HostName",
    "Kind",
    "Medium",
    "Outage",
    "Profile",
    "RangeMode",
    "ReceivedRequest",
    "Redirect",
    "Signature",
    "Simulator",
    "SizeForm",
    "SyntheticContent",
    "Transport",
    "TypeForm",
    "UrlForm",
    "WebhookSender",
    "Webhooks",
    "batch",
    "encode",
    "error",
    "new_wamid",
    "serve",
    "sign",
]
