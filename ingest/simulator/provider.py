"""What the simulated provider knows and remembers, whatever host is asked."""

import hmac
import itertools
import shutil
import tempfile
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from starlette.types import Scope

from ingest.simulator.content import BytesContent, Content, FileContent, sha256
from ingest.simulator.fault_plan import FaultPlan
from ingest.simulator.faults import Faults
from ingest.simulator.links import ATTACHMENTS, LinkSigner
from ingest.simulator.media import INBOUND_LIFETIME, URL_LIFETIME, Kind, Medium, kind_of
from ingest.simulator.traffic import HostName, ReceivedRequest, first_header

REQUEST_LOG_LENGTH = 10_000


class Profile(StrEnum):
    """Whose API is simulated."""

    META = "meta"
    DIALOG360 = "360dialog"  # its own API key header, no version in the path, attachments on the same host


class Outage(StrEnum):
    """How both hosts behave while the provider is off."""

    UNAVAILABLE = "unavailable"  # 503
    DISCONNECT = "disconnect"  # the connection closes without an answer


class Credential(StrEnum):
    """What became of a request's credentials."""

    VALID = "valid"
    WRONG = "wrong"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBlock:
    """360dialog's throttle: so many errors within a time, and `GET /{id}` is blocked for a while.

    Older pages of its documentation say 5 errors in 1 hour and a block of 1 hour. The status is our guess.
    """

    errors: int = 20
    within: timedelta = timedelta(minutes=60)
    lasts: timedelta = timedelta(minutes=30)
    status: int = 429


@dataclass(frozen=True, slots=True, kw_only=True)
class BusinessNumber:
    """A business phone number and the account that it belongs to."""

    phone_number_id: str = "200000000000002"
    display_phone_number: str = "15550001111"
    waba_id: str = "100000000000001"


