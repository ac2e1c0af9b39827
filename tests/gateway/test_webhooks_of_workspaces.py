"""Webhooks of several workspaces: each event reaches the one whose number it names, and nobody else's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest.simulator import Medium, Simulator, WebhookSender, batch, encode
from tests import running
from tests.gateway.problems import problem_type
from tests.gateway.scene import Message, OpenScene, jpeg
from tests.gateway.tenants import APP_SECRET, NUMBER, VERIFY_TOKEN, Tenancy, tenancy

SHARED = "/webhooks/whatsapp"
UNKNOWN_NUMBER = "999999999999999"


@pytest.fixture
async def two(open_scene: OpenScene, tmp_path: Path) -> AsyncIterator[Tenancy]:
    """A gateway with the workspaces ``default`` and ``acme``."""
    async with tenancy(open_scene, tmp_path) as opened:
        yield opened


def sender(two: Tenancy, path: str, app_secret: str = APP_SECRET) -> WebhookSender:
    """Return what posts to a callback of this gateway."""
    return WebhookSender(two.scene.gateway.url + path, app_secret, two.scene.nobody)


def image(simulator: Simulator, number: str | None = None) -> Medium:
    """Put a new image into a provider's catalogue, received by a number; None: the provider's own."""
    return simulator.add(jpeg(seed=len(simulator.media)), "image/jpeg", phone_number_id=number)


async def owners(two: Tenancy) -> set[str]:
    """Name the workspaces that have media."""
    messages = (await two.scene.client.get("/media/messages")).json()["messages"]
    return {message["workspace_id"] for message in messages}


ACME = NUMBER.phone_number_id


@pytest.mark.parametrize(
    ("path", "app_secret", "number", "owner"),
    [
        pytest.param(SHARED, APP_SECRET, ACME, {"acme"}, id="shared: its number"),
        pytest.param(SHARED, running.APP_SECRET, UNKNOWN_NUMBER, {"default"}, id="shared: a number of nobody"),
        pytest.param(SHARED, running.APP_SECRET, ACME, set(), id="shared: the default one's secret, its number"),
        pytest.param(f"{SHARED}/acme", APP_SECRET, ACME, {"acme"}, id="own: its number"),
        pytest.param(f"{SHARED}/acme", APP_SECRET, UNKNOWN_NUMBER, {"acme"}, id="own: a number of nobody"),
        pytest.param(f"{SHARED}/default", running.APP_SECRET, UNKNOWN_NUMBER, {"default"}, id="default: of nobody"),
        pytest.param(f"{SHARED}/default", running.APP_SECRET, ACME, set(), id="default: its number"),
    ],
)
async def test_an_event_belongs_to_the_owner_of_its_number(
    two: Tenancy, path: str, app_secret: str, number: str, owner: set[str]
) -> None:
    answer = await sender(two, path, app_secret).send(two.acme.webhooks.media_payload(image(two.acme, number)))
    assert (answer.status_code, answer.json()) == (200, {"new_media": len(owner)})
    assert await owners(two) == owner
    outcome = "accepted" if owner else "misrouted"
    assert f'media_gateway_webhooks_total{{outcome="{outcome}"}} 1.0' in (await two.scene.nobody.get("/metrics")).text


@pytest.mark.parametrize(
    ("path", "app_secret"),
    [
        (SHARED, "nobody's"),
        (f"{SHARED}/acme", running.APP_SECRET),
        (f"{SHARED}/default", APP_SECRET),
    ],
)
async def test_at_an_address_only_its_secrets_count(two: Tenancy, path: str, app_secret: str) -> None:
    answer = await sender(two, path, app_secret).send(two.acme.webhooks.media_payload(image(two.acme)))
    assert (answer.status_code, problem_type(answer)) == (403, "forbidden")
    assert await owners(two) == set()


async def test_of_a_batch_only_the_owner_s_events_are_taken(two: Tenancy) -> None:
    numbers = [ACME, UNKNOWN_NUMBER, two.scene.simulator.number.phone_number_id, ACME]
    payload = batch(two.acme.webhooks.media_payload(image(two.acme, number)) for number in numbers)
    answer = await sender(two, SHARED, running.APP_SECRET).send(payload)
    assert answer.json() == {"new_media": 2}  # what is nobody's; the default workspace names no number of its own
    assert await owners(two) == {"default"}
    answer = await sender(two, SHARED).send(payload)
    assert answer.json() == {"new_media": 2}
    assert await owners(two) == {"default", "acme"}


async def test_a_large_body_is_verified_as_well(two: Tenancy) -> None:
    body = encode(two.acme.webhooks.media_payload(image(two.acme)), size=1_000_000)
    assert (await sender(two, SHARED, "nobody's").send(body)).status_code == 403
    assert (await sender(two, SHARED).send(body)).json() == {"new_media": 1}


async def test_what_a_webhook_announced_is_fetched_from_its_workspace_s_provider(two: Tenancy) -> None:
    medium = image(two.acme)
    payload = two.acme.webhooks.media_payload(medium)
    await sender(two, SHARED).send(payload)
    message = Message(payload["entry"][0]["changes"][0]["value"]["messages"][0]["id"], medium)
    await two.scene.store(message)
    answer = await two.scene.client.get(message.path)
    assert (answer.content, answer.headers["x-media-source"]) == (message.body, "storage")


@pytest.mark.parametrize(
    ("path", "token", "verified"),
    [
        (SHARED, VERIFY_TOKEN, True),
        (SHARED, running.VERIFY_TOKEN, True),
        (SHARED, "nobody's", False),
        (f"{SHARED}/acme", VERIFY_TOKEN, True),
        (f"{SHARED}/acme", running.VERIFY_TOKEN, False),
        (f"{SHARED}/default", running.VERIFY_TOKEN, True),
        (f"{SHARED}/other", VERIFY_TOKEN, False),
    ],
)
async def test_the_handshake_takes_the_token_of_who_has_the_address(
    two: Tenancy, path: str, token: str, *, verified: bool
) -> None:
    assert await sender(two, path).handshake(token) is verified
