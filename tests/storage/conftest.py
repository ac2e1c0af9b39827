"""Real places to store objects in: files, and the HTTP server of moto under a plain address and under AWS's names."""

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from aiobotocore.session import AioSession
from botocore.loaders import Loader

from storage.s3 import S3Config

MakeFile = Callable[[bytes], Path]

REGION = "us-east-1"
AWS_HOST = f"s3.{REGION}.amazonaws.com"


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Write a file that is not in the store."""

    def make(content: bytes) -> Path:
        path = tmp_path / f"{uuid4().hex}.bin"
        path.write_bytes(content)
        return path

    return make


@pytest.fixture
def bucket(moto_url: str) -> str:
    """A new, empty bucket."""
    name = f"bucket-{uuid4().hex}"
    httpx.put(f"{moto_url}/{name}").raise_for_status()
    return name


@pytest.fixture
def s3_config(moto_url: str, bucket: str) -> S3Config:
    return S3Config(
        bucket=bucket,
        region=REGION,
        endpoint_url=moto_url,
        access_key_id="AKIDEXAMPLE",
        secret_access_key="wJalrXUtnFEMI/K7MDENG",
        page_size=2,
    )


@pytest.fixture
def aws_endpoint(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Moto under the host names of AWS, where the bucket is part of the host."""
    port = urlsplit(moto_url).port
    resolve = socket.getaddrinfo

    def loopback(host: str, *args: object, **kwargs: object) -> object:
        return resolve("127.0.0.1" if str(host).endswith(AWS_HOST) else host, *args, **kwargs)  # type: ignore[arg-type] # passed through

    monkeypatch.setattr(socket, "getaddrinfo", loopback)
    return f"http://{AWS_HOST}:{port}"


@pytest.fixture
def pending_uploads(moto_url: str, bucket: str) -> Callable[[], list[str]]:
    """What the bucket knows of multipart uploads that neither ended nor were aborted."""

    def uploads() -> list[str]:
        return re.findall("<UploadId>(.+?)</UploadId>", httpx.get(f"{moto_url}/{bucket}?uploads").text)

    return uploads


@pytest.fixture(scope="session")
def s3_description() -> Loader:
    """Botocore's description of S3: half a second to read, so it is read once for all tests."""
    return AioSession().get_component("data_loader")


@pytest.fixture(autouse=True)
def aws_session(s3_description: Loader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep credentials and settings of this machine out of the tests."""

    def session() -> AioSession:
        made = AioSession()
        made.register_component("data_loader", s3_description)
        return made

    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setattr("storage.s3.driver.get_session", session)
