"""The workspaces that share a gateway, each with its own account, webhook secrets and phone numbers: a TOML file.

::

    [workspaces.acme]
    phone_number_ids = ["200000000000002"]
    access_token = "env:ACME_TOKEN"
    app_secrets = ["env:ACME_APP_SECRET", "file:/run/secrets/acme_former"]
    verify_token = "env:ACME_VERIFY"
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
)

from ingest.references import References
from ingest.settings import API_VERSION
from ingest.toml_lines import line_of, lines_of
from ingest.whatsapp.dialling import HostRules
from ingest.whatsapp.provider import Account, Provider

DEFAULT = "default"
"""The workspace of the ``WHATSAPP_…`` variables."""

MAX_FILE = 1024 * 1024  # bytes
MAX_APP_SECRETS = 100
"""Different ones, of all workspaces: the webhook address that they share tries each."""

_SYNTAX = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)
_SHOWN = re.compile(r"[A-Za-z0-9._-]{1,40}")
_WORDS: Mapping[str, str] = MappingProxyType({
    "missing": "is missing",
    "extra_forbidden": "is no key that is known here",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "too_short": "must not be empty",
})  # fmt: skip


class WorkspacesError(ValueError):
    """The file is wrong; the message is one line that names file, line and key, and shows no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Who shares the gateway: an account, what signs its webhooks, and the numbers whose events are its own."""

    id: str
    provider: Provider
    account: Account | None
    """None: its media cannot be fetched."""
    phone_number_ids: tuple[str, ...] = ()
    app_secrets: tuple[SecretStr, ...] = ()
    verify_token: SecretStr
    """Empty: it opens nothing."""
    audit: bool = False

    @property
    def is_configured(self) -> bool:
        """Whether more is known of it than its provider's API."""
        return bool(self.account or self.phone_number_ids or self.app_secrets or self.verify_token.get_secret_value())


def load(path: Path, *, default: Workspace, environ: Mapping[str, str]) -> dict[str, Workspace]:
    """Read a file of workspaces and the secrets that it refers to; blocking.

    Args:
        path: The file. What it names by ``file:`` without a leading slash lies beside it.
        default: The workspace that is there anyway; the file may have it where it is not configured.
        environ: Where ``env:`` leads.

    Returns:
        All workspaces by id, the default one included.

    Raises:
        WorkspacesError: The file is wrong.
    """
    text = _read(path)
    document = _parse(path, text)
    try:
        return _united(default, _entries(document, References(environ=environ, folder=path.parent)))
    except _Wrong as wrong:
        lines = lines_of(text)
        # A misspelt key is missing too: say what is there before what is not.
        fault = min(wrong.faults, key=lambda each: (each.is_absence, line_of(each.path, lines)))
        raise WorkspacesError(f"{path}, line {line_of(fault.path, lines)}: {fault}") from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise WorkspacesError(f"{path}: {error.strerror}") from None
    if len(content) > MAX_FILE:
        raise WorkspacesError(f"{path}: has more than {MAX_FILE} bytes")
    try:
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise WorkspacesError(f"{path}, line {line}: is not UTF-8") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # not every number is one for Python
        found = _SYNTAX.fullmatch(str(error)) if isinstance(error, tomllib.TOMLDecodeError) else None
    if found is None:
        raise WorkspacesError(f"{path}: is no TOML that can be read")
    line = found[2] or text.rstrip("\n").count("\n") + 1
    raise WorkspacesError(f"{path}, line {line}: {found[1]}")


# What an entry may say ------------------------------------------------------------------------------------------------


def _resolved(value: Any, info: ValidationInfo[References]) -> Any:
    return info.context.resolve(value) if isinstance(value, str) else value


def _base_url(text: str) -> str:
    return Provider(base_url=text).base_url


def _hosts(text: str) -> str:
    HostRules.parse(text)
    return text


