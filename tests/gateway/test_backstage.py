"""Operators behind a token, or on a port of their own."""

import httpx
import pytest

from tests.gateway.problems import problem_type
from tests.gateway.scene import OpenScene
from tests.running import free_port

TOKEN = "operators-token"


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN])
async def test_metrics_are_closed_without_the_operators_token(open_scene: OpenScene, given: str | None) -> None:
    async with open_scene(MEDIA_OPERATIONS_TOKEN=TOKEN) as scene:
        answer = await scene.nobody.get("/metrics", headers={} if given is None else {"Authorization": given})
        expected = (401, "unauthorized") if given is None else (403, "forbidden")
        assert (answer.status_code, problem_type(answer)) == expected
        assert "media_gateway" not in answer.text


async def test_the_token_opens_metrics_and_the_words_of_readiness(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_OPERATIONS_TOKEN=TOKEN) as scene:
        headers = {"Authorization": f"bearer {TOKEN}"}
        assert "media_gateway_build_info" in (await scene.nobody.get("/metrics", headers=headers)).text
        assert "checks" in (await scene.nobody.get("/readyz", headers=headers)).json()
        assert (await scene.nobody.get("/readyz")).json() == {"status": "ready"}
        assert (await scene.nobody.get("/healthz")).status_code == 200


async def test_the_api_key_is_no_operators_token(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_OPERATIONS_TOKEN=TOKEN) as scene:
        assert (await scene.client.get("/metrics")).status_code == 401


async def test_operators_can_have_a_port_of_their_own(open_scene: OpenScene) -> None:
    port = free_port()
    async with open_scene(MEDIA_OPERATIONS_PORT=str(port)) as scene:
        inside = f"http://127.0.0.1:{port}"
        for path in ("/metrics", "/readyz"):
            assert (await scene.nobody.get(f"{inside}{path}")).status_code == 200
            outside = await scene.nobody.get(path)
            assert (outside.status_code, problem_type(outside)) == (404, "not-found")
        message = await scene.message()
        assert (await scene.client.get(f"{inside}{message.path}")).status_code == 404
        assert (await scene.client.get(message.path)).status_code == 200
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{inside}/metrics")
