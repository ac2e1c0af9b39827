"""Whose a webhook is: who can have signed it, and on whose phone number each of its events came in."""

import hmac
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ingest.webhook import signature_is_valid
from ingest.workspaces import DEFAULT, Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Gives each event of one webhook to a workspace; a `Route`.

    A number's owner is the only one who gets its events, and only if one of the owner's app secrets has signed them:
    whoever has another workspace's secret cannot write into this one.
    """

    owners: Mapping[str, str]
    """The workspace of each phone number."""
    signers: Collection[str]
    """The workspaces that have the secret which signed the webhook."""
    otherwise: str | None
    """Who gets what names no number that somebody owns; None: nobody."""

    def __call__(self, phone_number_id: str | None) -> str | None:
        """Return the workspace that an event belongs to; None: nobody's who can have signed it."""
        owner = self.owners.get(phone_number_id) if phone_number_id is not None else None
        if owner is None:
            return self.otherwise
        return owner if owner in self.signers else None


class Subscriptions:
    """What the workspaces share with the provider; an empty secret opens nothing."""

    def __init__(self, workspaces: Iterable[Workspace]) -> None:
        self._verify_tokens: dict[str, bytes] = {}
        self._secrets: dict[str, list[str]] = {}
        self._holders: dict[str, set[str]] = {}
        self._owners: dict[str, str] = {}
        for workspace in workspaces:
            self._verify_tokens[workspace.id] = workspace.verify_token.get_secret_value().encode()
            self._secrets[workspace.id] = [secret.get_secret_value() for secret in workspace.app_secrets]
            self._owners |= dict.fromkeys(workspace.phone_number_ids, workspace.id)
            for secret in self._secrets[workspace.id]:
                self._holders.setdefault(secret, set()).add(workspace.id)

    def __contains__(self, workspace_id: str) -> bool:
        return workspace_id in self._secrets

    def is_verified(self, token: str, workspace_id: str | None) -> bool:
        """Tell whether a verify token is the workspace's or, for the address that all share (None), anybody's."""
        known = self._verify_tokens.values() if workspace_id is None else [self._verify_tokens[workspace_id]]
        return any(hmac.compare_digest(token.encode(), each) for each in known if each)

    def routing(self, body: bytes, signature: str, workspace_id: str | None) -> Routing | None:
        """Tell who can have signed a body, and where its events go; None: the signature is wrong.

        At a workspace's own address only its secrets count, and it gets what names no number of anybody's. At the one
        that all share (None), that is for the default workspace or, if this one cannot have signed, for the only one
        that can.
        """
        candidates = self._holders if workspace_id is None else self._secrets[workspace_id]
        right = [secret for secret in candidates if signature_is_valid(body, signature, [secret])]
        signers = {holder for secret in right for holder in self._holders[secret]}
        if not signers:
            return None
        return Routing(owners=self._owners, signers=signers, otherwise=workspace_id or _heir(signers))


def _heir(signers: Collection[str]) -> str | None:
    if DEFAULT in signers:
        return DEFAULT
    return next(iter(signers)) if len(signers) == 1 else None
