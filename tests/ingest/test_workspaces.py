"""The file of workspaces: what it says, and the one line in which it is refused."""

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest
from pydantic import SecretStr

from ingest.whatsapp.dialling import HostRules
from ingest.whatsapp.provider import DIALOG360, META, META_HOST_RULES, Account, Provider
from ingest.workspaces import MAX_APP_SECRETS, MAX_FILE, Workspace, WorkspacesError, load

ENVIRON = {"ACME_TOKEN": "s3cret-token", "ACME_SECRET": "s3cret-app", "ACME_VERIFY": "s3cret-verify", "EMPTY": " "}
ACME = """\
[workspaces.acme]
phone_number_ids = ["200000000000002"]
access_token = "env:ACME_TOKEN"
app_secrets = ["env:ACME_SECRET"]
verify_token = "env:ACME_VERIFY"
"""
NOBODY = Workspace(id="default", provider=Provider(), account=None, verify_token=SecretStr(""))

Load = Callable[..., Mapping[str, Workspace]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workspaces.toml"


@pytest.fixture
def read(path: Path) -> Load:
    """Read a file with this content."""

    def read(text: str | bytes, *, default: Workspace = NOBODY) -> Mapping[str, Workspace]:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(path, default=default, environ=ENVIRON)

    return read


# What it says ---------------------------------------------------------------------------------------------------------


def test_a_workspace_is_meta_s_unless_it_says_otherwise(read: Load) -> None:
    acme = read(ACME)["acme"]
    assert acme.provider == Provider(api_version="v25.0", profile=META, hosts=META_HOST_RULES)
    assert acme.account == Account(workspace_id="acme", access_token="s3cret-token", phone_number_id="200000000000002")
    assert acme.phone_number_ids == ("200000000000002",)
    assert [secret.get_secret_value() for secret in acme.app_secrets] == ["s3cret-app"]
    assert acme.verify_token.get_secret_value() == "s3cret-verify"
    assert not acme.audit


def test_everything_may_be_said(read: Load) -> None:
    more = """\
    provider = "360dialog"
    api_version = "24.0"
    graph_url = "https://waba.example.com/api"
    download_hosts = "cdn.example.com,.example.net"
    audit = true
    """
    acme = read(ACME + dedent(more))["acme"]
    assert acme.audit
    assert acme.provider == Provider(
        base_url="https://waba.example.com/api",
        api_version="v24.0",
        profile=DIALOG360,
        hosts=HostRules.parse("cdn.example.com,.example.net"),
    )


def test_360dialog_has_a_host_of_its_own(read: Load) -> None:
    assert read(ACME + 'provider = "360dialog"\n')["acme"].provider.base_url == "https://waba-v2.360dialog.io"


@pytest.mark.parametrize(("numbers", "sent"), [("[]", None), ('["1"]', "1"), ('["1", "2"]', None)])
def test_a_number_is_sent_where_there_is_only_one_that_it_could_be(read: Load, numbers: str, sent: str | None) -> None:
    account = read(ACME.replace('["200000000000002"]', numbers))["acme"].account
    assert account is not None
    assert account.phone_number_id == sent


def test_secrets_may_lie_in_files(read: Load, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret-file\n")
    (tmp_path / "app").write_text("s3cret-former")
    text = ACME.replace("env:ACME_TOKEN", f"file:{tmp_path}/token")
    acme = read(text.replace('"env:ACME_SECRET"', '"env:ACME_SECRET", "file:app"'))["acme"]
    assert acme.account is not None
    assert acme.account.access_token == "s3cret-file"
    assert [secret.get_secret_value() for secret in acme.app_secrets] == ["s3cret-app", "s3cret-former"]


def test_no_secret_shows(read: Load) -> None:
    assert "s3cret" not in repr(read(ACME))


def test_line_ends_may_be_those_of_windows(read: Load) -> None:
    assert read(ACME.replace("\n", "\r\n")).keys() == {"default", "acme"}


def test_no_workspace_but_the_default_one_is_fine(read: Load) -> None:
    assert read("[workspaces]\n") == {"default": NOBODY}


# The default workspace ------------------------------------------------------------------------------------------------

CONFIGURED = [
    Workspace(id="default", provider=Provider(), account=account, verify_token=SecretStr(token), **more)
    for account, token, more in (
        (Account(workspace_id="default", access_token="t"), "", {}),
        (None, "verify", {}),
        (None, "", {"app_secrets": (SecretStr("s3cret"),)}),
        (None, "", {"phone_number_ids": ("1",)}),
    )
]


@pytest.mark.parametrize("default", CONFIGURED, ids=["account", "verify token", "app secret", "phone number"])
def test_the_default_workspace_is_configured_in_one_place(read: Load, path: Path, default: Workspace) -> None:
    assert read(ACME, default=default)["default"] is default
    with pytest.raises(WorkspacesError) as refused:
        read("\n" + ACME.replace("acme", "default"), default=default)
    assert str(refused.value) == (
        f"{path}, line 2: workspaces.default: is the workspace of the WHATSAPP_ variables, which are set"
    )


def test_the_file_may_have_the_default_workspace_where_nobody_else_has(read: Load) -> None:
    account = read(ACME.replace("acme", "default"))["default"].account
    assert account is not None
    assert account.workspace_id == "default"


# What is refused ------------------------------------------------------------------------------------------------------


def changed(old: str, new: str) -> str:
    assert old in ACME
    return ACME.replace(old, new)


WRONG = [
    # The key, and what it is
    ("acess_token: is no key that is known here", 3, changed("access_token", "acess_token")),
    ("access_token: is missing", 1, changed('access_token = "env:ACME_TOKEN"\n', "")),
    ("phone_number_ids: is missing", 1, changed('phone_number_ids = ["200000000000002"]\n', "")),
    ("app_secrets: is missing", 1, changed('app_secrets = ["env:ACME_SECRET"]\n', "")),
    ("verify_token: is missing", 1, changed('verify_token = "env:ACME_VERIFY"\n', "")),
    ("phone_number_ids[0]: must be text", 2, changed('["200000000000002"]', "[200000000000002]")),
    ("phone_number_ids: must be a list", 2, changed('["200000000000002"]', '"200000000000002"')),
    ("phone_number_ids[1]: must match pattern '^[0-9]{1,32}$'", 2, changed('002"', '002", "+1 555"')),
    ("phone_number_ids[1]: belongs to workspace acme already", 2, changed('002"', '002", "200000000000002"')),
    ("app_secrets: must not be empty", 4, changed('["env:ACME_SECRET"]', "[]")),
    ("verify_token: must be text", 5, changed('"env:ACME_VERIFY"', "64000")),
    ("audit: must be true or false", 6, ACME + 'audit = "yes"'),
    ("provider: must be 'meta' or '360dialog'", 6, ACME + 'provider = "s3cret"'),
    ("api_version: must match pattern '^v?[0-9]{1,3}\\.[0-9]{1,2}$'", 6, ACME + 'api_version = "s3cret"'),
    ("graph_url: the provider's base URL is malformed", 6, ACME + 'graph_url = "s3cret"'),
    ("graph_url: the provider's base URL must be http(s)://host[:port][/path]", 6, ACME + 'graph_url = "ftp://h"'),
    ("download_hosts: '.com' names too many hosts", 6, ACME + 'download_hosts = ".com"'),
    # The secrets
    *(
        (f"access_token: {fault}", 3, changed("env:ACME_TOKEN", reference))
        for reference, fault in {
            "s3cret": "must be env:NAME or file:/path; a secret itself does not belong here",
            "EAAG:s3cret": "must be env:NAME or file:/path; a secret itself does not belong here",
            "env:": "must be env:NAME or file:/path; a secret itself does not belong here",
            "env:s3cret": "names an environment variable that is not set",
            "env:EMPTY": "names an environment variable that is not set",
            "file:s3cret": "names a file that cannot be read: No such file or directory",
            "file:/": "names a file that cannot be read: Is a directory",
            "file:empty": "names a file that is empty, or too long for a secret",
            "file:long": "names a file that is empty, or too long for a secret",
            "file:lines": "leads to a secret with white space or other characters that no header can carry",
            "file:binary": "leads to a secret with white space or other characters that no header can carry",
        }.items()
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "line", "text"), WRONG, ids=[fault for fault, _, _ in WRONG])
def test_an_entry_that_is_wrong_is_refused_by_its_line(
    read: Load, path: Path, fault: str, line: int, text: str
) -> None:
    for name, content in {"empty": b"\n", "long": b"x" * 5000, "lines": b"s3cret\ns3cret", "binary": b"\xff"}.items():
        path.with_name(name).write_bytes(content)
    with pytest.raises(WorkspacesError) as refused:
        read(text)
    assert str(refused.value) == f"{path}, line {line}: workspaces.acme.{fault}"
    assert not any(part in str(refused.value) for part in ("s3cret", "64000"))
    assert refused.value.__cause__ is None  # which would show the value after all


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param(changed("workspaces.", "workspace."), ", line 1: workspace: is no key that is known here", id="s"),
        pytest.param("", ", line 1: workspaces: is missing", id="empty"),
        pytest.param("\nworkspaces = 1", ", line 2: workspaces: must be a table", id="no tables"),
        pytest.param("[workspaces]\nacme = 1", ", line 2: workspaces.acme: must be a table", id="no table"),
        pytest.param("[[workspaces]]", ", line 1: workspaces: must be a table", id="a list of tables"),
        pytest.param(
            changed("acme", '"a/b"'),
            ", line 1: workspaces.…: must match pattern '^[A-Za-z0-9][A-Za-z0-9._:@=+-]{0,127}$'",
            id="an id that is no segment of a path",
        ),
        pytest.param(changed("]\n", "\n"), ", line 1: Expected ']' at the end of a table declaration", id="no bracket"),
        pytest.param(ACME + "audit", ", line 6: Expected '=' after a key in a key/value pair", id="no value"),
        pytest.param(ACME + "audit = yes", ", line 6: Invalid value", id="no quotes"),
        pytest.param(ACME + ACME, ", line 6: Cannot declare ('workspaces', 'acme') twice", id="twice"),
        pytest.param(ACME + "x = '''\ny\n", ", line 7: Expected \"'''\"", id="text without an end"),
        pytest.param("x = " + "9" * 5000, ": is no TOML that can be read", id="a number beyond all"),
        pytest.param("x = " + "[" * 5000, ": is no TOML that can be read", id="brackets beyond all"),
        pytest.param(ACME.encode() + b"# \xff", ", line 6: is not UTF-8", id="not UTF-8"),
        pytest.param(b"#" * (MAX_FILE + 1), f": has more than {MAX_FILE} bytes", id="too large"),
    ],
)  # fmt: skip
def test_a_document_that_is_wrong_is_refused_by_its_line(read: Load, path: Path, text: str | bytes, fault: str) -> None:
    with pytest.raises(WorkspacesError) as refused:
        read(text)
    assert str(refused.value) == f"{path}{fault}"


