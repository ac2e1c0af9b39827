"""Scenes for HTTP tests: a gateway over a simulated provider, with local files or a bucket."""

import ssl
from collections.abc import AsyncIterator
from functools import partial
from uuid import uuid4

import httpx
import pytest

from storage.layers import Deadlines
from tests.conftest import Provider, StartGateway
from tests.gateway.layers import LAYERS, Layer, open_layer
from tests.gateway.scene import OpenScene, Scene, scenes
from tests.running import NO_TLS

S3_SECRET = "test-s3-secret-access-key"


@pytest.fixture
def s3(moto_url: str) -> dict[str, str]:
    """The environment of a gateway that keeps media in a new bucket."""
    bucket = f"bucket-{uuid4().hex}"
    httpx.put(f"{moto_url}/{bucket}").raise_for_status()
    return {
        "MEDIA_STORAGE_BACKEND": "s3",
        "AWS_S3_BUCKET": bucket,
        "AWS_ENDPOINT_URL_S3": moto_url,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": S3_SECRET,
    }


@pytest.fixture(autouse=True)
def no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare all clients from reading the public authorities: tests speak in plain text."""
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: NO_TLS)


@pytest.fixture(autouse=True)
def patient_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a store for as long as it takes: on a busy machine it is not the store that is slow."""
    monkeypatch.setattr("storage.retrieval.Deadlines", partial(Deadlines, storage_first_byte=30.0, storage_whole=60.0))


@pytest.fixture
def product_deadlines(patient_reads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a store no longer than in production: for tests of a store that never answers."""
    monkeypatch.setattr("storage.retrieval.Deadlines", Deadlines)


@pytest.fixture
def open_scene(start_gateway: StartGateway, provider: Provider) -> OpenScene:
    """Open a scene; keyword arguments are environment variables of the gateway."""
    return scenes(start_gateway, provider)


@pytest.fixture
async def scene(open_scene: OpenScene) -> AsyncIterator[Scene]:
    """A gateway with local files."""
    async with open_scene() as opened:
        yield opened


@pytest.fixture(params=LAYERS)
async def layer(request: pytest.FixtureRequest, open_scene: OpenScene, s3: dict[str, str]) -> AsyncIterator[Layer]:
    """Every layer in turn."""
    async with open_layer(request.param, open_scene, s3) as opened:
        yield opened
