"""Which workspaces there are: the one of the environment, and those of the file that it names."""

import os
from collections.abc import Mapping

from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.settings import ConfigurationError, Settings
from ingest.settings import IngestSettings
from ingest.whatsapp.dialling import HostRules
from ingest.whatsapp.provider import Account, Provider
from ingest.workspaces import DEFAULT, Workspace, WorkspacesError, load


class _DotEnv(BaseSettings):
    """All of ``.env``, for a workspace's secrets have names of the operator's own."""

    model_config = SettingsConfigDict(env_file=".env", extra="allow", case_sensitive=True)


def read_workspaces(settings: Settings) -> Mapping[str, Workspace]:
    """Return all workspaces by id; blocking.

    Raises:
        ConfigurationError: A variable or the file is wrong.
    """
    default = _default(settings.ingest)
    if settings.ingest.workspaces is None:
        return {default.id: default}
    try:
        return load(settings.ingest.workspaces, default=default, environ=(_DotEnv().model_extra or {}) | os.environ)
    except WorkspacesError as error:
        raise ConfigurationError(f"MEDIA_WORKSPACES: {error}") from None


def _default(settings: IngestSettings) -> Workspace:
    number = settings.phone_number_id
    return Workspace(
        id=DEFAULT,
        provider=_provider(settings),
        account=_account(settings),
        phone_number_ids=(number,) if number else (),
        app_secrets=(settings.app_secret,) if settings.app_secret.get_secret_value() else (),
        verify_token=settings.verify_token,
    )


def _provider(settings: IngestSettings) -> Provider:
    try:
        hosts = HostRules.parse(settings.download_hosts) if settings.download_hosts else None
    except ValueError as error:
        raise ConfigurationError(f"WHATSAPP_DOWNLOAD_HOSTS: {error}") from None
    try:
        return Provider.of(
            settings.provider, base_url=settings.graph_url, api_version=settings.api_version, hosts=hosts
        )
    except ValueError as error:
        raise ConfigurationError(f"WHATSAPP_GRAPH_URL: {error}") from None


def _account(settings: IngestSettings) -> Account | None:
    token = settings.access_token.get_secret_value()
    if not token:
        return None
    try:
        return Account(workspace_id=DEFAULT, access_token=token, phone_number_id=settings.phone_number_id)
    except ValueError as error:
        raise ConfigurationError(f"WHATSAPP_ACCESS_TOKEN: {error}") from None
