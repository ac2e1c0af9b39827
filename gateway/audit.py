"""Who read, changed or was refused what: a stream of its own in the log, for the workspaces that want it."""

import logging
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Literal

import structlog

_LABEL = 16  # hex digits of a digest
_KEY_LABEL = 8  # hex digits, of an API key: its holder can compute them with one command
_LONGEST = 255  # characters of what a client has named


class Action(StrEnum):
    """What was done, or tried."""

    READ = "read"
    LIST = "list"
    MINT = "mint"
    REGISTER = "register"
    RETRY = "retry"
    DELETE = "delete"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who did it, by which kind of credential, from where."""

    kind: Literal["api-key", "token", "signed-url", "cdn", "nobody"]
    address: str
    credential: str = field(default="", repr=False)
    """An API key, a token's subject or a URL's signature: only its digest is written."""

    @property
    def label(self) -> str:
        """The first hex digits of the credential's SHA-256, empty where there is none."""
        if not self.credential:
            return ""
        digest = sha256(self.credential.encode("utf-8", "surrogateescape")).hexdigest()
        return digest[: _KEY_LABEL if self.kind == "api-key" else _LABEL]


class Audit:
    """Writes one line for each action on one of the workspaces that are audited."""

    def __init__(self, workspaces: frozenset[str] | Literal["*"] = frozenset()) -> None:
        """Take the workspaces' ids, or ``*`` for all of them."""
        self._workspaces = workspaces
        # Its lines do not depend on the level of the log.
        self._log = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET))

    def wants(self, workspace_id: str | None) -> bool:
        """Whether actions on a workspace are audited; None is one that is not known, as where somebody is refused."""
        if self._workspaces == "*" or workspace_id is None:
            return bool(self._workspaces)
        return workspace_id in self._workspaces

    def record(
        self,
        action: Action,
        actor: Actor,
        *,
        workspace_id: str | None = None,
        message_id: str | None = None,
        variant: str | None = None,
        status: int | None = None,
    ) -> None:
        """Write who did what; the id of the request comes from the log's context."""
        if not self.wants(workspace_id):
            return
        what = {"workspace_id": workspace_id, "message_id": message_id, "variant": variant}
        self._log.info(
            action.value,
            logger="audit",
            actor=actor.kind,
            credential=actor.label,
            address=actor.address,
            status=status,
            **{name: value[:_LONGEST] for name, value in what.items() if value is not None},
        )
