"""What operators ask: liveness, readiness with a word per dependency, and the contract's metrics."""

import re
import sqlite3

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.problems import problem_type
from tests.gateway.scene import OpenScene, Scene
from tests.running import free_port

NAMES = {
    # what the contract asks for: the metric
    "requests by route, method, status and source": "media_gateway_requests",
    "latency by source": "media_gateway_request_duration_seconds",
    "time to first byte by source": "media_gateway_time_to_first_byte_seconds",
    "bytes sent by source": "media_gateway_sent_bytes",
    "ranges served": "media_gateway_ranges_served",
    "storage operations and their latency": "media_gateway_storage_operation_duration_seconds",
    "provider calls": "media_gateway_provider_call_duration_seconds",
    "fallbacks by outcome": "media_gateway_fallbacks",
    "flights open": "media_gateway_flights_open",
    "flights joined": "media_gateway_flights_joined",
    "cache hits": "media_gateway_cache_hits",
    "cache misses": "media_gateway_cache_misses",
    "cache bytes": "media_gateway_cache_bytes",
    "ingest jobs by outcome, and their duration": "media_gateway_ingest_job_duration_seconds",
    "queue depth": "media_gateway_queue_depth",
    "age of the oldest": "media_gateway_queue_oldest_age_seconds",
    "media by status": "media_gateway_media",
    "media that will be lost within 24 hours": "media_gateway_media_expiring",
    "media lost": "media_gateway_media_lost",
    "upstream breakers": "media_gateway_upstream_breaker_open",
    "build info": "media_gateway_build_info",
}
LABELS = {
    "media_gateway_requests": {"route", "method", "status", "source"},
    "media_gateway_request_duration_seconds": {"source"},
    "media_gateway_time_to_first_byte_seconds": {"source"},
    "media_gateway_sent_bytes": {"source"},
    "media_gateway_storage_operation_duration_seconds": {"backend", "operation", "outcome"},
    "media_gateway_provider_call_duration_seconds": {"operation", "outcome"},
    "media_gateway_fallbacks": {"outcome"},
    "media_gateway_queue_depth": {"queue"},
    "media_gateway_media": {"status"},
}


async def families(scene: Scene) -> dict[str, Metric]:
    """Return all metrics by name."""
    response = await scene.nobody.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


