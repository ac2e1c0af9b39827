"""The log: one JSON object per event, with the id of the request, and never a secret in it."""

import json
import logging
import sqlite3
from contextlib import suppress
from typing import Any

import httpx
import pytest
import structlog

from gateway import logs
from gateway.logs import redacted
from gateway.messages import Messages
from ingest.simulator import Body, Faults, GraphCode, HashForm, Redirect, Transport, WebhookSender
from tests.gateway.conftest import S3_SECRET
from tests.gateway.problems import SECRETS
from tests.gateway.scene import OpenScene, Scene
from tests.running import APP_SECRET, VERIFY_TOKEN, free_port

FAULTS = [
    Faults(),
    Faults(body=Body.CORRUPT),
    Faults(body=Body.HTML),
    Faults(sha256=HashForm.WRONG),
    Faults(transport=Transport.TRUNCATED),
    Faults(transport=Transport.RESET),
    Faults(redirect=Redirect.INWARD),
    Faults(redirect=Redirect.OTHER_HOST),
    Faults(download_error=500),
    Faults(wrong_token_status=403),
    Faults(graph_error=GraphCode.APP_RATE_LIMIT),
    Faults(graph_error=GraphCode.INVALID_PARAMETER),
    Faults(graph_error=GraphCode.TOKEN_EXPIRED),
]


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what was written to standard error since the last time."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


async def everything(scene: Scene) -> list[str]:
    """Do everything, right and wrong, and return the signatures that were used."""
    signatures = []
    for faults in FAULTS:
        message = await scene.message(faults=faults)
        url = scene.gateway.signer.mint(message.id).url
        signatures.append(url.rpartition("sig=")[2])
        for ask in (scene.client.get(message.path), scene.nobody.get(url), scene.nobody.get(f"{url}x")):
            with suppress(httpx.TransportError):  # its body broke off
                await ask
    await scene.client.get(message.path, headers={"Authorization": "Bearer eyJhbGciOi", "X-API-Key": "wrong-key"})
    sender = WebhookSender(f"{scene.gateway.url}/webhooks/whatsapp", APP_SECRET, scene.nobody)
    await sender.handshake(VERIFY_TOKEN)
    await sender.handshake("wrong-verify-token")
    await sender.send(scene.simulator.webhooks.media_payload(message.medium))
    await sender.send(b"{")
    await scene.client.get("/readyz")
    await scene.client.get("/metrics")
    return signatures


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_a_whole_session_with_faults_leaves_no_secret_in_the_log(
    open_scene: OpenScene, s3: dict[str, str], capsys: pytest.CaptureFixture[str], level: str
) -> None:
    broken = s3 | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{free_port()}"}
    signatures = []
    for variables in (s3, broken):
        async with open_scene(**variables, MEDIA_LOG_LEVEL=level) as scene:
            signatures += await everything(scene)
            with sqlite3.connect(scene.gateway.path / "gateway.db") as database:
                database.execute("ALTER TABLE messages RENAME TO gone")
            await everything_fails(scene)
            with sqlite3.connect(scene.gateway.path / "gateway.db") as database:
                database.execute("ALTER TABLE gone RENAME TO messages")
    text = capsys.readouterr().err
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) > 100
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)
    others = ["eyJhbGciOi", "wrong-key", "wrong-verify-token", S3_SECRET, "hash=0", "hash=1", *signatures]
    assert [secret for secret in (*SECRETS, *others) if secret in text] == []


async def everything_fails(scene: Scene) -> None:
    """Ask while the database is gone."""
    for path in ("/media/messages/m", "/media/messages", "/readyz", "/metrics"):
        await scene.client.get(path)


