"""Opens the configured object store behind its policy."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext

from gateway.metrics import Metrics
from storage.disk import DiskCachedStore
from storage.local import LocalStore
from storage.middleware import MeteredStore, RetryingStore
from storage.s3 import Hedging, R2Store, S3Config, S3Store
from storage.settings import StorageSettings
from storage.store import ObjectStore


@asynccontextmanager
async def open_store(settings: StorageSettings, metrics: Metrics) -> AsyncIterator[ObjectStore]:
    """Open the configured backend behind its policy."""
    hedging = Hedging(metrics.storage_hedged)
    async with AsyncExitStack() as stack:
        store: ObjectStore
        if settings.backend == "local":
            store = LocalStore(settings.path)
        elif settings.backend == "s3":
            store = await stack.enter_async_context(S3Store(_s3_config(settings), hedging=hedging))
        else:
            store = await stack.enter_async_context(R2Store(_r2_config(settings), hedging=hedging))
        metered = MeteredStore(RetryingStore(store), metrics.storage_operation)
        yield await stack.enter_async_context(_cached(metered, settings, metrics))


def _cached(
    store: ObjectStore, settings: StorageSettings, metrics: Metrics
) -> AbstractAsyncContextManager[ObjectStore]:
    if not settings.disk_cache_bytes or settings.backend == "local":  # whose objects lie on a disk of the node already
        return nullcontext(store)
    return DiskCachedStore(store, settings.copies_path, max_bytes=settings.disk_cache_bytes, observer=metrics)


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
