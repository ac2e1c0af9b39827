"""What a page of another origin may read."""

import httpx
import pytest

from tests.gateway.scene import OpenScene, Scene

OURS = "https://chat.example.com"
OTHER = "https://evil.example.com"


async def test_without_configuration_no_page_may_read(scene: Scene) -> None:
    message = await scene.message()
    for method in ("GET", "HEAD", "OPTIONS"):
        response = await scene.client.request(method, message.path, headers={"Origin": OURS})
        assert not [name for name in response.headers if name.startswith("access-control-")]


async def test_a_configured_origin_may_read_and_see_what_the_contract_exposes(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_CORS_ORIGINS=f"{OURS},https://two.example.com") as scene:
        message = await scene.message()
        for method in ("GET", "HEAD"):
            response = await scene.client.request(method, message.path, headers={"Origin": OURS})
            assert response.headers["access-control-allow-origin"] == OURS
            assert exposed(response) >= {"content-range", "accept-ranges", "etag", "content-length"}
            assert response.headers["vary"] == "Origin"
            assert response.headers["cross-origin-resource-policy"] == "cross-origin"


async def test_a_page_sees_errors_too(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_CORS_ORIGINS=OURS) as scene:
        response = await scene.client.get("/media/messages/unknown", headers={"Origin": OURS})
        assert response.status_code == 404
        assert response.headers["access-control-allow-origin"] == OURS


async def test_another_origin_may_not_read(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_CORS_ORIGINS=OURS) as scene:
        message = await scene.message()
        for method in ("GET", "HEAD"):
            response = await scene.client.request(method, message.path, headers={"Origin": OTHER})
            assert "access-control-allow-origin" not in response.headers


async def test_auto_varies_by_both(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_CORS_ORIGINS=OURS) as scene:
        message = await scene.message()
        response = await scene.client.get(f"{message.path}?variant=auto", headers={"Origin": OURS})
        assert response.headers["vary"] == "Accept, Origin"


@pytest.mark.parametrize("header", ["Range", "If-Range", "If-None-Match", "Authorization", "X-API-Key"])
async def test_a_preflight_is_granted_without_a_credential(open_scene: OpenScene, header: str) -> None:
    async with open_scene(MEDIA_CORS_ORIGINS=OURS) as scene:
        response = await preflight(scene, OURS, header)
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == OURS
        assert header.lower() in response.headers["access-control-allow-headers"].lower()
        assert {"GET", "HEAD"} <= set(response.headers["access-control-allow-methods"].split(", "))


async def test_a_preflight_of_another_origin_is_refused_by_silence(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_CORS_ORIGINS=OURS) as scene:
        response = await preflight(scene, OTHER, "Range")
        assert response.status_code == 204
        assert not [name for name in response.headers if name.startswith("access-control-")]
        assert "Origin" in response.headers["vary"]


async def test_any_origin_may_be_allowed(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_CORS_ORIGINS="*") as scene:
        message = await scene.message()
        response = await scene.client.get(message.path, headers={"Origin": OTHER})
        assert response.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in response.headers


async def test_options_names_the_methods_of_a_medium(scene: Scene) -> None:
    response = await scene.nobody.options("/media/messages/any")
    assert response.status_code == 204
    assert response.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PUT"
    assert response.content == b""


def exposed(response: httpx.Response) -> set[str]:
    """Return the headers that a script may read."""
    return {name.strip().lower() for name in response.headers["access-control-expose-headers"].split(",")}


async def preflight(scene: Scene, origin: str, header: str) -> httpx.Response:
    """Ask as a browser does before a request that is not simple."""
    asked = {"Origin": origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": header}
    return await scene.nobody.options("/media/messages/any", headers=asked)
