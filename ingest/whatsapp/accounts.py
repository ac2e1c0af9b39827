"""Asks for each medium at its own workspace's account; no two of them share a connection, a memory or a breaker."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import chain

from ingest.whatsapp.breaker import BreakerState
from ingest.whatsapp.budget import BudgetedOrigin
from storage.errors import OriginRefused
from storage.origin import Download, MediaRef


class Accounts:
    """An `Origin` of many: one for each workspace that has an account."""

    def __init__(self, origins: Mapping[str, BudgetedOrigin]) -> None:
        """Take them by workspace ID."""
        self._origins = origins

    @asynccontextmanager
    async def open(self, ref: MediaRef) -> AsyncIterator[Download]:
        """Begin a download; see `Origin.open`.

        Raises:
            OriginRefused: The workspace has no account.
            OriginError: As its own origin.
        """
        origin = self._origins.get(ref.workspace_id)
        if origin is None:
            raise OriginRefused("The workspace has no account at the provider.")
        async with origin.open(ref) as download:
            yield download

    def forget(self, ref: MediaRef) -> None:
        """Ask again for this medium, and for its account, next time; an open breaker stays open."""
        if ref.workspace_id in self._origins:
            self._origins[ref.workspace_id].forget(ref)

    def states(self) -> Mapping[str, BreakerState]:
        """Tell the state of every account's breaker, by workspace ID."""
        return dict(chain.from_iterable(origin.states().items() for origin in self._origins.values()))
