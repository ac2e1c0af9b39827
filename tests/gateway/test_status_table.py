"""The contract's table of situations: each has its status, its type, and a document that gives nothing away."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest

from ingest.simulator import Body, Faults, GraphCode, Outage, Redirect, SyntheticContent, Transport
from storage.database import open_engine
from storage.record import NewMessage
from storage.records import Records
from tests.gateway.problems import problem_type
from tests.gateway.scene import Message, OpenScene, Scene
from tests.running import free_port

Situation = Callable[[Scene], Awaitable[httpx.Response]]
Expected = tuple[int, str, bool]
UNAUTHORIZED: Expected = (401, "unauthorized", False)
FORBIDDEN: Expected = (403, "forbidden", False)
NOT_FOUND: Expected = (404, "not-found", False)
DELETED: Expected = (410, "deleted", False)
EXPIRED: Expected = (410, "media-expired", False)
BUSY: Expected = (503, "provider-busy", True)


def provider_has(**faults: object) -> Situation:
    """Ask for a medium with which something is wrong at the provider."""

    async def situation(scene: Scene) -> httpx.Response:
        return await scene.client.get((await scene.message(faults=Faults(**faults))).path)  # type: ignore[arg-type] # of many types

    return situation


def graph(code: GraphCode) -> Situation:
    """Ask for a medium that the provider's API answers with an error."""
    return provider_has(graph_error=code)


async def nobody_asks(scene: Scene) -> httpx.Response:
    return await scene.nobody.get((await scene.message()).path)


async def a_wrong_key(scene: Scene) -> httpx.Response:
    return await scene.client.get((await scene.message()).path, headers={"X-API-Key": "wrong"})


async def a_forged_signature(scene: Scene) -> httpx.Response:
    message = await scene.message()
    return await scene.nobody.get(f"{message.path}?exp=99999999999&kid=k1&sig={'A' * 43}")


async def an_unknown_message(scene: Scene) -> httpx.Response:
    return await scene.client.get("/media/messages/unknown")


async def a_message_without_media(scene: Scene) -> httpx.Response:
    return await bare(scene, error=None)


async def what_the_provider_could_not_deliver(scene: Scene) -> httpx.Response:
    return await bare(scene, error="provider-undeliverable")


async def bare(scene: Scene, error: str | None) -> httpx.Response:
    """Ask for a message without a provider's id, as a webhook may announce it."""
    engine = open_engine(f"sqlite:///{scene.gateway.path / 'gateway.db'}")
    new = NewMessage(message_id=uuid4().hex, workspace_id="default", provider_media_id=None, error=error)
    await Records(engine).add([new])
    await engine.dispose()
    return await scene.client.get(f"/media/messages/{new.message_id}")


async def a_deleted_message(scene: Scene) -> httpx.Response:
    message = await scene.store(await scene.message())
    assert (await scene.client.delete(message.path)).status_code == 204
    return await scene.client.get(message.path)


async def an_id_that_the_provider_never_had(scene: Scene) -> httpx.Response:
    await scene.client.put("/media/messages/m", json={"provider_media_id": "404", "ingest": False})
    return await scene.client.get("/media/messages/m")


async def an_id_of_last_week(scene: Scene) -> httpx.Response:
    message = await scene.message()
    scene.simulator.advance(timedelta(days=8))
    return await scene.client.get(message.path)


async def a_provider_that_hangs_up(scene: Scene) -> httpx.Response:
    scene.simulator.online, scene.simulator.outage = False, Outage.DISCONNECT
    return await scene.client.get((await scene.message()).path)


async def a_provider_that_is_off(scene: Scene) -> httpx.Response:
    scene.simulator.online = False
    return await scene.client.get((await scene.message()).path)


async def more_than_whatsapp_ever_carries(scene: Scene) -> httpx.Response:
    message = await scene.message(SyntheticContent(100 * 1024**2 + 1), "video/mp4")
    return await scene.client.get(message.path)


async def an_account_that_nobody_configured(scene: Scene) -> httpx.Response:
    return await scene.client.get((await scene.message(workspace_id="other")).path)


