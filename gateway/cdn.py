"""The CDN in front of the gateway: the CDN part of the environment, and what is built from it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.cloudflare import TimedHmac
from gateway.minting import CloudflareEdge, CloudFrontEdge, Edge
from ingest.cdn.cloudflare import API_URL, CloudflarePurge
from ingest.cdn.purge import Purger


class CdnSettings(BaseSettings):
    """CloudFront or Cloudflare, how to sign for it and how to purge it; every alias is an environment variable."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore")

    cdn: Literal["cloudfront", "cloudflare"] | None = Field(None, alias="MEDIA_CDN")
    url: str = Field("", alias="MEDIA_CDN_URL", pattern=r"^(https?://[^/?#\s]+/?)?$")
    key_id: str | None = Field(None, alias="MEDIA_CDN_KEY_ID")
    private_key: SecretStr | None = Field(None, alias="MEDIA_CDN_PRIVATE_KEY")
    """CloudFront's: PEM, or ``file:`` and a path."""
    digest: Literal["sha1", "sha256"] = Field("sha256", alias="MEDIA_CDN_DIGEST")
    secret: SecretStr | None = Field(None, alias="MEDIA_CDN_SECRET")
    """Cloudflare's, of token authentication."""
    token_lifetime: int = Field(3600, alias="MEDIA_CDN_TOKEN_LIFETIME", ge=1, le=7 * 86_400)
    """Seconds, as in the zone's rule."""
    distribution: str | None = Field(None, alias="MEDIA_CDN_DISTRIBUTION")
    endpoint_url: str | None = Field(None, alias="MEDIA_CDN_ENDPOINT_URL", pattern=r"^https?://")
    """Of the vendor's API, where it is another than the real one."""
    zone: str | None = Field(None, alias="MEDIA_CDN_ZONE")
    api_token: SecretStr | None = Field(None, alias="MEDIA_CDN_API_TOKEN")
    purge_by: Literal["path", "tag"] | None = Field(None, alias="MEDIA_CDN_PURGE")
    """CloudFront by path, Cloudflare by tag unless configured."""
    access_key_id: str | None = Field(None, alias="AWS_ACCESS_KEY_ID")
    secret_access_key: SecretStr | None = Field(None, alias="AWS_SECRET_ACCESS_KEY")
    session_token: SecretStr | None = Field(None, alias="AWS_SESSION_TOKEN")

    def missing(self) -> str | None:
        """Return one line that names the variable that is missing or wrong, or None."""
        if self.cdn is None:
            return None
        if not self.url:
            return "MEDIA_CDN_URL: is needed for MEDIA_CDN"
        if (self.key_id is None) != (self.private_key is None):
            return "MEDIA_CDN_KEY_ID: needs MEDIA_CDN_PRIVATE_KEY, and the other way round"
        try:
            self.edge()
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            return f"MEDIA_CDN_{'PRIVATE_KEY' if self.cdn == 'cloudfront' else 'SECRET'}: {reason}"
        return None

    def edge(self) -> Edge | None:
        """Return what signs URLs for the CDN, or None where it checks nobody.

        Raises:
            ValueError: The key is none.
            OSError: Its file cannot be read.
        """
        if self.cdn == "cloudfront":
            return self.cloudfront()
        if self.cdn == "cloudflare" and self.secret is not None:
            token = TimedHmac(self.secret.get_secret_value().encode(), lifetime=self.token_lifetime)
            return CloudflareEdge(token, self.url, lifetime=self.token_lifetime)
        return None

    def cloudfront(self) -> CloudFrontEdge | None:
        """Return what signs for CloudFront, or None where that is not configured; raises like `edge`."""
        if self.cdn != "cloudfront" or self.key_id is None or self.private_key is None:
            return None
        from gateway.cloudfront import CloudFrontSigner  # noqa: PLC0415 cryptography; only where it is used

        pem = _pem(self.private_key.get_secret_value())
        return CloudFrontEdge(CloudFrontSigner(self.key_id, pem, self.digest), self.url)


def _pem(text: str) -> bytes:
    if text.startswith("file:"):
        return Path(text.removeprefix("file:")).read_bytes()
    return text.replace("\\n", "\n").encode()  # as environment files write line ends


@asynccontextmanager
async def open_purger(settings: CdnSettings) -> AsyncIterator[Purger | None]:
    """Open what has the CDN forget; None where it cannot be told to."""
    if settings.cdn == "cloudfront" and settings.distribution is not None:
        from ingest.cdn.cloudfront import CloudFrontInvalidation  # noqa: PLC0415 botocore; only where it is used

        async with CloudFrontInvalidation(
            settings.distribution,
            by_tag=settings.purge_by == "tag",
            access_key_id=settings.access_key_id,
            secret_access_key=_secret(settings.secret_access_key),
            session_token=_secret(settings.session_token),
            endpoint_url=settings.endpoint_url,
        ) as invalidation:
            yield invalidation
    elif settings.cdn == "cloudflare" and settings.zone is not None and settings.api_token is not None:
        host = urlsplit(settings.url).hostname if settings.purge_by == "path" else None
        base = settings.endpoint_url or API_URL
        token = settings.api_token.get_secret_value()
        async with CloudflarePurge(settings.zone, token, host=host, base_url=base) as purge:
            yield purge
    else:
        yield None


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value is not None else None
