"""Two gateways on one database: what one of them changes, the other shows, though it remembers records for minutes."""

from collections.abc import Awaitable, Callable

import httpx

from tests.conftest import Gateway, Provider, StartGateway
from tests.gateway.scene import OpenScene
from tests.running import eventually

FEED = "media_gateway_record_feed_age_seconds "


def follows(gateway: Gateway) -> Callable[[], Awaitable[bool]]:
    """Return what asks whether a gateway knows of all changes."""

    async def ask() -> bool:
        lines = (await gateway.client.get("/metrics")).text.splitlines()
        (age,) = (line.removeprefix(FEED) for line in lines if line.startswith(FEED))
        return float(age) < 1

    return ask


def answers(gateway: Gateway, path: str, status: int) -> Callable[[], Awaitable[bool]]:
    """Return what asks whether a gateway answers so by now."""

    async def ask() -> bool:
        return (await gateway.client.get(path)).status_code == status

    return ask


async def test_what_is_deleted_in_one_gateway_is_gone_in_the_other(
    open_scene: OpenScene, start_gateway: StartGateway, provider: Provider
) -> None:
    async with open_scene() as scene, start_gateway(**provider.variables) as other:
        message = await scene.store(await scene.message())
        await eventually(follows(other))
        assert (await other.client.get(message.path)).status_code == httpx.codes.OK

        assert (await scene.client.delete(message.path)).status_code == httpx.codes.NO_CONTENT

        await eventually(answers(other, message.path, httpx.codes.GONE))
        await eventually(follows(other))


async def test_what_is_registered_in_one_gateway_is_known_to_the_other(
    open_scene: OpenScene, start_gateway: StartGateway, provider: Provider
) -> None:
    async with open_scene() as scene, start_gateway(**provider.variables) as other:
        assert (await other.client.get("/media/messages/new")).status_code == httpx.codes.NOT_FOUND
        message = await scene.store(await scene.message(message_id="new"))

        await eventually(answers(other, message.path, httpx.codes.OK))
