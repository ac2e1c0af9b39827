"""The command line from outside: what it prints where, and how it exits."""

import json
import socket
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.acceptance.conftest import StartServer
from tests.running import SIGNING_KEY, command, environment

COMMANDS = ["", "serve", "worker", "demo", "migrate", "sign", "jobs", "jobs list", "jobs retry", "jobs cancel"]
SECRET = "hunter2"
NOWHERE = "postgresql://gateway:hunter2@127.0.0.1:1/media"


@pytest.mark.parametrize("name", COMMANDS, ids=lambda name: name or "media-gateway")
async def test_help_is_everywhere(tmp_path: Path, name: str) -> None:
    answer = await command(*name.split(), "--help", env=environment(tmp_path))

    assert answer.returncode == 0
    assert " ".join(f"media-gateway {name}".split()) in answer.stdout.replace("python -m gateway.cli", "media-gateway")
    assert answer.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["serve", "--port", "0"],
        ["serve", "--workers", "many"],
        ["sign"],
        ["jobs", "retry"],
        ["jobs", "cancel"],
    ],
    ids=" ".join,
)
async def test_wrong_usage_is_status_2(tmp_path: Path, arguments: list[str]) -> None:
    answer = await command(*arguments, env=environment(tmp_path))

    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr != ""


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MEDIA_STORAGE_BACKEND", "ftp"),
        ("MEDIA_DATABASE_URL", f"mysql://gateway:{SECRET}@127.0.0.1/media"),
        ("MEDIA_SIGNING_KEYS", SECRET),
        ("MEDIA_CORS_ORIGINS", f"https://chat.example.com/{SECRET}"),
        ("MEDIA_INGEST", "sometimes"),
        ("MEDIA_INGEST_RETRY_DELAYS", "10,soon"),
        ("WHATSAPP_ACCESS_TOKEN", f"two words, {SECRET}"),
        ("WHATSAPP_API_VERSION", "newest"),
        ("WHATSAPP_GRAPH_URL", f"http://user:{SECRET}@graph.example.com"),
        ("WHATSAPP_DOWNLOAD_HOSTS", "http://cdn.example.com/path?query"),
        ("MEDIA_STORAGE_PATH", "/dev/null/media"),
    ],
)
async def test_a_wrong_variable_stops_the_start_with_one_line_that_names_it(
    tmp_path: Path, variable: str, value: str
) -> None:
    answer = await command("serve", env=environment(tmp_path, **{variable: value}), cwd=tmp_path)

    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith(f"media-gateway: {variable}")
    assert answer.stderr.count("\n") == 1
    assert SECRET not in answer.stderr


async def test_a_wrong_variable_stops_a_worker_too(tmp_path: Path) -> None:
    answer = await command("worker", env=environment(tmp_path, WHATSAPP_DOWNLOAD_HOSTS="http://cdn.example.com/path"))

    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("media-gateway: WHATSAPP_DOWNLOAD_HOSTS")


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"MEDIA_STORAGE_BACKEND": "s3"}, "AWS_S3_BUCKET"),
        ({"MEDIA_STORAGE_BACKEND": "r2"}, "R2_BUCKET"),
        ({"MEDIA_AUTH": "off"}, "MEDIA_AUTH"),
    ],
    ids=["s3 without a bucket", "r2 without a bucket", "no credentials asked for, and open to all"],
)
async def test_a_variable_that_is_missing_beside_another_stops_the_start(
    tmp_path: Path, variables: dict[str, str], named: str
) -> None:
    answer = await command("serve", "--host", "0.0.0.0", env=environment(tmp_path, **variables))  # noqa: S104 it is refused

    assert answer.returncode == 2
    assert named in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["serve", "worker", "migrate", "jobs list"])
async def test_a_database_that_is_away_stops_the_start_with_one_line(tmp_path: Path, name: str) -> None:
    answer = await command(*name.split(), env=environment(tmp_path, MEDIA_DATABASE_URL=NOWHERE))

    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("media-gateway: ")
    assert answer.stderr.count("\n") == 1
    assert SECRET not in answer.stderr


@pytest.mark.parametrize("name", ["serve", "demo"])
async def test_a_port_that_is_taken_stops_the_start_with_one_line(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = await command(name, "--port", port, env=environment(tmp_path))

    assert (answer.returncode, answer.stdout) == (2, "")
    assert port in answer.stderr
    assert answer.stderr.count("\n") == 1


async def test_migrate_can_be_repeated(tmp_path: Path) -> None:
    for _ in range(2):
        answer = await command("migrate", env=environment(tmp_path))
        assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    listed = await command("jobs", "list", "--json", env=environment(tmp_path))
    assert (listed.returncode, json.loads(listed.stdout)) == (0, [])


async def test_jobs_of_a_database_that_was_never_migrated_cannot_be_listed(tmp_path: Path) -> None:
    answer = await command("jobs", "list", "--json", env=environment(tmp_path))

    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.count("\n") == 1


async def test_a_signed_url_opens_its_message_and_no_other(serve: StartServer) -> None:
    async with serve() as served, httpx.AsyncClient() as anybody:
        medium = served.provider.simulator.add(b"\xff\xd8\xff picture", "image/jpeg")
        (message_id,) = await served.webhook(medium)
        url = (await command("sign", message_id, "--download", env=served.env)).stdout.strip()
        answer = await anybody.get(url)
        other = await anybody.get(url.replace("/wamid", "/other"))

    assert answer.content == b"\xff\xd8\xff picture"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert other.status_code == httpx.codes.FORBIDDEN


async def test_sign_prints_json_and_nothing_else_where_asked(tmp_path: Path) -> None:
    answer = await command("sign", "m1", "--expires-in", "60", "--json", env=environment(tmp_path))

    minted = json.loads(answer.stdout)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert set(minted) == {"url", "expires_at"}
    assert parse_qs(urlsplit(minted["url"]).query)["kid"] == ["k1"]
    assert SIGNING_KEY not in answer.stdout


async def test_sign_needs_a_key(tmp_path: Path) -> None:
    answer = await command("sign", "m1", env=environment(tmp_path, MEDIA_SIGNING_KEYS=""))

    assert (answer.returncode, answer.stdout) == (2, "")
    assert "MEDIA_SIGNING_KEYS" in answer.stderr
