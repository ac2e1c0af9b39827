"""Lets requests in at the door of every endpoint: credential, limit and audit in one place."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import Scope

from gateway.audit import Action, Actor, Audit
from gateway.auth import Gatekeeper, Grant, Presented
from gateway.errors import Forbidden, NotFound, Unauthorized
from gateway.forwarded import CertificateFields, Networks, client_certificate, peer_of
from gateway.throttle import toll_of
from storage.record import MediaRecord


class Admission:
    """Verifies the credential of a request, lets it pay, and has the audit told of what was done with it."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        audit: Audit,
        *,
        trusted: Networks | None = None,
        certificates: CertificateFields | None = None,
    ) -> None:
        """Take who decides, who is told, and the fields in which ``trusted`` proxies name a client's certificate."""
        self._gatekeeper = gatekeeper
        self._audit = audit
        self._trusted = trusted or Networks()
        self._certificates = certificates

    @property
    def certificate_fields(self) -> frozenset[bytes]:
        """The fields by which a request may be let in for its certificate."""
        if self._certificates is None:
            return frozenset()
        return frozenset({self._certificates.subject, self._certificates.verified or self._certificates.subject})

    async def reader(
        self,
        scope: Scope,
        message_id: str,
        variant: str,
        *,
        download: bool,
        query: Mapping[str, str],
    ) -> Grant:
        """Let in who may read one variant of a message; see `Gatekeeper.reader`."""
        presented = Presented.of(scope["headers"], certificate=self._certificate(scope))
        try:
            grant = await self._gatekeeper.reader(presented, message_id, variant, download=download, query=query)
        except (Unauthorized, Forbidden) as error:
            self._refused(scope, error, message_id, variant)
            raise
        return _paid(scope, grant)

    async def user(self, request: Request) -> Grant:
        """Let in the backend or a token's holder; see `Gatekeeper.user`."""
        try:
            grant = await self._gatekeeper.user(Presented.of(request.scope["headers"]))
        except (Unauthorized, Forbidden) as error:
            self._refused(request.scope, error, request.path_params.get("message_id"))
            raise
        return _paid(request.scope, grant)

    def host(self, request: Request) -> Grant:
        """Let in the host application's backend; see `Gatekeeper.host`."""
        try:
            grant = self._gatekeeper.host(Presented.of(request.scope["headers"]))
        except (Unauthorized, Forbidden) as error:
            self._refused(request.scope, error, request.path_params.get("message_id"))
            raise
        return _paid(request.scope, grant)

    def check(self, scope: Scope, grant: Grant, record: MediaRecord, *, variant: str | None = None) -> None:
        """Raise NotFound where the message is somebody else's; only the audit is told that it exists, and who tried."""
        if not grant.opens(record):
            self.done(Action.REFUSED, scope, grant, record, variant=variant, status=404)
            raise NotFound

    def may_repeat(self, grant: Grant, record: MediaRecord) -> bool:
        """Whether the same request may be let in again without being looked at, for as long as the grant lasts.

        Not a token, which may be withdrawn with its key, nor what the audit wants to be told of.
        """
        return grant.kind in {"signed-url", "cdn"} and not self._audit.wants(record.workspace_id)

    def done(
        self,
        action: Action,
        scope: Scope,
        grant: Grant,
        record: MediaRecord | None = None,
        *,
        workspace_id: str | None = None,
        variant: str | None = None,
        status: int | None = None,
    ) -> None:
        """Tell the audit what was done with a grant, to a message or to a whole workspace."""
        self._audit.record(
            action,
            Actor(kind=grant.kind, address=toll_of(scope).address, credential=grant.credential),
            workspace_id=record.workspace_id if record is not None else workspace_id,
            message_id=record.message_id if record is not None else None,
            variant=variant,
            status=status,
        )

    def _refused(self, scope: Scope, error: Exception, message_id: str | None, variant: str | None = None) -> None:
        self._audit.record(
            Action.REFUSED,
            Actor(kind="nobody", address=toll_of(scope).address),
            message_id=message_id,
            variant=variant,
            status=401 if isinstance(error, Unauthorized) else 403,
        )

    def _certificate(self, scope: Scope) -> str | None:
        if self._certificates is None:
            return None
        return client_certificate(peer_of(scope), scope["headers"], self._trusted, self._certificates)


def _paid(scope: Scope, grant: Grant) -> Grant:
    """Let the credential pay, instead of the address where it is somebody's own; raises RateExceeded."""
    toll = toll_of(scope)
    match grant.kind:
        case "token":
            toll.charge(f"user:{grant.credential}", names_holder=True)
        case "signed-url":
            toll.charge(f"url:{grant.credential}", names_holder=False)  # anybody may carry it
        case "api-key" | "cdn":
            toll.waive()
    return grant