def test_a_file_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(WorkspacesError) as refused:
        load(path, default=NOBODY, environ={})
    assert str(refused.value) == f"{path}: No such file or directory"


def test_of_several_faults_the_first_key_that_is_there_is_named(read: Load) -> None:
    both = ACME.replace("phone_number_ids", "phone_numbers") + "audit = 1\n"
    with pytest.raises(WorkspacesError, match=r"line 2: workspaces\.acme\.phone_numbers: is no key"):
        read(both)


def test_a_number_has_one_workspace(read: Load) -> None:
    with pytest.raises(WorkspacesError, match=r"line 7: .*\.beta\.phone_number_ids\[0\]: belongs to workspace acme al"):
        read(ACME + ACME.replace("acme", "beta"))
    default = Workspace(
        id="default", provider=Provider(), account=None, verify_token=SecretStr(""), phone_number_ids=("7", "8")
    )
    with pytest.raises(WorkspacesError, match=r"line 2: .*\.acme\.phone_number_ids\[1\]: belongs to workspace default"):
        read(changed('002"', '002", "8"'), default=default)


def test_the_secrets_that_a_webhook_is_tried_with_are_bounded(read: Load, tmp_path: Path) -> None:
    names = [f"secret{number}" for number in range(MAX_APP_SECRETS)]
    for name in names:
        (tmp_path / name).write_text(name)
    listed = ", ".join(f'"file:{name}"' for name in names)
    full = changed('"env:ACME_SECRET"', listed)
    assert read(full + changed("env:ACME_SECRET", "file:secret0").replace("acme", "beta").replace("002", "003"))
    with pytest.raises(
        WorkspacesError, match=r"line 9: workspaces\.beta\.app_secrets: there are more than 100 different"
    ):
        read(full + ACME.replace("acme", "beta").replace("002", "003"))