async def test_every_request_has_a_line_with_its_id(open_scene: OpenScene, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_scene(MEDIA_LOG_LEVEL="info") as scene:
        message = await scene.message()
        await scene.nobody.get(scene.gateway.signer.mint(message.id).url, headers={"X-Request-ID": "mine-1"})
    line = next(line for line in written(capsys) if line.get("request_id") == "mine-1")
    expected = {
        "event": "request",
        "level": "info",
        "method": "GET",
        "path": message.path,
        "route": "media",
        "status": 200,
        "source": "provider",
        "bytes": 1000,
    }
    assert {name: line[name] for name in expected} == expected
    assert line["seconds"] > 0


async def test_what_the_provider_said_is_in_the_log_with_the_id_of_the_request(
    open_scene: OpenScene, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_scene(MEDIA_LOG_LEVEL="info") as scene:
        message = await scene.message(faults=Faults(graph_error=GraphCode.SOMETHING_WRONG))
        await scene.client.get(message.path, headers={"X-Request-ID": "mine-2"})
        lines = [line for line in written(capsys) if line.get("request_id") == "mine-2"]
    told = next(line for line in lines if line["event"] == "media error")
    assert (told["error"], told["level"]) == ("OriginFailed", "warning")
    assert "code 131000" in told["detail"]


async def test_a_connection_that_is_broken_on_purpose_is_no_error_of_the_server(
    open_scene: OpenScene, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_scene(MEDIA_LOG_LEVEL="info") as scene:
        message = await scene.message(faults=Faults(body=Body.CORRUPT))
        with pytest.raises(httpx.RemoteProtocolError):
            await scene.client.get(message.path, headers={"X-Request-ID": "mine-3"})
        lines = written(capsys)
    assert [line["event"] for line in lines if line["level"] in {"error", "critical"}] == []
    broken = next(line for line in lines if line["event"] == "body broke off")
    assert (broken["error"], broken["request_id"]) == ("OriginLied", "mine-3")


async def test_a_bug_is_logged_with_its_traceback_and_told_to_nobody(
    open_scene: OpenScene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Messages, "page", fails)
    async with open_scene() as scene:
        response = await scene.client.get("/media/messages", headers={"X-Request-ID": "mine-4"})
        lines = written(capsys)
    assert (response.status_code, response.json()["type"]) == (500, "internal-error")
    assert "a bug" not in response.text
    logged = next(line for line in lines if line.get("request_id") == "mine-4")
    assert "RuntimeError: a bug" in logged["exception"]
    assert response.json()["request_id"] == "mine-4"


def test_libraries_log_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 17)
    logging.getLogger("some.library").warning("GET %s", "https://x.test/?sig=abc&size=1")
    try:
        int("postgresql://user:password@host/")
    except ValueError:
        structlog.get_logger().exception("failed", url="https://x.test/?X-Amz-Signature=abc")
    started, warned, failed = written(capsys)
    assert (started["event"], started["logger"]) == ("Started server process [17]", "uvicorn.error")
    assert warned["event"] == "GET https://x.test/?sig=***&size=1"
    assert "password" not in failed["exception"]
    assert failed["url"] == "https://x.test/?X-Amz-Signature=***"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer EAAB.x-y_z", "Authorization: Bearer ***"),
        ("authorization: basic dXNlcg==", "authorization: basic ***"),
        ("/media/messages/m?exp=1&kid=k1&sig=AbC-_d", "/media/messages/m?exp=1&kid=k1&sig=***"),
        ("?hub.verify_token=secret&hub.challenge=1", "?hub.verify_token=***&hub.challenge=1"),
        ("attachments/?mid=1&ext=2&hash=ATsecret", "attachments/?mid=1&ext=2&hash=***"),
        ("?access_token=EAAB", "?access_token=***"),
        ("X-Amz-Credential=AKID%2F2026&X-Amz-Signature=0a1b", "X-Amz-Credential=***&X-Amz-Signature=***"),
        ("postgresql://user:p@ss@host/db", "postgresql://user:***@host/db"),
        ("nothing to hide", "nothing to hide"),
        ("https://host:8080/path", "https://host:8080/path"),
    ],
)
def test_secrets_are_taken_out_by_their_place(text: str, expected: str) -> None:
    assert redacted(text) == expected
