"""What arrived at the provider's hosts, for tests to assert on, without any secret in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from urllib.parse import parse_qs

from starlette.types import Message, Scope, Send


class HostName(StrEnum):
    """Which of the provider's hosts."""

    GRAPH = "graph"
    LOOKASIDE = "lookaside"


@dataclass(slots=True, kw_only=True)
class ReceivedRequest:
    """One request; `status` and `sent` follow its answer."""

    at: datetime
    host_name: HostName
    host: str
    """The `Host` header: tells the download host from the one it redirects to."""
    method: str
    path: str
    """Without the query, which holds the hash of a download URL."""
    medium_id: str | None
    hop: int = 0
    """How many redirects led here."""
    authorization: bool
    """Whether any credential came with it."""
    user_agents: tuple[str, ...]
    range: str | None
    status: int | None = None
    """None: no answer yet, or none at all."""
    sent: int = 0
    """Bytes of body handed to the server."""

    def watch(self, send: Send) -> Send:
        """Wrap an ASGI `send` so that the answer is noted."""

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
            else:
                self.sent += len(message.get("body", b""))
            await send(message)

        return noting


def header_values(scope: Scope, name: str) -> Iterator[str]:
    """Go through the values of a header, one per line of it."""
    return (value.decode("latin-1") for key, value in scope["headers"] if key == name.lower().encode())


def first_header(scope: Scope, name: str) -> str | None:
    """Take the first value of a header."""
    return next(header_values(scope, name), None)


def query(scope: Scope, name: str) -> str | None:
    """Take the first value of a query parameter."""
    values: dict[str, list[str]] = parse_qs(scope["query_string"].decode("latin-1"))
    return values[name][0] if name in values else None


def note(scope: Scope, *, at: datetime, host_name: HostName) -> ReceivedRequest:
    """Describe an HTTP request from its ASGI scope."""
    path: str = scope["path"]
    last = path.rstrip("/").rpartition("/")[2]
    hop = query(scope, "hop") or "0"
    return ReceivedRequest(
        at=at,
        host_name=host_name,
        host=first_header(scope, "host") or "",
        method=scope["method"],
        path=path,
        medium_id=query(scope, "mid") or (last if last.isdigit() else None),
        hop=int(hop) if hop.isdecimal() else 0,
        authorization=any(first_header(scope, name) is not None for name in ("authorization", "d360-api-key")),
        user_agents=tuple(header_values(scope, "user-agent")),
        range=first_header(scope, "range"),
    )
