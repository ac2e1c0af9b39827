"""Opens the configured object store behind its policy."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext

from gateway.metrics import Metrics
from storage.disk import DiskCachedStore
from storage.local import LocalStore
from storage.middleware import MeteredStore, RetryingStore
from storage.settings import StorageSettings
from storage.store import ObjectStore


@asynccontextmanager
async def open_store(settings: StorageSettings, metrics: Metrics) -> AsyncIterator[ObjectStore]:
    """Open the configured backend behind its policy."""
    async with AsyncExitStack() as stack:
        store: ObjectStore
        if settings.backend == "local":
            store = LocalStore(settings.path)
        else:
            from gateway.buckets import bucket  # noqa: PLC0415 botocore takes a fifth of a start; only where it is used

            store = await stack.enter_async_context(bucket(settings, metrics))
        metered = MeteredStore(RetryingStore(store), metrics.storage_operation)
        yield await stack.enter_async_context(_cached(metered, settings, metrics))


def _cached(
    store: ObjectStore, settings: StorageSettings, metrics: Metrics
) -> AbstractAsyncContextManager[ObjectStore]:
    if not settings.disk_cache_bytes or settings.backend == "local":  # whose objects lie on a disk of the node already
        return nullcontext(store)
    return DiskCachedStore(store, settings.copies_path, max_bytes=settings.disk_cache_bytes, observer=metrics)
