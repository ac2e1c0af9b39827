"""The description of the interface: every route and method is in it, and nothing else."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.app import routes
from gateway.errors import TABLE, problem
from gateway.metrics import Metrics
from gateway.openapi import document
from gateway.services import open_services
from gateway.urls import MAX_URLS
from gateway.variants import AUTO, VARIANTS
from storage.errors import MediaError
from tests.databases import Databases
from tests.gateway.scene import Scene
from tests.running import settings_for

IMPLIED = {"head", "options"}  # HEAD goes with GET, OPTIONS with everything


async def test_it_describes_exactly_the_routes_that_there_are(tmp_path: Path, sqlite_databases: Databases) -> None:
    sqlite_databases.new(tmp_path)
    registry = CollectorRegistry()
    async with open_services(settings_for(tmp_path), Metrics(registry), registry) as services:
        there_are = {(route.path, method.lower()) for route in routes(services) for method in route.methods}
    described = {
        (path, method) for path, item in document()["paths"].items() for method in item if method != "parameters"
    }
    assert {each for each in described if each[1] not in IMPLIED} == {
        each for each in there_are if each[1] not in IMPLIED
    }
    assert {path for path, _ in described} == {path for path, _ in there_are}


async def test_it_is_served(scene: Scene) -> None:
    response = await scene.nobody.get("/openapi.json")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == document()
    assert re.fullmatch(r"3\.1\.\d+", response.json()["openapi"])


def test_every_reference_leads_somewhere_and_every_schema_is_referred_to() -> None:
    described = document()
    referred = set(re.findall(r"#/components/schemas/(\w+)", str(described)))
    assert referred == set(described["components"]["schemas"])


def test_every_parameter_of_a_path_is_described() -> None:
    for path, item in document()["paths"].items():
        named = {each["name"] for each in item.get("parameters", []) if each["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))


def test_every_operation_has_a_summary_an_answer_and_the_problem_document() -> None:
    for operation in operations():
        assert operation["summary"].endswith(".")
        assert any(status.startswith("2") for status in operation["responses"])
        assert "application/problem+json" in operation["responses"]["default"]["content"]
        schemes = {name for each in operation["security"] for name in each}
        assert schemes <= set(document()["components"]["securitySchemes"])


async def test_what_is_described_of_a_record_is_what_is_shown(scene: Scene) -> None:
    message = await scene.store(await scene.message())
    shown = (await scene.client.get(f"{message.path}/info")).json()
    described = document()["components"]["schemas"]["Info"]["properties"]
    assert set(shown) == set(described)
    for name, value in shown.items():
        types = described[name].get("type")
        assert value is not None or "null" in types


def test_every_variant_can_be_asked_for_and_is_described_where_it_is_listed() -> None:
    (asked,) = (
        parameter["schema"]["enum"]
        for parameter in document()["paths"]["/media/messages/{message_id}"]["get"]["parameters"]
        if parameter["name"] == "variant"
    )
    listed = document()["components"]["schemas"]["Info"]["properties"]["variants"]["propertyNames"]["enum"]
    assert set(asked) == VARIANTS
    assert set(listed) == VARIANTS - {AUTO}


def test_as_many_urls_are_described_as_are_minted_at_once() -> None:
    assert document()["components"]["schemas"]["UrlOrders"]["properties"]["urls"]["maxItems"] == MAX_URLS


@pytest.mark.parametrize("kind", [kind for kind in TABLE if kind is not MediaError])
def test_every_problem_is_an_example_of_one(kind: type[Exception]) -> None:
    body = json.loads(bytes(problem(kind(), "").body))
    assert body["type"] in document()["components"]["schemas"]["Problem"]["properties"]["type"]["examples"]


def operations() -> list[dict[str, Any]]:
    """Return all operations."""
    paths = document()["paths"].values()
    return [operation for item in paths for method, operation in item.items() if method != "parameters"]
