"""Every name in the documents is one that the code has: metrics, variables, commands, routes, files."""

import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from gateway import cloudflare
from gateway.errors import TABLE, problem
from gateway.messages import Registration
from gateway.signing import Signer
from gateway.variants import VARIANTS
from ingest.queue import QUEUES
from storage.errors import MediaError
from tests.conftest import StartGateway
from tests.deploy.conftest import SETTINGS
from tests.deploy.names import (
    DOCUMENTS,
    ROOT,
    Interface,
    code_in,
    defines,
    links_in,
    named_tests,
    spans,
    table_after,
)

OPERATORS = (ROOT / "docs" / "operators.md").read_text()
SECURITY = (ROOT / "docs" / "security.md").read_text()
INTEGRATORS = (ROOT / "docs" / "integrators.md").read_text()


BEFORE_ROUTES = {(408, "request-timeout"), (429, "too-many-requests"), (431, "header-fields-too-large")}
"""The problems that are answered before any route is found: see `gateway.throttle`."""


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


# The checker itself ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("`media_gateway_request_total`", "media_gateway_request_total"),
        ("set MEDIA_STORAGE_BACKENDS", "MEDIA_STORAGE_BACKENDS"),
        ("`WHATSAPP_TOKEN`", "WHATSAPP_TOKEN"),
        ("`X-Media-Sauce`", "X-Media-Sauce"),
        ("`media-gateway srve`", "media-gateway srve"),
        ("```console\n$ media-gateway serve --wrkers 2\n```", "media-gateway serve --wrkers 2"),
        ("```sh\n.venv/bin/media-gateway jobs \\\n  lst\n```", "media-gateway jobs    lst"),
        ("`media-gateway sign`", "media-gateway sign"),
        ("`--no-wrker`", "--no-wrker"),
        ("`make tests`", "tests"),
        ("`GET /media/messages/{id}/inf`", "GET /media/messages/{id}/inf"),
        ("`POST /media/messages/{id}/info`", "POST /media/messages/{id}/info"),
        ("`/helthz`", "/helthz"),
        (
            "```sh\ncurl -X PATCH x\ncurl -X POST https://media.example.com/media/messages/8c1f\n```",
            "POST /media/messages/8c1f",
        ),
        ("```sh\ncurl http://127.0.0.1:8080/metric\n```", "/metric"),
    ],
)
def test_a_misspelt_name_is_found(text: str, name: str, interface: Interface) -> None:
    assert interface.unknown(text, markdown=True) == [name]


def test_names_that_exist_are_not_complained_about(interface: Interface) -> None:
    text = (
        "`media_gateway_requests_total` `MEDIA_API_KEYS` `X-Request-ID` `make test` `GET /media/messages/{id}/info`\n"
        "`HEAD /media/messages/{id}` `media-gateway jobs list --dead --json` `--workers 2` `/tmp` `/demo/chat`\n"
    )
    assert interface.unknown(text, markdown=True) == []


@pytest.mark.parametrize(
    "name", ["test_names.py::test_a_misspelt_name", "test_name.py::test_x", "names.py::Interface::answer"]
)
def test_a_test_that_is_not_there_is_found(name: str) -> None:
    ((file, test),) = named_tests(f"shown by `deploy/{name}`")
    assert not defines(file, test)


# The documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_every_name_in_a_document_exists(document: Path, interface: Interface) -> None:
    assert interface.unknown(document.read_text(), markdown=document.suffix == ".md") == []


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.suffix == ".md"], ids=_id)
def test_every_link_leads_to_a_file(document: Path) -> None:
    assert [target for target in links_in(document.read_text()) if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.suffix == ".md"], ids=_id)
def test_every_test_that_is_named_exists(document: Path) -> None:
    assert [f"{file}::{name}" for file, name in named_tests(document.read_text()) if not defines(file, name)] == []


def test_every_threat_has_a_test() -> None:
    threats = table_after(SECURITY, "## Threat model")
    assert [who for who, _, shown in threats if not list(named_tests(shown))] == []


def test_operators_find_every_variable_with_its_default() -> None:
    fields = {str(field.alias): field.default for each in SETTINGS for field in each.model_fields.values()}
    documented = {spans(row[0])[0]: "".join(spans(row[1])) for row in table_after(OPERATORS, "## Configuration")}
    assert documented == {name: _shown(default) for name, default in fields.items()}


def _shown(default: Any) -> str:
    if default is None or default is PydanticUndefined:
        return ""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, tuple):
        return ",".join(f"{each:g}" for each in default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_operators_find_every_metric_with_its_labels(interface: Interface) -> None:
    documented = {spans(row[0])[0]: frozenset(spans(row[2])) for row in table_after(OPERATORS, "## Metrics")}
    assert documented == dict(interface.families)


def test_integrators_find_every_problem() -> None:
    documented = {(int(row[0]), spans(row[1])[0]) for row in table_after(INTEGRATORS, "## When it fails")}
    errors = [kind() for kind in TABLE if kind is not MediaError]
    assert documented == {_problem(error) for error in (*errors, RuntimeError())} | BEFORE_ROUTES


def _problem(error: Exception) -> tuple[int, str]:
    answer = problem(error, "")
    body: dict[str, Any] = json.loads(bytes(answer.body))
    return answer.status_code, body["type"]


def test_integrators_find_every_field_of_a_registration() -> None:
    documented = {name for row in table_after(INTEGRATORS, "**By registration.**") for name in spans(row[0])}
    assert documented == set(Registration.model_fields)


async def test_integrators_find_every_field_of_info(start_gateway: StartGateway) -> None:
    documented = {name for row in table_after(INTEGRATORS, "`info` says") for name in spans(row[0])}
    async with start_gateway() as gateway:
        await gateway.client.put("/media/messages/m1", json={"provider_media_id": "1", "ingest": False})
        info = (await gateway.client.get("/media/messages/m1/info")).json()
    assert documented == set(info)


def test_integrators_find_every_variant() -> None:
    assert {spans(row[0])[0] for row in table_after(INTEGRATORS, "## Variants")} == VARIANTS


def test_operators_find_every_queue() -> None:
    assert {spans(row[0])[0] for row in table_after(OPERATORS, "## Jobs and dead letters")} == set(QUEUES)


@pytest.mark.parametrize("variant", ["original", "thumbnail"])
def test_the_example_signs_as_the_gateway_does(variant: str) -> None:
    example = INTEGRATORS.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102 it is our own documentation
    url = urlsplit(
        names["signed_url"]("https://media.example.com", "k1", "secret", "wamid.a/b==", variant, download=True)
    )
    query = dict(parse_qsl(url.query))
    signer = Signer({"k1": b"secret"}, public_url="", clock=time.time)
    assert url.path == "/media/messages/wamid.a%2Fb%3D%3D"
    assert query["variant"] == variant
    assert signer.check("wamid.a/b==", variant, download=True, query=query)


def test_the_rule_for_cloudflare_is_the_one_that_its_signer_is_checked_against() -> None:
    rule = re.compile(r"http\.host eq .*?^ *\)$", re.DOTALL | re.MULTILINE)
    guide, module = (rule.search(text or "") for text in ((ROOT / "docs" / "cdn.md").read_text(), cloudflare.__doc__))
    assert guide is not None
    assert module is not None
    assert guide[0].split() == module[0].split()


def test_the_readme_is_short_and_names_both_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 120
    assert {"$ make run", "$ make test"} <= set(code_in(readme))
