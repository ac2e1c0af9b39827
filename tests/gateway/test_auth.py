"""Who may do what: everything is refused without a credential that opens it."""

import httpx
import pytest

from gateway.auth import Gatekeeper, Presented
from gateway.errors import Forbidden, Unauthorized
from gateway.settings import ConfigurationError
from gateway.signing import Signer
from tests.gateway.problems import problem_type
from tests.gateway.scene import OpenScene, Scene
from tests.running import API_KEY, settings_for

GUARDED = [
    ("GET", "/media/messages/m"),
    ("HEAD", "/media/messages/m"),
    ("PUT", "/media/messages/m"),
    ("DELETE", "/media/messages/m"),
    ("GET", "/media/messages/m/info"),
    ("HEAD", "/media/messages/m/info"),
    ("POST", "/media/messages/m/url"),
    ("POST", "/media/urls"),
    ("GET", "/media/messages/m/hls/f"),
    ("HEAD", "/media/messages/m/hls/f"),
    ("POST", "/media/messages/m/retry"),
    ("GET", "/media/messages"),
    ("HEAD", "/media/messages"),
    ("POST", "/webhooks/whatsapp"),
]
OPEN = ["/healthz", "/readyz", "/metrics", "/openapi.json"]
UNKNOWN_KEYS = [
    pytest.param("wrong", id="another"),
    pytest.param("", id="empty"),
    pytest.param(API_KEY.upper(), id="in other case"),
    pytest.param(API_KEY[:-1], id="a part"),
    pytest.param(API_KEY + "x", id="more"),
    pytest.param(f"{API_KEY}, {API_KEY}", id="twice"),
    pytest.param(b"\xff\xfe", id="no ASCII"),
]


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_without_a_credential_a_route_is_closed(scene: Scene, method: str, path: str) -> None:
    response = await scene.nobody.request(method, path)
    assert response.status_code == 401
    assert method == "HEAD" or problem_type(response) == "unauthorized"
    assert "www-authenticate" in response.headers  # RFC 9110 section 15.5.2


@pytest.mark.parametrize("key", UNKNOWN_KEYS)
async def test_an_unknown_key_opens_nothing(scene: Scene, key: str | bytes) -> None:
    message = await scene.message()
    for method, path in GUARDED[:-1]:
        headers = httpx.Headers([(b"X-API-Key", key if isinstance(key, bytes) else key.encode())])
        response = await scene.nobody.request(method, path.replace("/m", f"/{message.id}", 1), headers=headers)
        assert response.status_code in {403, 404}
        assert (await scene.nobody.request(method, path, headers=headers)).status_code == 403


async def test_a_stranger_cannot_tell_whether_a_message_exists(scene: Scene) -> None:
    message = await scene.message()
    deleted = await scene.message()
    await scene.client.delete(deleted.path)
    answers = [await scene.nobody.get(path) for path in (message.path, deleted.path, "/media/messages/unknown")]
    assert {answer.status_code for answer in answers} == {401}
    wrong = {"X-API-Key": "wrong"}
    answers = [await scene.nobody.get(path, headers=wrong) for path in (message.path, deleted.path)]
    assert {answer.status_code for answer in answers} == {403}


@pytest.mark.parametrize("path", OPEN)
async def test_operators_need_no_credential(scene: Scene, path: str) -> None:
    assert (await scene.nobody.get(path)).status_code == 200
    assert (await scene.nobody.head(path)).status_code == 200


async def test_every_route_is_either_guarded_or_open(scene: Scene) -> None:
    """A route that is added is missed here first."""
    known = {
        path.replace("/messages/m", "/messages/{message_id}").replace("/hls/f", "/hls/{file}") for _, path in GUARDED
    } | set(OPEN)
    document = (await scene.nobody.get("/openapi.json")).json()
    assert set(document["paths"]) - {"/webhooks/whatsapp/{workspace_id}"} == known


async def test_several_keys_are_valid_at_once(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_API_KEYS=f"{API_KEY},second") as scene:
        message = await scene.message()
        for key in (API_KEY, "second"):
            assert (await scene.nobody.get(message.path, headers={"X-API-Key": key})).status_code == 200


async def test_without_keys_nobody_is_the_host(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_API_KEYS="") as scene:
        for key in ("", API_KEY):
            response = await scene.nobody.get("/media/messages", headers={"X-API-Key": key})
            assert response.status_code == 403


async def test_a_good_signature_opens_beside_a_wrong_key_and_a_good_key_beside_a_wrong_signature(scene: Scene) -> None:
    message = await scene.message()
    url = scene.gateway.signer.mint(message.id).url
    assert (await scene.nobody.get(url, headers={"X-API-Key": "wrong"})).status_code == 200
    assert (await scene.client.get(f"{message.path}?exp=1&kid=k1&sig=wrong")).status_code == 200


async def test_it_may_be_switched_off_on_loopback(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_AUTH="off") as scene:
        message = await scene.message()
        assert (await scene.nobody.get(message.path)).status_code == 200
        assert (await scene.nobody.get("/media/messages")).status_code == 200


def test_it_may_not_be_switched_off_elsewhere(tmp_path: object) -> None:
    with pytest.raises(ConfigurationError, match="MEDIA_AUTH"):
        settings_for(tmp_path, MEDIA_AUTH="off", MEDIA_LISTEN_HOST="0.0.0.0")  # type: ignore[arg-type] # noqa: S104 a path


def test_a_gatekeeper_tells_no_credential_from_a_wrong_one() -> None:
    gatekeeper = Gatekeeper(Signer({}, public_url=""), ["right"])
    assert gatekeeper.host(Presented(api_key="right")).kind == "api-key"
    with pytest.raises(Unauthorized):
        gatekeeper.host(Presented())
    with pytest.raises(Forbidden):
        gatekeeper.host(Presented(api_key=""))
