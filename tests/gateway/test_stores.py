"""Which stores stand before which, by the settings."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.metrics import Metrics
from gateway.stores import open_store
from storage.disk import DiskCachedStore
from storage.settings import StorageSettings

BUCKET = {"MEDIA_STORAGE_BACKEND": "s3", "AWS_S3_BUCKET": "b", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.mark.parametrize(
    ("backend", "size", "cached"),
    [
        pytest.param(BUCKET, "1000000", True, id="a bucket"),
        pytest.param(BUCKET, "0", False, id="no disk for it"),
        pytest.param({}, "1000000", False, id="objects that lie on a disk of the node already"),
    ],
)
async def test_a_disk_stands_before_a_bucket_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: dict[str, str], size: str, *, cached: bool
) -> None:
    for name, value in (backend | KEYS | {"MEDIA_STORAGE_PATH": str(tmp_path), "MEDIA_DISK_CACHE_BYTES": size}).items():
        monkeypatch.setenv(name, value)

    async with open_store(StorageSettings(), Metrics(CollectorRegistry())) as store:
        assert isinstance(store, DiskCachedStore) is cached
