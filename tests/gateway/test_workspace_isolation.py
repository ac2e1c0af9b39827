"""Two workspaces with a provider each, on real sockets: whatever one of them does, the other's media are served."""

import asyncio
from pathlib import Path

import pytest

from ingest.simulator import BusinessNumber, Faults, GraphCode, Outage, Profile, Simulator, Transport
from storage.flights import MAX_FLIGHTS
from tests.gateway.problems import problem_type
from tests.gateway.scene import OpenScene
from tests.gateway.tenants import ACCESS_TOKEN, NUMBER, tenancy
from tests.running import until

DEFAULT_BREAKER_ERRORS = 20  # within a minute


async def test_each_workspace_is_served_with_its_own_account(open_scene: OpenScene, tmp_path: Path) -> None:
    async with tenancy(open_scene, tmp_path) as two:
        message = await two.message()
        answer = await two.read(message)
        assert (answer.status_code, answer.content) == (200, message.body)
        assert not two.scene.simulator.requests  # though it has media of the same IDs
        assert await two.others_are_served()


async def test_each_workspace_may_have_a_provider_of_another_kind(open_scene: OpenScene, tmp_path: Path) -> None:
    dialog = Simulator(access_token=ACCESS_TOKEN, profile=Profile.DIALOG360, number=NUMBER)
    async with tenancy(open_scene, tmp_path, dialog, provider='"360dialog"') as two:
        message = await two.message()
        assert (await two.read(message)).content == message.body
        assert await two.others_are_served()


async def test_the_only_number_of_a_workspace_is_sent_as_a_second_lock(open_scene: OpenScene, tmp_path: Path) -> None:
    simulator = Simulator(access_token=ACCESS_TOKEN, number=BusinessNumber(phone_number_id="1"))
    async with tenancy(open_scene, tmp_path, simulator) as two:
        answer = await two.read(await two.message())  # received by another number than the file says
        assert (answer.status_code, problem_type(answer)) == (410, "media-expired")


@pytest.mark.parametrize(
    ("faults", "status", "kind"),
    [
        pytest.param(Faults(graph_error=GraphCode.TOKEN_EXPIRED), 502, "provider-error", id="its token is refused"),
        pytest.param(Faults(graph_error=GraphCode.WABA_RATE_LIMIT), 503, "provider-busy", id="its rate is limited"),
        pytest.param(Faults(graph_error=GraphCode.SERVICE_DOWN), 502, "provider-error", id="its provider is down"),
        pytest.param(Faults(transport=Transport.RESET, at_byte=0), 502, "provider-error", id="its downloads break off"),
    ],
)
async def test_what_one_workspace_meets_another_does_not(
    open_scene: OpenScene, tmp_path: Path, faults: Faults, status: int, kind: str
) -> None:
    async with tenancy(open_scene, tmp_path) as two:
        two.acme.faults = faults
        answer = await two.read(await two.message())
        assert (answer.status_code, problem_type(answer)) == (status, kind)
        assert await two.others_are_served()


async def test_a_refused_token_is_remembered_for_its_workspace_alone(open_scene: OpenScene, tmp_path: Path) -> None:
    async with tenancy(open_scene, tmp_path, Simulator(access_token="renewed", number=NUMBER)) as two:
        answers = [await two.read(await two.message()) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {502}
        assert len(two.acme.requests) == 1
        assert await two.others_are_served()


async def test_an_open_breaker_is_that_of_one_workspace(open_scene: OpenScene, tmp_path: Path) -> None:
    async with tenancy(open_scene, tmp_path) as two:
        assert await two.others_are_served()
        two.acme.online, two.acme.outage = False, Outage.UNAVAILABLE
        messages = [await two.message() for _ in range(DEFAULT_BREAKER_ERRORS)]
        await asyncio.gather(*map(two.read, messages))
        answer = await two.read(await two.message())
        assert (answer.status_code, problem_type(answer)) == (503, "provider-busy")
        assert await two.others_are_served()
        metrics = (await two.scene.nobody.get("/metrics")).text
        assert 'media_gateway_upstream_breaker_open{workspace="acme"} 1.0' in metrics
        assert 'media_gateway_upstream_breaker_open{workspace="default"} 0.0' in metrics


async def test_a_provider_that_hangs_leaves_room_for_the_others(open_scene: OpenScene, tmp_path: Path) -> None:
    async with tenancy(open_scene, tmp_path) as two:
        stalls = Faults(transport=Transport.STALL, at_byte=600)
        messages = await asyncio.gather(*(two.message(stalls) for _ in range(MAX_FLIGHTS + 1)))
        reading = [asyncio.create_task(two.read(message)) for message in messages]
        await until(lambda: sum(two.acme.downloads(message.medium.id) for message in messages) == MAX_FLIGHTS)
        refused = await next(asyncio.as_completed(reading))
        assert (refused.status_code, problem_type(refused)) == (503, "provider-busy")
        assert await two.others_are_served()
        for message in messages:
            message.medium.gate.open()
        assert sorted(answer.status_code for answer in await asyncio.gather(*reading)) == [200] * MAX_FLIGHTS + [503]


async def test_a_workspace_without_an_account_is_told_so(open_scene: OpenScene, tmp_path: Path) -> None:
    async with tenancy(open_scene, tmp_path) as two:
        message = await two.scene.message(workspace_id="unknown")
        answer = await two.read(message)
        assert (answer.status_code, problem_type(answer)) == (502, "provider-error")
        assert not two.scene.simulator.requests
        assert not two.acme.requests
