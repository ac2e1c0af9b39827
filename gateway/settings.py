"""How the gateway listens and whom it lets in: the HTTP part of the environment, and all parts together."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.cdn import CdnSettings
from gateway.forwarded import Networks
from gateway.limits import Rate
from ingest.processing.settings import ProcessingSettings
from ingest.settings import IngestSettings
from storage.settings import StorageSettings

_KID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ConfigurationError(Exception):
    """A setting is wrong; the message is one line that names its variable."""


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _lines(value: object) -> object:
    return [part.strip() for part in value.split(";") if part.strip()] if isinstance(value, str) else value


def _networks(text: str) -> str:
    try:
        Networks.parse(text)
    except ValueError:  # whose message shows the value
        raise ValueError("must be networks such as 10.0.0.0/8,::1, none of them everybody") from None
    return text


def _rate(text: str) -> str:
    Rate.parse(text)
    return text


def _signing_keys(pairs: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for pair in pairs:
        kid, colon, secret = pair.get_secret_value().partition(":")
        if not colon or not secret or not _KID.fullmatch(kid):
            raise ValueError("must be kid:secret[,kid:secret…], a kid being letters, digits, dots, dashes, underscores")
    if len({pair.get_secret_value().partition(":")[0] for pair in pairs}) < len(pairs):
        raise ValueError("names a kid twice")
    return pairs


def _origin(text: str) -> str:
    if text != "*" and not re.fullmatch(r"https?://[^/\s]+", text):
        raise ValueError("must be * or origins such as https://chat.example.com, without a path")
    return text


Words = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_split)]


Subjects = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_lines)]


class GatewaySettings(BaseSettings):
    """Credentials, public URL and CORS; every field's alias is its environment variable."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore")

    auth: Literal["on", "off"] = Field("on", alias="MEDIA_AUTH")
    signing_keys: Annotated[Words, AfterValidator(_signing_keys)] = Field((), alias="MEDIA_SIGNING_KEYS")
    api_keys: Words = Field((), alias="MEDIA_API_KEYS")
    public_url: str = Field("", alias="MEDIA_PUBLIC_URL", pattern=r"^(https?://[^?#\s]+)?$")
    cors_origins: Origins = Field((), alias="MEDIA_CORS_ORIGINS")
    jwt_secret: SecretStr | None = Field(None, alias="MEDIA_JWT_SECRET")
    jwks: str | None = Field(None, alias="MEDIA_JWKS")
    """A path or an https URL."""
    jwt_audience: str | None = Field(None, alias="MEDIA_JWT_AUDIENCE")
    jwt_issuer: str | None = Field(None, alias="MEDIA_JWT_ISSUER")
    origin_secrets: Words = Field((), alias="MEDIA_ORIGIN_SECRET")
    """Of a CDN that checks its viewers itself; several while they are rotated."""
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = Field("", alias="MEDIA_TRUSTED_PROXIES")
    """Networks whose ``Forwarded`` and client certificates are believed."""
    mtls: Literal["off", "nginx", "alb"] = Field("off", alias="MEDIA_MTLS")
    mtls_subjects: Subjects = Field((), alias="MEDIA_MTLS_SUBJECTS")
    """Of the certificates that a CDN shows; a subject holds commas, so that semicolons stand between them."""
    limit_requests: Annotated[str, AfterValidator(_rate)] = Field("100/1000", alias="MEDIA_LIMIT_REQUESTS")
    """A second, and at once, of each address and each credential."""
    limit_bytes: Annotated[str, AfterValidator(_rate)] = Field("50000000/1000000000", alias="MEDIA_LIMIT_BYTES")
    audit: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field((), alias="MEDIA_AUDIT")
    """Workspaces whose every access is logged, or ``*``."""
    operations_token: SecretStr | None = Field(None, alias="MEDIA_OPERATIONS_TOKEN")
    """Opens ``/metrics`` and the words of ``/readyz``; without it they are open."""
    operations_port: int | None = Field(None, alias="MEDIA_OPERATIONS_PORT", ge=1, le=65535)
    """Where alone operators are answered; without it, on the port of the media too."""
    delivery: Literal["proxy", "redirect", "accel"] = Field("proxy", alias="MEDIA_DELIVERY")
    redirect_life: int = Field(3600, alias="MEDIA_REDIRECT_LIFE", ge=60, le=6 * 86_400)
    """Seconds that a URL lives to which a client is redirected."""
    storage_first: Literal["on", "off"] = Field("on", alias="MEDIA_STORAGE_FIRST")
    graceful_timeout: int = Field(30, alias="MEDIA_GRACEFUL_TIMEOUT", ge=0, le=3600)
    """Seconds that running responses and jobs have to end after the signal to stop."""
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="MEDIA_LOG_LEVEL")
    access_log_every: int = Field(1, alias="MEDIA_ACCESS_LOG_EVERY", ge=1)
    """Of so many requests without an error one is logged."""
    listen_host: str = Field("127.0.0.1", alias="MEDIA_LISTEN_HOST")

    def keys(self) -> dict[str, bytes]:
        """Return the signing keys by kid; the first one signs."""
        pairs = (pair.get_secret_value().partition(":") for pair in self.signing_keys)
        return {kid: secret.encode() for kid, _, secret in pairs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the environment says, read once."""

    gateway: GatewaySettings
    cdn: CdnSettings
    ingest: IngestSettings
    processing: ProcessingSettings
    storage: StorageSettings

    @classmethod
    def load(cls) -> Self:
        """Read the environment and ``.env``.

        Raises:
            ConfigurationError: A value is wrong, missing or contradicts another.
        """
        try:
            settings = cls(
                gateway=GatewaySettings(),
                cdn=CdnSettings(),
                ingest=IngestSettings(),
                processing=ProcessingSettings(),
                storage=StorageSettings(),
            )
        except ValidationError as error:
            raise ConfigurationError(_one_line(error)) from None
        _check_combinations(settings.gateway)
        if (missing := settings.cdn.missing()) is not None:
            raise ConfigurationError(missing)
        if settings.gateway.auth == "off" and not is_loopback(settings.gateway.listen_host):
            raise ConfigurationError("MEDIA_AUTH=off is refused unless the server listens on loopback")
        return settings

    @property
    def queue_url(self) -> str:
        """The database of the job queue: that of the records unless configured."""
        return self.ingest.queue_url or self.storage.records_url


def _check_combinations(settings: GatewaySettings) -> None:
    if settings.mtls != "off" and not (settings.trusted_proxies and settings.mtls_subjects):
        raise ConfigurationError("MEDIA_MTLS: needs MEDIA_TRUSTED_PROXIES and MEDIA_MTLS_SUBJECTS")
    if settings.delivery == "accel" and not settings.trusted_proxies:
        raise ConfigurationError("MEDIA_DELIVERY: accel needs MEDIA_TRUSTED_PROXIES, the networks in which nginx is")
    if (settings.jwt_audience or settings.jwt_issuer) and not (settings.jwt_secret or settings.jwks):
        raise ConfigurationError("MEDIA_JWT_AUDIENCE: needs MEDIA_JWT_SECRET or MEDIA_JWKS")


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach a server that listens there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _one_line(error: ValidationError) -> str:
    """Name the variable and the fault, never the value: it may be a secret."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    fault = first["msg"].removeprefix("Value error, ")
    return f"{name}: {fault}" if name else fault
