"""The container files fit each other and the code: commands, environment, ports, volumes, folders."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import Settings
from tests.deploy.names import ROOT, Interface, parses

DEPLOY = ROOT / "deploy"
GRAFANA = ROOT / "grafana"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("gateway", "worker")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PORTS = {"postgres": 5432, "nginx": 8081, "prometheus": 9090, "grafana": 3000}  # of images that are not ours
_VARIABLE = re.compile(r"\$\{(\w+)(?::[?-]([^}]*))?\}")
_EXAMPLE = re.compile(r"^#?([A-Z0-9_]+)=(.*)$", re.MULTILINE)


def _filled_in(backend: dict[str, str]) -> dict[str, str]:
    """Return what deploy/.env says after somebody has filled it in."""
    return {name: "secret" for name, _ in _EXAMPLE.findall(_uncommented())} | {"MEDIA_SIGNING_KEYS": "k1:s"} | backend


def _uncommented() -> str:
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def _environment(service: str, env: dict[str, str]) -> dict[str, str]:
    """Return the environment that compose gives to a service: a variable without a value is passed on if it is set."""
    given: dict[str, str | None] = SERVICES[service]["environment"]
    filled = {name: _interpolated(value, env) for name, value in given.items() if value is not None}
    return filled | {name: env[name] for name, value in given.items() if value is None and name in env}


def _interpolated(text: str, env: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda found: env.get(found[1]) or found[2] or "", text)


def _option(service: str, name: str) -> str:
    command: list[str] = SERVICES[service]["command"]
    return command[command.index(name) + 1]


def _port(service: str) -> int:
    options = {"gateway": "--port", "worker": "--metrics-port"}
    return int(_option(service, options[service])) if service in options else PORTS[service]


@pytest.mark.parametrize("service", OURS)
def test_a_service_runs_a_command_that_there_is(service: str) -> None:
    assert parses(" ".join(SERVICES[service]["command"]))


def test_the_image_runs_a_command_that_there_is() -> None:
    assert 'ENTRYPOINT ["media-gateway"]' in DOCKERFILE
    assert parses(" ".join(json.loads(DOCKERFILE.rpartition("CMD ")[2])))


@pytest.mark.parametrize("service", OURS)
@pytest.mark.parametrize(
    "backend",
    [
        {},
        {"MEDIA_STORAGE_BACKEND": "s3", "AWS_S3_BUCKET": "b", "AWS_REGION": "eu-central-1"},
        {
            "MEDIA_STORAGE_BACKEND": "r2",
            "R2_BUCKET": "b",
            "R2_ACCOUNT_ID": "a",
            "R2_ACCESS_KEY_ID": "k",
            "R2_SECRET_ACCESS_KEY": "s",
        },
    ],
    ids=["local", "s3", "r2"],
)
def test_the_gateway_starts_with_the_environment_of_compose(
    service: str, backend: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", _environment(service, _filled_in(backend)))
    settings = Settings.load()
    assert settings.storage.backend == backend.get("MEDIA_STORAGE_BACKEND", "local")
    assert settings.queue_url == "postgresql://media:secret@postgres:5432/media"
    assert settings.gateway.api_keys
    assert settings.gateway.signing_keys
    assert settings.ingest.app_secret.get_secret_value()


@pytest.mark.parametrize("service", OURS)
def test_a_service_gets_only_variables_that_there_are(service: str, interface: Interface) -> None:
    assert set(SERVICES[service]["environment"]) <= set(interface.variables)


def test_the_example_names_every_variable_that_compose_takes_from_outside() -> None:
    taken = {name for name, _ in _VARIABLE.findall(json.dumps(SERVICES))}
    taken |= {name for service in OURS for name, value in SERVICES[service]["environment"].items() if value is None}
    assert taken == {name for name, _ in _EXAMPLE.findall((DEPLOY / ".env.example").read_text())}


def test_needed_variables_have_no_default_and_are_needed_by_compose_too() -> None:
    demanded = {name for name, _ in re.findall(r"\$\{(\w+)(:\?)", json.dumps(SERVICES))}
    assert demanded == {name for name, _ in _EXAMPLE.findall(_uncommented())}


def test_services_and_volumes_that_are_named_exist() -> None:
    waited_for = {name for service in SERVICES.values() for name in service.get("depends_on", ())}
    mounted = {mount.partition(":")[0] for service in SERVICES.values() for mount in service.get("volumes", ())}
    paths = {source for source in mounted if source.startswith(".")}
    assert waited_for <= set(SERVICES)
    assert mounted - paths == set(COMPOSE["volumes"])
    assert [path for path in paths if not (DEPLOY / path).exists()] == []


def test_who_is_waited_for_tells_its_health() -> None:
    waits = [(name, wait) for service in SERVICES.values() for name, wait in service.get("depends_on", {}).items()]
    assert waits
    assert all(wait == {"condition": "service_healthy"} and "healthcheck" in SERVICES[name] for name, wait in waits)


@pytest.mark.parametrize("service", OURS)
def test_processes_of_the_node_share_spool_and_objects(service: str) -> None:
    folder = re.search(r"MEDIA_STORAGE_PATH=(\S+)", DOCKERFILE)
    assert folder is not None
    assert f"media:{folder[1]}" in SERVICES[service]["volumes"]
    assert f"VOLUME {folder[1]}" in DOCKERFILE


def test_only_who_has_clients_is_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"gateway", "grafana", "nginx"}
    for name, ports in published.items():
        assert [_interpolated(port, {}) for port in ports] == [f"127.0.0.1:{_port(name)}:{_port(name)}"]


@pytest.mark.parametrize("service", OURS)
def test_health_is_asked_where_the_service_answers(service: str, interface: Interface) -> None:
    check = SERVICES[service].get("healthcheck", {"test": [DOCKERFILE.partition("HEALTHCHECK")[2]]})["test"][-1]
    asked = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", check)
    assert asked is not None
    assert int(asked[1]) == _port(service)
    assert interface.answers("GET", asked[2])


def test_prometheus_scrapes_both_where_they_answer(interface: Interface) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())
    scraped = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert scraped == {name: [f"{name}:{_port(name)}"] for name in OURS}
    assert all(interface.answers("GET", job["metrics_path"]) for job in config["scrape_configs"])
    mounts = SERVICES["prometheus"]["volumes"]
    assert {f"./{name}:/etc/prometheus/{name}:ro" for name in ("prometheus.yaml", *config["rule_files"])} <= set(mounts)


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/media-gateway.yaml").read_text())["providers"]
    mounts = SERVICES["grafana"]["volumes"]
    assert source["url"] == f"http://prometheus:{_port('prometheus')}"
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert "../grafana/provisioning:/etc/grafana/provisioning:ro" in mounts


def test_nginx_gets_what_its_configuration_wants() -> None:
    template = (DEPLOY / "nginx" / "templates" / "media-gateway.conf.template").read_text()
    environment = SERVICES["nginx"]["environment"]
    assert {name for name, _ in _VARIABLE.findall(template)} == set(environment)
    assert environment["GATEWAY_ADDRESS"] == f"gateway:{_port('gateway')}"
    assert environment["LISTEN"] == str(_port("nginx"))
    assert f"media:{environment['FILES_FOLDER']}:ro" in SERVICES["nginx"]["volumes"]
    explained = re.findall(r"^#   ([A-Z_]+)  ", template, re.MULTILINE)
    assert set(explained) == set(environment)


def test_the_image_has_stages_no_compiler_and_no_root() -> None:
    build, final = DOCKERFILE.split("\nFROM ")[1:]
    assert build.startswith("python:3.11-slim AS build")
    assert final.startswith("python:3.11-slim\n")
    assert "--require-hashes -r requirements.lock" in build
    assert not re.search(r"apt-get|gcc|pip install", final)
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", final, re.MULTILINE)


def test_what_the_image_copies_is_there_and_sent_to_the_builder() -> None:
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [line.split()[1:-1] for line in DOCKERFILE.splitlines() if re.match(r"COPY (?!--from)", line)]
    names = {name for line in copied for name in line}
    assert names == {line.removeprefix("!") for line in sent if line.startswith("!")}
    assert [name for name in names if not (ROOT / name).exists()] == []
