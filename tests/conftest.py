"""Fixtures that every tier shares: real databases, the provider's simulator, a gateway on a real server."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import structlog
from hypothesis import HealthCheck, settings
from moto.server import ThreadedMotoServer

from gateway.app import create_app
from gateway.protocol import LeanProtocol
from gateway.signing import Signer
from ingest.simulator import Endpoints, Simulator, serve
from storage.database import Database, open_engine
from tests.databases import Databases, databases
from tests.running import ACCESS_TOKEN, API_KEY, NO_TLS, PATIENCE, SIGNING_KEY, serving, settings_for

# A busy machine is no fault: no example has a deadline, and none is slow to make.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Let no test log as an application of an earlier one was configured to."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """AWS on loopback: moto's own HTTP server."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def sqlite_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Fresh SQLite databases."""
    with databases("sqlite", tmp_path_factory.mktemp("sqlite")) as provided:
        yield provided


@pytest.fixture(scope="session")
def postgresql_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Fresh databases on one real PostgreSQL server."""
    with databases("postgresql", tmp_path_factory.mktemp("postgresql")) as provided:
        yield provided


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh, migrated database of each kind."""
    provided: Databases = request.getfixturevalue(f"{request.param}_databases")
    return provided.new(tmp_path / "database")


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Database]:
    """An open engine on a fresh database of each kind."""
    opened = open_engine(database_url)
    yield opened
    await opened.dispose()


@dataclass(frozen=True, slots=True)
class Provider:
    """The simulator, and where its two hosts listen."""

    simulator: Simulator
    endpoints: Endpoints

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a gateway that uses it."""
        return {
            "WHATSAPP_GRAPH_URL": self.endpoints.graph_url,
            "WHATSAPP_DOWNLOAD_HOSTS": f"{self.endpoints.lookaside_url},{self.endpoints.elsewhere_url}",
        }


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """The provider's simulator on two real hosts."""
    simulator = Simulator(access_token=ACCESS_TOKEN)
    async with serve(simulator) as endpoints:
        yield Provider(simulator, endpoints)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that answers on a real port, and a client with the host application's key."""

    url: str
    client: httpx.AsyncClient
    path: Path
    signer: Signer


StartGateway = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture
def start_gateway(tmp_path: Path, sqlite_databases: Databases) -> StartGateway:
    """Start a gateway without a worker on a fresh SQLite database; keyword arguments are environment variables."""

    @asynccontextmanager
    async def start(**variables: str) -> AsyncIterator[Gateway]:
        path = tmp_path / "media"
        if "MEDIA_DATABASE_URL" not in variables and not (path / "gateway.db").exists():
            sqlite_databases.new(path)
        async with (
            serving(create_app(settings_for(path, **variables)), http=LeanProtocol) as url,
            httpx.AsyncClient(base_url=url, headers={"X-API-Key": API_KEY}, timeout=PATIENCE, verify=NO_TLS) as client,
        ):
            yield Gateway(url, client, path, Signer({"k1": SIGNING_KEY.encode()}, public_url=url))

    return start