SITUATIONS: list[tuple[str, Situation, Expected]] = [
    ("no credential", nobody_asks, UNAUTHORIZED),
    ("a bad API key", a_wrong_key, FORBIDDEN),
    ("a bad signature", a_forged_signature, FORBIDDEN),
    ("unknown message", an_unknown_message, NOT_FOUND),
    ("a message without media", a_message_without_media, NOT_FOUND),
    ("deleted", a_deleted_message, DELETED),
    ("the provider never had it", an_id_that_the_provider_never_had, EXPIRED),
    ("the provider no longer has it", an_id_of_last_week, EXPIRED),
    ("the provider could not deliver it", what_the_provider_could_not_deliver, EXPIRED),
    ("code 803", graph(GraphCode.ALIAS_UNKNOWN), EXPIRED),
    ("a rate limit of the app", graph(GraphCode.APP_RATE_LIMIT), BUSY),
    ("a rate limit of the account", graph(GraphCode.WABA_RATE_LIMIT), BUSY),
    ("a rate limit of the number", graph(GraphCode.THROUGHPUT), BUSY),
    ("429 of the download host", provider_has(download_error=429, retry_after=7), BUSY),
]
FAILURES: list[tuple[str, Situation]] = [
    ("the token is refused", graph(GraphCode.TOKEN_EXPIRED)),
    ("no permission", graph(GraphCode.PERMISSION_DENIED)),
    ("no account", an_account_that_nobody_configured),
    ("the API fails", graph(GraphCode.SOMETHING_WRONG)),
    ("maintenance", graph(GraphCode.MAINTENANCE)),
    ("the download host fails", provider_has(download_error=500)),
    ("off", a_provider_that_is_off),
    ("no answer at all", a_provider_that_hangs_up),
    ("HTML with 200", provider_has(body=Body.HTML)),
    ("two different sizes", provider_has(file_size_error=1)),
    ("a redirect inward", provider_has(redirect=Redirect.INWARD)),
    ("a redirect for ever", provider_has(redirect=Redirect.LOOP)),
    ("more than 100 MB", more_than_whatsapp_ever_carries),
]
SITUATIONS += [(title, situation, (502, "provider-error", True)) for title, situation in FAILURES]


@pytest.mark.parametrize(("situation", "expected"), [pytest.param(*row[1:], id=row[0]) for row in SITUATIONS])
async def test_a_situation_has_its_status_and_type(scene: Scene, situation: Situation, expected: Expected) -> None:
    response = await situation(scene)
    status, kind, retry_after = expected
    assert (response.status_code, problem_type(response)) == (status, kind)
    if retry_after and status == 503:
        assert int(response.headers["retry-after"]) > 0
    if status == 410:
        assert "retry-after" not in response.headers


async def test_a_provider_that_is_too_slow_is_a_gateway_timeout(scene: Scene) -> None:
    silent = [Faults(resolve_silent=True), Faults(transport=Transport.SILENT)]
    answers = await asyncio.gather(*(provider_has_faults(scene, faults) for faults in silent))
    for response in answers:
        assert (response.status_code, problem_type(response)) == (504, "provider-timeout")
        assert response.elapsed.total_seconds() < 25  # a CDN asks again after 30


async def provider_has_faults(scene: Scene, faults: Faults) -> httpx.Response:
    """Ask for a medium with faults."""
    return await scene.client.get((await scene.message(faults=faults)).path)


async def test_a_rate_limit_says_when_to_come_back(scene: Scene) -> None:
    faults = Faults(graph_error=GraphCode.WABA_RATE_LIMIT, regain_minutes=2)
    response = await provider_has_faults(scene, faults)
    assert 100 <= int(response.headers["retry-after"]) <= 180


async def test_what_is_frozen_says_so(open_scene: OpenScene, s3: dict[str, str], moto_url: str) -> None:
    async with open_scene(**s3) as scene:
        message = await scene.store(await scene.message())
        scene.simulator.delete(message.medium.id)
        key = f"{moto_url}/{s3['AWS_S3_BUCKET']}/media/{message.id}/{message.medium.id}"
        async with httpx.AsyncClient() as client:
            headers = {"Authorization": "AWS AKIDEXAMPLE:any", "x-amz-storage-class": "GLACIER"}
            (await client.put(key, content=message.body, headers=headers)).raise_for_status()
        response = await scene.client.get(message.path)
        assert (response.status_code, problem_type(response)) == (503, "media-frozen")
        assert int(response.headers["retry-after"]) > 0


async def down(scene: Scene, s3: dict[str, str], moto_url: str) -> Message:
    """Store a message where its gateway does not reach it."""
    return await scene.store(await scene.message(), **s3, AWS_ENDPOINT_URL_S3=moto_url)


async def test_while_storage_is_down_the_provider_answers(open_scene: OpenScene, s3: dict[str, str]) -> None:
    moto_url = s3.pop("AWS_ENDPOINT_URL_S3")
    endpoint = f"http://127.0.0.1:{free_port()}"
    async with open_scene(**s3, AWS_ENDPOINT_URL_S3=endpoint, MEDIA_CACHE_BYTES="0") as scene:
        message = await down(scene, s3, moto_url)
        whole = await scene.client.get(message.path)
        part = await scene.client.get(message.path, headers={"Range": "bytes=0-9"})
        assert (whole.status_code, whole.headers["x-media-source"], whole.content) == (200, "provider", message.body)
        assert (part.status_code, part.headers["x-media-source"]) == (206, "provider")