class Provider:
    """The catalogue, the faults, the clock and the log that the provider's hosts share.

    Args:
        access_token: The only credential that is accepted; the API key of the 360dialog profile.
        clock: Tells the time in UTC; `advance` jumps ahead of it.
        profile: Whose API is simulated.
        error_block: The throttle of the 360dialog profile.
        number: Where media arrive unless they say otherwise.
    """

    def __init__(
        self,
        *,
        access_token: str = "simulator-access-token",  # noqa: S107 - opens nothing but this simulator
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        profile: Profile = Profile.META,
        error_block: ErrorBlock | None = None,
        number: BusinessNumber | None = None,
    ) -> None:
        self.access_token = access_token
        self.profile = profile
        self.error_block = error_block or ErrorBlock()
        self.number = number or BusinessNumber()
        self.graph_url = "https://graph.facebook.com"
        self.lookaside_url = "https://lookaside.fbsbx.com"
        self.elsewhere_url = "https://scontent.xx.fbcdn.net"
        """Where `Redirect.OTHER_HOST` leads: a third name, answered by the download host's app."""
        self.online = True
        self.outage = Outage.UNAVAILABLE
        self.media: dict[str, Medium] = {}
        self.requests: deque[ReceivedRequest] = deque(maxlen=REQUEST_LOG_LENGTH)
        """The latest requests, oldest first."""
        self.plan = FaultPlan()
        self.links = LinkSigner()
        self._clock = clock
        self._ahead = timedelta()
        self._ids = itertools.count(1_003_383_421_387_256)
        self._uploads: Path | None = None

    # Time

    def now(self) -> datetime:
        """Tell the provider's time, in UTC."""
        return self._clock() + self._ahead

    def advance(self, by: timedelta) -> None:
        """Jump ahead of the clock."""
        self._ahead += by

    # Media

    def add(
        self,
        content: bytes | Path | Content,
        mime_type: str,
        *,
        filename: str | None = None,
        voice: bool = False,
        animated: bool = False,
        kind: Kind | None = None,
        media_id: str | None = None,
        phone_number_id: str | None = None,
        lifetime: timedelta = INBOUND_LIFETIME,
        age: timedelta = timedelta(),
        faults: Faults | None = None,
    ) -> Medium:
        """Put a medium into the catalogue.

        It reads the content once, to hash it: call it in a thread (`asyncio.to_thread`) for large ones.

        Args:
            content: Bytes, a file, or any other `Content`, such as `SyntheticContent`.
            mime_type: With its parameters, as WhatsApp would announce it.
            filename: Makes it a document.
            voice: Whether an audio was recorded in the client.
            animated: Whether a sticker moves.
            kind: The message type, where it does not follow from the MIME type.
            media_id: A numeric string; None: the next free one.
            phone_number_id: The business number that received it.
            lifetime: How long its ID resolves.
            age: How long ago it arrived.
            faults: What goes wrong with this medium, instead of `faults`.
        """
        source = _as_content(content)
        medium = Medium(
            id=media_id or str(next(self._ids)),
            content=source,
            sha256=sha256(source),
            mime_type=mime_type,
            kind=kind or kind_of(mime_type, filename),
            phone_number_id=phone_number_id or self.number.phone_number_id,
            created_at=self.now() - age,
            lifetime=lifetime,
            filename=filename,
            voice=voice,
            animated=animated,
        )
        self.media[medium.id] = medium
        if faults is not None:
            self.plan.set(medium.id, faults)
        return medium

    def find(self, media_id: str) -> Medium | None:
        """Find a medium whose ID still lives."""
        medium = self.media.get(media_id)
        return medium if medium is not None and self.now() < medium.expires_at else None

    def delete(self, media_id: str) -> None:
        """Forget a medium."""
        del self.media[media_id]
        self.plan.set(media_id, None)

    def upload_folder(self) -> Path:
        """Name the folder that keeps uploads as long as this provider lives; makes it at first, so it blocks."""
        if self._uploads is None:
            self._uploads = Path(tempfile.mkdtemp(prefix="simulator-"))
            weakref.finalize(self, shutil.rmtree, self._uploads, ignore_errors=True)
        return self._uploads

    def media_url(self, medium: Medium, *, expired: bool = False) -> str:
        """Build a download URL that lives for five minutes, or has just died."""
        return self.links.link(self.lookaside_url, medium.id, self.now() + (timedelta() if expired else URL_LIFETIME))

    # Credentials

    def credential(self, scope: Scope) -> Credential:
        """Judge the credentials of a request by this profile's header."""
        header, prefix = ("d360-api-key", "") if self.profile is Profile.DIALOG360 else ("authorization", "Bearer ")
        given = first_header(scope, header)
        if given is None:
            return Credential.MISSING
        matches = hmac.compare_digest(given.encode(), (prefix + self.access_token).encode())
        return Credential.VALID if matches else Credential.WRONG

    # Faults

    @property
    def faults(self) -> Faults:
        """What goes wrong with every medium that has no faults of its own."""
        return self.plan.default

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.plan.default = faults

    def set_faults(self, media_id: str, faults: Faults | None) -> None:
        """Set what goes wrong with one medium; None: what goes wrong with all others."""
        self.plan.set(media_id, faults)

    # What tests assert

    def resolves(self, media_id: str) -> int:
        """Count the resolve calls in the log, whatever their answer was."""
        return sum(
            entry.host_name is HostName.GRAPH and entry.method == "GET" and entry.path.endswith(f"/{media_id}")
            for entry in self.requests
        )

    def downloads(self, media_id: str) -> int:
        """Count the downloads in the log whose body was begun, to its end or not."""
        return sum(
            entry.path == ATTACHMENTS and entry.medium_id == media_id and entry.status in {200, 206}
            for entry in self.requests
        )


def _as_content(content: bytes | Path | Content) -> Content:
    match content:
        case bytes():
            return BytesContent(content)
        case Path():
            return FileContent.of(content)
        case _:
            return content