_Secret = Annotated[SecretStr, BeforeValidator(_resolved)]
_PhoneNumberId = Annotated[str, Field(pattern=r"^[0-9]{1,32}$")]
_WorkspaceId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@=+-]{0,127}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    phone_number_ids: list[_PhoneNumberId]
    access_token: _Secret
    app_secrets: Annotated[list[_Secret], Field(min_length=1)]
    verify_token: _Secret
    provider: Literal["meta", "360dialog"] = "meta"
    api_version: Annotated[str, Field(pattern=r"^v?[0-9]{1,3}\.[0-9]{1,2}$")] = API_VERSION
    graph_url: Annotated[str, AfterValidator(_base_url)] | None = None
    download_hosts: Annotated[str, AfterValidator(_hosts)] | None = None
    audit: bool = False

    def named(self, workspace_id: str) -> Workspace:
        """Build the workspace; nothing can be wrong any more."""
        numbers = tuple(self.phone_number_ids)
        return Workspace(
            id=workspace_id,
            provider=Provider.of(
                self.provider,
                base_url=self.graph_url,
                api_version=self.api_version,
                hosts=HostRules.parse(self.download_hosts) if self.download_hosts else None,
            ),
            account=Account(
                workspace_id=workspace_id,
                access_token=self.access_token.get_secret_value(),
                phone_number_id=numbers[0] if len(numbers) == 1 else None,
            ),
            phone_number_ids=numbers,
            app_secrets=tuple(self.app_secrets),
            verify_token=self.verify_token,
            audit=self.audit,
        )


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    workspaces: dict[_WorkspaceId, _Entry]


# What is wrong with it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fault:
    where: tuple[str | int, ...]
    """The key, and the index in its list."""
    what: str
    is_absence: bool = False

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(part for part in self.where if isinstance(part, str))

    def __str__(self) -> str:
        keys = ".".join(part if _SHOWN.fullmatch(part) else "…" for part in self.path)
        index = "".join(f"[{part}]" for part in self.where if isinstance(part, int))
        return f"{keys}{index}: {self.what}"


class _Wrong(Exception):
    def __init__(self, *faults: _Fault) -> None:
        super().__init__(faults)
        self.faults = faults


def _entries(document: Mapping[str, Any], references: References) -> dict[str, _Entry]:
    try:
        return _Document.model_validate(document, context=references).workspaces
    except ValidationError as error:
        raise _Wrong(*_faults(error)) from None


def _faults(error: ValidationError) -> Iterator[_Fault]:
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        where = tuple(part for part in each["loc"] if part != "[key]")  # of a table whose name is wrong
        what = _WORDS.get(each["type"], each["msg"].removeprefix("Value error, "))
        what = what.replace("Input should be", "must be").replace("String should", "must")
        yield _Fault(where, what, is_absence=each["type"] == "missing")


def _united(default: Workspace, entries: Mapping[str, _Entry]) -> dict[str, Workspace]:
    """Put the file's workspaces beside the default one; raises _Wrong where two of them claim the same."""
    if DEFAULT in entries and default.is_configured:
        raise _Wrong(_Fault(("workspaces", DEFAULT), "is the workspace of the WHATSAPP_ variables, which are set"))
    owners = dict.fromkeys(default.phone_number_ids, DEFAULT)
    secrets = set(default.app_secrets)
    for workspace_id, entry in entries.items():
        for index, number in enumerate(entry.phone_number_ids):
            owner = owners.get(number)
            if owner is not None:
                where = ("workspaces", workspace_id, "phone_number_ids", index)
                raise _Wrong(_Fault(where, f"belongs to workspace {owner} already"))
            owners[number] = workspace_id
        secrets.update(entry.app_secrets)
        if len(secrets) > MAX_APP_SECRETS:
            fault = f"there are more than {MAX_APP_SECRETS} different ones, of all workspaces together"
            raise _Wrong(_Fault(("workspaces", workspace_id, "app_secrets"), fault))
    return {DEFAULT: default} | {workspace_id: entry.named(workspace_id) for workspace_id, entry in entries.items()}
