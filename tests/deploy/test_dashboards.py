"""Dashboards and alerts ask for what the gateway exposes: series, labels and their values."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.names import ROOT, Interface

DASHBOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
RULES = yaml.safe_load((ROOT / "deploy" / "alerts.yaml").read_text())
_SERIES = re.compile(r"\bmedia_gateway_\w+")
_MATCHERS = re.compile(r"\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_WORD = re.compile(r"[a-z][a-z0-9_-]*")
_GROUPING = re.compile(r"\bby \(([^)]*)\)")
_LEGEND = re.compile(r"\{\{(\w+)\}\}")


def _targets() -> list[dict[str, Any]]:
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    return [target for board in boards for panel in board["panels"] for target in panel.get("targets", ())]


def _expressions() -> list[str]:
    alerts = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    return [*dict.fromkeys([*(target["expr"] for target in _targets()), *alerts])]


def complaints(expression: str, interface: Interface) -> list[str]:
    """Return what an expression asks for that there is not."""
    series = _SERIES.findall(expression)
    known = frozenset().union(*(interface.samples.get(name, frozenset()) for name in series), {"job", "instance"})
    matchers = [pair for braces in _MATCHERS.findall(expression) for pair in _MATCHER.findall(braces)]
    groups = [label.strip() for labels in _GROUPING.findall(expression) for label in labels.split(",")]
    found = [name for name in series if name not in interface.samples]
    found += [label for label in (*groups, *(label for label, _ in matchers)) if label not in known]
    words = {word for label, values in matchers if label != "job" for word in values.split("|")}
    found += [word for word in sorted(words) if _WORD.fullmatch(word) and f'"{word}"' not in interface.sources]
    return found + ["unbalanced"] * any(expression.count(a) != expression.count(b) for a, b in ("()", "{}", "[]"))


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("rate(media_gateway_requests[5m])", "media_gateway_requests"),
        ("rate(media_gateway_ingest_job_duration_seconds[5m])", "media_gateway_ingest_job_duration_seconds"),
        ('media_gateway_media{state="failed"}', "state"),
        ('media_gateway_media{status="faild"}', "faild"),
        ('media_gateway_queue_depth{queue="media-hihg"}', "media-hihg"),
        ("sum by (rout) (media_gateway_requests_total)", "rout"),
        ("sum by (le) (media_gateway_requests_total)", "le"),
        ("sum(rate(media_gateway_requests_total[5m])", "unbalanced"),
    ],
)
def test_a_wrong_expression_is_found(expression: str, complaint: str, interface: Interface) -> None:
    assert complaints(expression, interface) == [complaint]


@pytest.mark.parametrize("expression", _expressions())
def test_an_expression_asks_for_what_there_is(expression: str, interface: Interface) -> None:
    assert complaints(expression, interface) == []


@pytest.mark.parametrize("target", _targets(), ids=lambda target: target["expr"][:60])
def test_a_legend_names_labels_that_the_expression_keeps(target: dict[str, Any]) -> None:
    kept = {label.strip() for labels in _GROUPING.findall(target["expr"]) for label in labels.split(",")}
    assert set(_LEGEND.findall(target["legendFormat"])) <= kept


def test_every_alert_is_explained_to_operators() -> None:
    operators = (ROOT / "docs" / "operators.md").read_text()
    names = {rule["alert"] for group in RULES["groups"] for rule in group["rules"]}
    assert names == set(re.findall(r"^\| `(\w+)` \|", operators.partition("holds the alerts")[2], re.MULTILINE))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Path) -> None:
    board = json.loads(path.read_text())
    panels = board["panels"]
    variables = {f"${{{variable['name']}}}" for variable in board["templating"]["list"]}
    sources = [each["datasource"] for panel in panels for each in (panel, *panel.get("targets", ())) if "expr" in each]
    assert board["uid"]
    assert board["schemaVersion"] >= 39
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["type"] for panel in panels} <= {"row", "timeseries", "stat"}
    assert all(source["type"] == "prometheus" and source["uid"] in variables for source in sources)
    assert len(_cells(panels)) == sum(panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in panels)


def _cells(panels: list[dict[str, Any]]) -> set[tuple[int, int]]:
    """Return the cells of the grid that are covered, each once, so that overlapping panels are found."""
    places = [panel["gridPos"] for panel in panels]
    return {
        (x, y)
        for place in places
        for x in range(place["x"], min(place["x"] + place["w"], 24))
        for y in range(place["y"], place["y"] + place["h"])
    }
