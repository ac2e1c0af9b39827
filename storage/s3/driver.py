"""Opens what botocore is for: writes and everything rare, and credentials that are to be found. Loaded only then."""

from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session

from storage.s3.config import S3Config

REQUEST_ATTEMPTS: Final = 2  # within one operation: it may take many requests, and one of them meets a 503
WRITE_CONNECTIONS: Final = 32


def open_session(config: S3Config) -> AioSession:
    """Return a session with the configured credentials, or one that looks for them."""
    session = get_session()
    if config.access_key_id and config.secret_access_key:
        session.set_credentials(config.access_key_id, config.secret_access_key, config.session_token)
    return session


def trusted_authorities(session: AioSession) -> str | None:
    """Return the file of certificates that botocore is told to trust: reads must not fail where writes work."""
    configured: str | None = session.get_config_variable("ca_bundle")
    return configured


def load_model(session: AioSession) -> None:
    """Read the description of the service, several megabytes, and keep it; blocking, unlike `open_client`."""
    loader = session.get_component("data_loader")
    for part in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("s3", part)
    for table in ("partitions", "endpoints"):
        loader.load_data(table)


def open_client(session: AioSession, config: S3Config) -> AbstractAsyncContextManager[Any]:
    """Return the client of a bucket, not opened yet."""
    checksums = "when_supported" if config.on_aws else "when_required"  # R2 and others refuse the newer ones
    options = AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": "path" if config.path_style else "virtual"},
        connect_timeout=config.connect_timeout,
        read_timeout=config.read_timeout,
        max_pool_connections=WRITE_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": REQUEST_ATTEMPTS},
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
    )
    client: AbstractAsyncContextManager[Any] = session.create_client(
        "s3", region_name=config.region, endpoint_url=config.endpoint, config=options
    )
    return client
