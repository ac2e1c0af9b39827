"""Where media come from and how they are ingested: the ingest part of the environment."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from storage.settings import DatabaseUrl

API_VERSION = "v25.0"  # of the Graph API

_MAX_DELAYS = 10
_DAY = 86_400  # seconds


def _delays(value: object) -> object:
    return [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _sane_delays(delays: tuple[float, ...]) -> tuple[float, ...]:
    if len(delays) > _MAX_DELAYS or any(not 0 <= delay <= _DAY for delay in delays):
        raise ValueError("must be at most 10 comma-separated numbers of seconds between 0 and 86400")
    return delays


class IngestSettings(BaseSettings):
    """The provider's account, the queue and its retries; every field's alias is its environment variable."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore")

    ingest: Literal["off", "new", "all"] = Field("all", alias="MEDIA_INGEST")
    queue_url: DatabaseUrl | None = Field(None, alias="MEDIA_INGEST_QUEUE_URL", repr=False)
    retry_delays: Annotated[tuple[float, ...], NoDecode, BeforeValidator(_delays), AfterValidator(_sane_delays)] = (
        Field((10.0, 30.0, 60.0), alias="MEDIA_INGEST_RETRY_DELAYS")
    )
    poll_interval: float = Field(0.2, alias="MEDIA_INGEST_POLL_INTERVAL", gt=0, le=60)

    access_token: SecretStr = Field(SecretStr(""), alias="WHATSAPP_ACCESS_TOKEN")
    app_secret: SecretStr = Field(SecretStr(""), alias="WHATSAPP_APP_SECRET")
    verify_token: SecretStr = Field(SecretStr(""), alias="WHATSAPP_VERIFY_TOKEN")
    phone_number_id: str | None = Field(None, alias="WHATSAPP_PHONE_NUMBER_ID")
    api_version: str = Field(API_VERSION, alias="WHATSAPP_API_VERSION", pattern=r"^v?\d{1,3}\.\d{1,2}$")
    provider: Literal["meta", "360dialog"] = Field("meta", alias="WHATSAPP_PROVIDER")
    graph_url: str | None = Field(None, alias="WHATSAPP_GRAPH_URL", pattern=r"^https?://")
    download_hosts: str | None = Field(None, alias="WHATSAPP_DOWNLOAD_HOSTS")

    workspaces: Path | None = Field(None, alias="MEDIA_WORKSPACES")
    """More workspaces than ``default``, as a TOML file."""
