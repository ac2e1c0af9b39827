"""What it is to purge a CDN: the contract, its errors, and the names of media that purgers and answers share.

::

    MediaError
    └── PurgeError             the CDN did not take the purge
        ├── PurgeRefused       it refuses our credentials, or the request itself
        ├── PurgeThrottled     it takes no more purges for now
        └── PurgeFailed        it was not reached, stumbled, or made no sense
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import quote

from storage.errors import MediaError
from storage.record import MediaRecord

REQUEST_TIMEOUT: Final = 30.0  # seconds, for one whole request
THROTTLED_RETRY_AFTER: Final = 60.0  # seconds; an invalidation takes a minute or two, five requests refill in one
MAX_RETRY_AFTER: Final = 3600.0  # seconds

_PLAIN_NAME: Final = re.compile(r"[0-9a-z._:-]{1,64}")
_DIGITS: Final = re.compile(r"[0-9]{1,9}")
_CLIENT_ERRORS: Final = range(400, 500)


class PurgeError(MediaError):
    """The CDN did not take the purge."""

    code = "cdn-unavailable"


class PurgeRefused(PurgeError):
    """The CDN refuses the purge."""

    code = "cdn-refused"
    permanent = True


class PurgeThrottled(PurgeError):
    """The CDN takes no more purges for now."""

    code = "cdn-busy"


class PurgeFailed(PurgeError):
    """The CDN could not be asked to purge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeItem:
    """One deletion; the same in every attempt to purge it."""

    message_id: str
    deleted_at: datetime
    """Tells this deletion from an earlier one of the same message, which CloudFront would take it for."""

    @property
    def path(self) -> str:
        """The path of what is to be purged: it, with every query, and everything below it."""
        return media_path(self.message_id)

    @property
    def tag(self) -> str:
        """The tag that all answers about the message carry, and no others."""
        return _tag("m", self.message_id)


class Purger(Protocol):
    """A CDN that can be told to forget."""

    @property
    def batch_size(self) -> int:
        """How many deletions fit into one request."""
        ...

    async def purge(self, batch: Sequence[PurgeItem]) -> None:
        """Have the CDN forget all media of ``batch``; may be called again after a failure or a cancellation.

        Raises:
            PurgeError: It may not have been told of all of them.
        """
        ...


def media_path(message_id: str) -> str:
    """Return the path of a message's medium, encoded as in every URL that the gateway mints."""
    return f"/media/messages/{path_segment(message_id)}"


def path_segment(message_id: str) -> str:
    """Return a message's id as one segment of a path; dots alone too, which clients take for steps in it."""
    return quote(message_id, safe="") if message_id.strip(".") else message_id.replace(".", "%2E")


def tags_for(record: MediaRecord) -> str:
    """Return the ``Cache-Tag`` of answers about a message: ``m-`` message, ``w-`` workspace, ``c-`` conversation.

    At most three tags, of at most 67 bytes each. A name that is not short, lower-case ASCII is written as ``~`` and its
    SHA-256: CDNs ignore the case of tags, and take neither spaces nor commas in them.
    """
    names = [("m", record.message_id), ("w", record.workspace_id), ("c", record.conversation_id)]
    return ",".join(_tag(kind, name) for kind, name in names if name)


def _tag(kind: str, name: str) -> str:
    return f"{kind}-{name}" if _PLAIN_NAME.fullmatch(name) else f"{kind}-~{sha256(name.encode()).hexdigest()}"


def refusal(status: int, facts: str, retry_after: str | None, *, throttled: bool = False) -> PurgeError:
    """Return what a CDN's answer means.

    Args:
        status: The HTTP status.
        facts: What its support would ask for, and nothing that could be secret.
        retry_after: The header, as it came; a date is not understood, as neither CDN sends one.
        throttled: The CDN says so in another way than by status 429.
    """
    wait = min(float(retry_after), MAX_RETRY_AFTER) if retry_after and _DIGITS.fullmatch(retry_after) else None
    if throttled or status == HTTPStatus.TOO_MANY_REQUESTS:
        return PurgeThrottled(
            f"The CDN takes no more purges for now ({facts}).", retry_after=wait or THROTTLED_RETRY_AFTER
        )
    if status in _CLIENT_ERRORS and status != HTTPStatus.REQUEST_TIMEOUT:
        return PurgeRefused(f"The CDN refuses the purge ({facts}).")
    return PurgeFailed(f"The CDN could not be asked to purge ({facts}).", retry_after=wait)


def chunks(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield the items in order, at most ``size`` at a time."""
    ordered = sorted(items)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]