@pytest.mark.usefixtures("product_deadlines")
async def test_while_storage_is_silent_the_provider_answers_in_time(open_scene: OpenScene, s3: dict[str, str]) -> None:
    moto_url = s3.pop("AWS_ENDPOINT_URL_S3")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with open_scene(**s3, AWS_ENDPOINT_URL_S3=endpoint, MEDIA_CACHE_BYTES="0") as scene:
            message = await down(scene, s3, moto_url)
            response = await scene.client.get(message.path)
            assert (response.status_code, response.headers["x-media-source"]) == (200, "provider")
            assert response.elapsed.total_seconds() < 10


async def test_what_only_a_broken_storage_has_is_not_called_expired(open_scene: OpenScene, s3: dict[str, str]) -> None:
    moto_url = s3.pop("AWS_ENDPOINT_URL_S3")
    async with open_scene(**s3, AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{free_port()}") as scene:
        message = await down(scene, s3, moto_url)
        scene.simulator.delete(message.medium.id)
        response = await scene.client.get(message.path)
        assert (response.status_code, problem_type(response)) == (503, "storage-unavailable")
        assert int(response.headers["retry-after"]) > 0


async def test_an_object_that_is_lost_comes_from_the_provider_or_is_gone(scene: Scene) -> None:
    message = await scene.store(await scene.message())
    stored = scene.gateway.path / "media" / message.id / message.medium.id
    stored.unlink()
    response = await scene.client.get(message.path)
    assert (response.status_code, response.headers["x-media-source"]) == (200, "provider")
    lost = await scene.store(await scene.message())
    (scene.gateway.path / "media" / lost.id / lost.medium.id).unlink()
    scene.simulator.delete(lost.medium.id)
    response = await scene.client.get(lost.path)
    assert (response.status_code, problem_type(response)) == (410, "media-expired")


async def test_what_another_backend_holds_comes_from_the_provider_and_switching_back_loses_nothing(
    open_scene: OpenScene, s3: dict[str, str]
) -> None:
    async with open_scene() as scene:
        message = await scene.store(await scene.message())
    async with open_scene(**s3) as scene:
        response = await scene.client.get(message.path)
        assert (response.headers["x-media-source"], response.content) == ("provider", message.body)
    async with open_scene() as scene:
        response = await scene.client.get(message.path)
        assert (response.headers["x-media-source"], response.content) == ("storage", message.body)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        pytest.param("GET", "/", 404, "not-found", id="nothing here"),
        pytest.param("GET", "/media/messages/a/b", 404, "not-found", id="nothing below"),
        pytest.param("POST", "/media/messages/a", 405, "method-not-allowed", id="9110-15.5.6 POST"),
        pytest.param("PATCH", "/media/messages/a", 405, "method-not-allowed", id="9110-15.5.6 PATCH"),
        pytest.param("GET", "/media/messages/a?variant=huge", 400, "bad-request", id="no such variant"),
        pytest.param("GET", f"/media/messages/a?{'x=1&' * 101}", 400, "bad-request", id="too many parameters"),
        pytest.param("GET", f"/media/messages/a?x={'1' * 5000}", 400, "bad-request", id="too long a query"),
    ],
)
async def test_other_errors_are_problem_documents_too(
    scene: Scene, method: str, path: str, status: int, kind: str
) -> None:
    response = await scene.client.request(method, path)
    assert (response.status_code, problem_type(response)) == (status, kind)


async def test_a_range_that_cannot_be_is_a_problem_document(scene: Scene) -> None:
    response = await scene.client.get((await scene.message()).path, headers={"Range": "bytes=5000-"})
    assert (response.status_code, problem_type(response)) == (416, "range-not-satisfiable")


@pytest.mark.parametrize(
    ("situation", "status"),
    [
        (an_unknown_message, 404),
        (a_deleted_message, 410),
        (what_the_provider_could_not_deliver, 410),
        (nobody_asks, 401),
    ],
)
async def test_a_head_has_the_status_and_the_headers_of_the_get_and_no_body(
    scene: Scene, situation: Situation, status: int
) -> None:
    get = await situation(scene)
    head = await (scene.nobody if status == 401 else scene.client).head(get.url)
    assert head.status_code == get.status_code == status
    assert head.content == b""
    varying = {"date", "x-request-id", "content-length"}
    assert {name: head.headers[name] for name in head.headers if name not in varying} == {
        name: get.headers[name] for name in get.headers if name not in varying
    }
