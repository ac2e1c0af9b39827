"""Configures the stores that speak S3."""

from gateway.metrics import Metrics
from storage.s3 import Hedging, R2Store, S3Config, S3Store
from storage.settings import StorageSettings


def bucket(settings: StorageSettings, metrics: Metrics) -> S3Store:
    """Return the configured bucket, not opened yet."""
    hedging = Hedging(metrics.storage_hedged)
    if settings.backend == "r2":
        return R2Store(_r2_config(settings), hedging=hedging)
    return S3Store(_s3_config(settings), hedging=hedging)


def _s3_config(settings: StorageSettings) -> S3Config:
    secret, session_token = settings.s3_secret_access_key, settings.s3_session_token
    return S3Config(
        bucket=settings.s3_bucket or "",
        region=settings.s3_region,
        endpoint_url=settings.s3_endpoint,
        access_key_id=settings.s3_access_key_id,
        secret_access_key=secret.get_secret_value() if secret else None,
        session_token=session_token.get_secret_value() if session_token else None,
        addressing_style=settings.s3_addressing_style,
    )


def _r2_config(settings: StorageSettings) -> S3Config:
    secret = settings.r2_secret_access_key
    return S3Config.for_r2(
        account_id=settings.r2_account_id or "",
        bucket=settings.r2_bucket or "",
        access_key_id=settings.r2_access_key_id or "",
        secret_access_key=secret.get_secret_value() if secret else "",
        endpoint_url=settings.r2_endpoint,
    )
