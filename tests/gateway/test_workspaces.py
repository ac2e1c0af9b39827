"""Which workspaces the environment makes, and how a wrong file stops the start."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.settings import ConfigurationError
from gateway.workspaces import read_workspaces
from ingest.workspaces import Workspace
from tests.running import command, environment, settings_for

FILE = """\
[workspaces.acme]
phone_number_ids = []
access_token = "env:ACME_TOKEN"
app_secrets = ["env:ACME_SECRET"]
verify_token = "env:ACME_VERIFY"
"""
ACME = {"ACME_TOKEN": "t", "ACME_SECRET": "s", "ACME_VERIFY": "v"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "workspaces.toml"
    path.write_text(FILE)
    return path


def read(folder: Path, **variables: str) -> Mapping[str, Workspace]:
    return read_workspaces(settings_for(folder, **variables))


def test_without_a_file_there_is_the_default_workspace(tmp_path: Path) -> None:
    default = read(tmp_path, WHATSAPP_PHONE_NUMBER_ID="1")["default"]
    assert default.account is not None
    assert (default.account.access_token, default.account.phone_number_id) == ("test-access-token", "1")
    assert [secret.get_secret_value() for secret in default.app_secrets] == ["test-app-secret"]
    assert default.verify_token.get_secret_value() == "test-verify-token"
    assert default.phone_number_ids == ("1",)


def test_without_variables_it_has_no_account_and_no_secrets(tmp_path: Path) -> None:
    default = read(tmp_path, WHATSAPP_ACCESS_TOKEN="", WHATSAPP_APP_SECRET="", WHATSAPP_VERIFY_TOKEN="")["default"]
    assert not default.is_configured


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WHATSAPP_ACCESS_TOKEN", "s3cret s3cret"),
        ("WHATSAPP_GRAPH_URL", "https://user:s3cret@example.com"),
        ("WHATSAPP_DOWNLOAD_HOSTS", "a b"),
    ],
)
def test_a_variable_that_no_provider_can_be_made_of_is_named(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: ") as refused:
        read(tmp_path, **{name: value})
    assert "s3cret" not in str(refused.value)


def test_a_file_s_references_lead_into_the_environment(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ACME.items():
        monkeypatch.setenv(name, value)
    workspaces = read(tmp_path, MEDIA_WORKSPACES=str(path))
    assert workspaces.keys() == {"default", "acme"}
    assert workspaces["acme"].verify_token.get_secret_value() == "v"


def test_they_lead_into_the_file_of_variables_too_which_the_environment_overrides(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("".join(f"{name}={value}\n" for name, value in ACME.items()))
    monkeypatch.setenv("ACME_VERIFY", "another")
    acme = read(tmp_path, MEDIA_WORKSPACES=str(path))["acme"]
    assert acme.account is not None
    assert (acme.account.access_token, acme.verify_token.get_secret_value()) == ("t", "another")
    assert "ACME_TOKEN" not in os.environ


@pytest.fixture
def misspelt(path: Path) -> Path:
    path.write_text(FILE.replace("access_token", "acess_token"))
    return path


@pytest.mark.parametrize("name", ["serve", "worker"])
async def test_a_typo_stops_the_start_with_one_line(tmp_path: Path, misspelt: Path, name: str) -> None:
    ended = await command(name, env=environment(tmp_path, MEDIA_WORKSPACES=str(misspelt)))
    assert ended.returncode == 2
    fault = "line 3: workspaces.acme.acess_token: is no key that is known here"
    assert ended.stderr == f"media-gateway: MEDIA_WORKSPACES: {misspelt}, {fault}\n"
