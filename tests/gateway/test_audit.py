"""Who did what: one line of JSON for the workspaces that want it, and never a secret."""

import hashlib
import json
from typing import Any, Literal

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import logs
from gateway.audit import Action, Actor, Audit

HOST = Actor(kind="api-key", address="192.0.2.1", credential="an-api-key")


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what was written to standard error since the last time."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize("level", ["debug", "info", "error"])
def test_a_line_says_who_did_what_whatever_the_level_of_the_log(capsys: pytest.CaptureFixture[str], level: str) -> None:
    audit = Audit("*")
    logs.configure(level)
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        audit.record(Action.READ, HOST, workspace_id="acme", message_id="m-1", variant="thumbnail", status=206)
    (line,) = written(capsys)
    assert line.pop("timestamp")
    assert line == {
        "event": "read",
        "level": "info",
        "logger": "audit",
        "actor": "api-key",
        "credential": hashlib.sha256(b"an-api-key").hexdigest()[:8],
        "address": "192.0.2.1",
        "workspace_id": "acme",
        "message_id": "m-1",
        "variant": "thumbnail",
        "status": 206,
        "request_id": "r-1",
    }


@pytest.mark.parametrize("action", Action)
def test_every_action_has_its_word(capsys: pytest.CaptureFixture[str], action: Action) -> None:
    logs.configure("error")
    Audit("*").record(action, HOST, workspace_id="acme")
    assert [line["event"] for line in written(capsys)] == [action.value]


@pytest.mark.parametrize(
    ("audited", "workspace_id", "lines"),
    [
        (frozenset(), "acme", 0),
        (frozenset(), None, 0),
        (frozenset({"acme"}), "acme", 1),
        (frozenset({"acme"}), "other", 0),
        (frozenset({"acme"}), "*", 0),
        (frozenset({"acme"}), None, 1),
        ("*", "acme", 1),
        ("*", "other", 1),
        ("*", None, 1),
    ],
)
def test_it_is_turned_on_by_workspace(
    capsys: pytest.CaptureFixture[str], audited: frozenset[str] | Literal["*"], workspace_id: str | None, lines: int
) -> None:
    logs.configure("error")
    audit = Audit(audited)
    audit.record(Action.REFUSED, HOST, workspace_id=workspace_id, status=404)
    assert len(written(capsys)) == lines
    assert audit.wants(workspace_id) is bool(lines)


def test_it_is_off_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug")
    Audit().record(Action.DELETE, HOST, workspace_id="acme", message_id="m-1")
    assert written(capsys) == []


@pytest.mark.parametrize(
    ("actor", "label"),
    [
        (Actor(kind="api-key", address="", credential="key"), hashlib.sha256(b"key").hexdigest()[:8]),
        (Actor(kind="token", address="", credential="user-7"), hashlib.sha256(b"user-7").hexdigest()[:16]),
        (Actor(kind="signed-url", address="", credential="c2ln"), hashlib.sha256(b"c2ln").hexdigest()[:16]),
        (Actor(kind="cdn", address="192.0.2.1"), ""),
        (Actor(kind="nobody", address="192.0.2.1"), ""),
    ],
    ids=lambda value: value.kind if isinstance(value, Actor) else None,
)
def test_a_credential_is_told_by_its_digest(actor: Actor, label: str) -> None:
    assert actor.label == label


text = st.text(max_size=400)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text, text, text, st.text(min_size=9, max_size=400))
def test_nothing_that_a_client_names_can_forge_a_line_or_shows_its_credential(
    capsys: pytest.CaptureFixture[str], workspace_id: str, message_id: str, variant: str, credential: str
) -> None:
    logs.configure("error")
    actor = Actor(kind="token", address="192.0.2.1", credential=f"secret-{credential}")
    Audit("*").record(Action.READ, actor, workspace_id=workspace_id, message_id=message_id, variant=variant)
    output = capsys.readouterr().err
    assert output.endswith("\n")
    assert output.count("\n") == 1
    line = json.loads(output)
    assert line["logger"] == "audit"
    assert max(len(line[name]) for name in ("workspace_id", "message_id", "variant")) <= 255 + len("***")
    assert actor.credential not in output + repr(actor)