async def values(scene: Scene, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a metric by the values of its labels, in the order of their names."""
    family = (await families(scene))[name]
    samples = [sample for sample in family.samples if sample.name in {name, f"{name}_total", f"{name}_count"}]
    return {tuple(sample.labels[label] for label in sorted(sample.labels)): sample.value for sample in samples}


async def test_it_lives(scene: Scene) -> None:
    response = await scene.nobody.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["cache-control"] == "no-store"


async def test_it_is_ready_with_a_word_per_dependency(scene: Scene) -> None:
    response = await scene.nobody.get("/readyz")
    words = {"database": "ok", "queue": "ok", "storage": "ok", "provider": "ok"}
    assert (response.status_code, response.json()) == (200, {"status": "ready", "checks": words})


async def test_without_its_database_it_lives_and_is_not_ready(scene: Scene) -> None:
    with sqlite3.connect(scene.gateway.path / "gateway.db") as database:
        database.execute("DROP TABLE messages")
    response = await scene.nobody.get("/readyz")
    assert (response.status_code, problem_type(response)) == (503, "not-ready")
    assert response.json()["checks"] | {"database": ""} == {
        "database": "",
        "queue": "ok",
        "storage": "ok",
        "provider": "ok",
    }
    assert response.json()["checks"]["database"] == "records-unavailable"
    assert (await scene.nobody.get("/healthz")).status_code == 200


async def test_without_its_storage_it_is_not_ready(open_scene: OpenScene, s3: dict[str, str]) -> None:
    gone = s3 | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{free_port()}"}
    async with open_scene(**gone) as scene:
        response = await scene.nobody.get("/readyz")
        assert (response.status_code, problem_type(response)) == (503, "not-ready")
        assert response.json()["checks"]["storage"] in {"storage-unavailable", "timeout"}
        assert response.json()["checks"]["database"] == "ok"
        assert response.elapsed.total_seconds() < 10


async def test_a_provider_that_is_off_does_not_make_it_unready(scene: Scene) -> None:
    scene.simulator.online = False
    for _ in range(25):
        await scene.client.get((await scene.message()).path)
    response = await scene.nobody.get("/readyz")
    assert response.status_code == 200
    assert response.json()["checks"]["provider"] == "breaker open"
    assert await values(scene, "media_gateway_upstream_breaker_open") == {("default",): 1}


@pytest.mark.parametrize("name", [pytest.param(name, id=title) for title, name in NAMES.items()])
async def test_there_is_a_metric_for(scene: Scene, name: str) -> None:
    assert name in await families(scene)


async def test_units_are_base_units_and_labels_those_of_the_contract(scene: Scene) -> None:
    await scene.client.get((await scene.message()).path)
    for name, family in (await families(scene)).items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert not re.search("_(ms|milliseconds|kb|mb|minutes)$", name)
        assert labels <= LABELS.get(name, labels)
        assert not labels & {"message_id", "path", "url", "key"}


async def test_what_was_served_is_counted_by_source(scene: Scene) -> None:
    message = await scene.store(await scene.message())
    cold = await scene.message()
    await scene.client.get(message.path)
    await scene.client.get(message.path, headers={"Range": "bytes=0-9"})
    await scene.client.get(cold.path)
    await scene.client.head(cold.path)
    assert await values(scene, "media_gateway_sent_bytes") == {("storage",): 1000, ("cache",): 10, ("provider",): 1000}
    assert await values(scene, "media_gateway_ranges_served") == {(): 1}
    assert await values(scene, "media_gateway_cache_hits") == {(): 1}
    assert await values(scene, "media_gateway_cache_misses") == {(): 1}
    assert (await values(scene, "media_gateway_cache_bytes"))[()] >= 1000
    calls = await values(scene, "media_gateway_provider_call_duration_seconds")
    assert calls == {("download", "ok"): 1, ("resolve", "ok"): 1}
    requests = await values(scene, "media_gateway_requests")  # method, route, source, status
    assert requests["GET", "media", "storage", "200"] == 1
    assert requests["GET", "media", "cache", "206"] == 1
    assert requests["GET", "media", "provider", "200"] == 1
    assert requests["HEAD", "media", "provider", "200"] == 1
    assert requests["PUT", "media", "none", "201"] == 2


async def test_a_fallback_is_counted_by_its_outcome(scene: Scene) -> None:
    for deleted in (False, True):
        message = await scene.store(await scene.message())
        (scene.gateway.path / "media" / message.id / message.medium.id).unlink()
        if deleted:
            scene.simulator.delete(message.medium.id)
        await scene.client.get(message.path)
    assert await values(scene, "media_gateway_fallbacks") == {("ok",): 1, ("OriginGone",): 1}


async def test_media_are_counted_by_status(scene: Scene) -> None:
    await scene.store(await scene.message())
    await scene.message()
    counted = await values(scene, "media_gateway_media")
    assert {status: count for status, count in counted.items() if count} == {("completed",): 1, ("pending",): 1}


async def test_labels_are_bounded_whatever_is_asked(scene: Scene) -> None:
    for number in range(20):
        await scene.client.get(f"/media/messages/message-{number}")
        await scene.client.get(f"/nothing-{number}")
        await scene.client.get(f"/media/messages/m/nothing-{number}")
        await scene.client.put(f"/webhooks/whatsapp/workspace-{number}")
    text = (await scene.nobody.get("/metrics")).text
    assert "message-" not in text
    assert "nothing-" not in text
    assert "workspace-" not in text
    routes = {labels[1] for labels in await values(scene, "media_gateway_requests")}
    assert routes == {"media", "webhook", "metrics", "unknown"}


async def test_every_route_has_a_name_of_its_own(scene: Scene) -> None:
    asked = ["/media/messages/m", "/media/messages/m/info", "/media/messages", "/webhooks/whatsapp"]
    for path in [*asked, "/healthz", "/readyz", "/metrics", "/openapi.json"]:
        await scene.client.get(path)
    await scene.client.post("/media/messages/m/url")
    await scene.client.post("/media/messages/m/retry")
    routes = {labels[1] for labels in await values(scene, "media_gateway_requests")}
    media = {"media", "info", "messages", "url", "retry"}
    assert routes == media | {"webhook", "healthz", "readyz", "metrics", "openapi"}


async def test_without_the_database_the_other_metrics_are_still_there(scene: Scene) -> None:
    with sqlite3.connect(scene.gateway.path / "gateway.db") as database:
        database.execute("DROP TABLE messages")
    found = await families(scene)
    assert "media_gateway_requests" in found
    assert "media_gateway_build_info" in found
    assert "media_gateway_media" not in found
