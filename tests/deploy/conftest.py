"""What the code offers by name, for the tests that hold documents against it."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from gateway.app import routes
from gateway.cdn import CdnSettings
from gateway.demo.chat import Chat
from gateway.metrics import Metrics
from gateway.services import open_services
from gateway.settings import GatewaySettings
from ingest.processing.settings import ProcessingSettings
from ingest.settings import IngestSettings
from ingest.simulator import Simulator
from storage.settings import StorageSettings
from tests.databases import Databases
from tests.deploy.names import ROOT, Interface
from tests.running import settings_for

SETTINGS = (GatewaySettings, CdnSettings, IngestSettings, ProcessingSettings, StorageSettings)
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
BY_SCRAPE = frozenset({"job", "instance"})  # labels that Prometheus itself adds


@pytest.fixture(scope="session")
def interface(sqlite_databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Interface:
    """The names of the gateway as it is built for real."""
    path = tmp_path_factory.mktemp("interface")
    sqlite_databases.new(path)

    async def build() -> Interface:
        registry = CollectorRegistry()
        metrics = Metrics(registry)
        async with open_services(settings_for(path), metrics, registry) as services:
            exposed = list(_exposed(metrics, await services.operations._snapshot()))
            return Interface(
                families={name + ("_total" if kind == "counter" else ""): labels for name, kind, labels in exposed},
                samples=dict(_samples(exposed)),
                variables=frozenset(str(field.alias) for each in SETTINGS for field in each.model_fields.values()),
                routes=[*routes(services), *Chat(services, Simulator(access_token=""), {}).routes()],
                targets=frozenset(_targets((ROOT / "Makefile").read_text())),
                sources="\n".join(_sources()).lower(),
            )

    return asyncio.run(build())


def _exposed(metrics: Metrics, snapshot: Iterable[Metric]) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield name, type and labels of every metric, of the process and of the database."""
    for collector in (each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)):
        for family in collector.describe():
            yield family.name, family.type, frozenset(collector._labelnames)
    for family in snapshot:
        yield family.name, family.type, frozenset(cast("Any", family)._labelnames)


def _samples(exposed: Iterable[tuple[str, str, frozenset[str]]]) -> Iterator[tuple[str, frozenset[str]]]:
    for name, kind, labels in exposed:
        for suffix in SUFFIXES[kind]:
            yield name + suffix, labels | BY_SCRAPE | ({"le"} if suffix == "_bucket" else set())


def _targets(makefile: str) -> Iterator[str]:
    for line in makefile.splitlines():
        name, colon, _ = line.partition(":")
        if colon and name.isalpha():
            yield name


def _sources() -> Iterator[str]:
    for package in ("gateway", "ingest", "storage"):
        for path in (ROOT / package).rglob("*.py"):
            yield path.read_text()
