"""The simulator as its users see it: a provider, its two hosts and its webhooks."""

from functools import cached_property

from starlette.types import ASGIApp

from ingest.simulator.graph import graph_app
from ingest.simulator.hosts import Host
from ingest.simulator.lookaside import Lookaside
from ingest.simulator.provider import Provider
from ingest.simulator.traffic import HostName
from ingest.simulator.webhooks import Webhooks


class Simulator(Provider):
    """A provider with its hosts, as two ASGI apps, and with its webhooks.

    The apps also run in process (`httpx.ASGITransport`), where bodies arrive whole and transport faults become a
    `ConnectionResetError`; `serve` gives them real sockets.
    """

    @cached_property
    def graph(self) -> ASGIApp:
        """The API host: resolve, delete and upload, and the control API."""
        return Host(graph_app(self, Lookaside(self)), self, HostName.GRAPH)

    @cached_property
    def lookaside(self) -> ASGIApp:
        """The download host, and the one that it redirects to."""
        return Host(Lookaside(self), self, HostName.LOOKASIDE)

    @cached_property
    def webhooks(self) -> Webhooks:
        """Builds what this provider posts to a callback URL."""
        return Webhooks(self)
