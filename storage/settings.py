"""Where bytes and facts are kept: the storage part of the environment."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError


def _database_url(text: str) -> str:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # whose message quotes a part of the URL
        raise ValueError("is not a database URL") from None
    backend = url.get_backend_name()
    if backend not in {"sqlite", "postgresql", "postgres"}:
        raise ValueError("must begin with sqlite:/// or postgresql://")
    if backend == "sqlite" and url.database in {None, "", ":memory:"}:
        raise ValueError("must name a file: processes share the database")
    return text.replace("postgres://", "postgresql://", 1)


DatabaseUrl = Annotated[str, AfterValidator(_database_url)]


class StorageSettings(BaseSettings):
    """Backends, database and cache; every field's alias is its environment variable."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore")

    backend: Literal["local", "s3", "r2"] = Field("local", alias="MEDIA_STORAGE_BACKEND")
    path: Path = Field(Path(".media"), alias="MEDIA_STORAGE_PATH")
    database_url: DatabaseUrl | None = Field(None, alias="MEDIA_DATABASE_URL", repr=False)
    cache_bytes: int = Field(64 * 1024**2, alias="MEDIA_CACHE_BYTES", ge=0)
    cache_item_bytes: int = Field(4 * 1024**2, alias="MEDIA_CACHE_ITEM_BYTES", ge=0)
    disk_cache_bytes: int = Field(0, alias="MEDIA_DISK_CACHE_BYTES", ge=0)
    disk_cache_path: Path | None = Field(None, alias="MEDIA_DISK_CACHE_PATH")

    s3_bucket: str | None = Field(None, alias="AWS_S3_BUCKET")
    s3_access_key_id: str | None = Field(None, alias="AWS_ACCESS_KEY_ID")
    s3_secret_access_key: SecretStr | None = Field(None, alias="AWS_SECRET_ACCESS_KEY")
    s3_session_token: SecretStr | None = Field(None, alias="AWS_SESSION_TOKEN")
    s3_region: str = Field("us-east-1", alias="AWS_REGION")
    s3_endpoint: str | None = Field(None, alias="AWS_ENDPOINT_URL_S3")
    s3_addressing_style: Literal["auto", "path", "virtual"] = Field("auto", alias="MEDIA_S3_ADDRESSING_STYLE")

    r2_account_id: str | None = Field(None, alias="R2_ACCOUNT_ID")
    r2_access_key_id: str | None = Field(None, alias="R2_ACCESS_KEY_ID")
    r2_secret_access_key: SecretStr | None = Field(None, alias="R2_SECRET_ACCESS_KEY")
    r2_bucket: str | None = Field(None, alias="R2_BUCKET")
    r2_endpoint: str | None = Field(None, alias="R2_ENDPOINT")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Name the variable that a chosen backend misses."""
        missing = {
            "local": (),
            "s3": (("AWS_S3_BUCKET", self.s3_bucket),),
            "r2": (
                ("R2_BUCKET", self.r2_bucket),
                ("R2_ACCESS_KEY_ID", self.r2_access_key_id),
                ("R2_SECRET_ACCESS_KEY", self.r2_secret_access_key),
                ("R2_ACCOUNT_ID", self.r2_account_id or self.r2_endpoint),
            ),
        }[self.backend]
        for name, value in missing:
            if not value:
                raise ValueError(f"{name} is needed for MEDIA_STORAGE_BACKEND={self.backend}")
        return self

    @model_validator(mode="after")
    def _item_fits(self) -> Self:
        """Refuse a body limit beyond the memory there is; its default, and a cache that is off, bind nobody."""
        if "cache_item_bytes" in self.model_fields_set and 0 < self.cache_bytes < self.cache_item_bytes:
            raise ValueError("MEDIA_CACHE_ITEM_BYTES must not be larger than MEDIA_CACHE_BYTES")
        return self

    @property
    def records_url(self) -> str:
        """The database of records: SQLite below the storage path unless configured."""
        return self.database_url or f"sqlite:///{(self.path / 'gateway.db').absolute()}"

    @property
    def spool_path(self) -> Path:
        """The folder that flights fill, shared by all processes of the node."""
        return self.path / "spool"

    @property
    def copies_path(self) -> Path:
        """The folder of copies of a far store's objects, shared by all processes of the node."""
        return self.disk_cache_path or self.path / "cache"

    @property
    def scratch_path(self) -> Path:
        """The folder of files that are being processed."""
        return self.path / "scratch"
