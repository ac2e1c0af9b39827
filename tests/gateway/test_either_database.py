"""What the API does on SQLite it does on PostgreSQL, odd ids and hostile queries included."""

import pytest

from ingest.simulator import WebhookSender
from tests.gateway.problems import problem_type
from tests.gateway.scene import OpenScene, jpeg
from tests.running import APP_SECRET


async def test_a_message_lives_and_dies(open_scene: OpenScene, database_url: str) -> None:
    async with open_scene(MEDIA_DATABASE_URL=database_url) as scene:
        message = await scene.message(message_id="a/b 日本語 %00")
        assert (await scene.client.get(message.path)).headers["x-media-source"] == "provider"
        other = await scene.store(await scene.message(message_id="'; DROP TABLE messages; --"))
        assert (await scene.client.get(other.path)).headers["x-media-source"] == "storage"
        copied = await scene.client.put("/media/messages/copy", json={"copy_of": other.id})
        assert (copied.status_code, copied.json()["status"]) == (201, "completed")
        listed = (await scene.client.get("/media/messages?limit=2")).json()
        rest = (await scene.client.get("/media/messages", params={"cursor": listed["next_cursor"]})).json()
        ids = [each["message_id"] for each in (*listed["messages"], *rest["messages"])]
        assert ids == [message.id, other.id, "copy"]
        for path in (message.path, other.path, "/media/messages/copy"):
            assert (await scene.client.post(f"{path}/retry")).status_code == 202
            assert (await scene.client.delete(path)).status_code == 204
            assert (await scene.client.get(path)).status_code == 410


@pytest.mark.parametrize(
    "query", ["workspace_id=%00", "workspace_id=%FF", "cursor=WyIyMDI2IiwiXHUwMDAwIl0", "status=%00"]
)
async def test_a_hostile_query_is_answered(open_scene: OpenScene, database_url: str, query: str) -> None:
    async with open_scene(MEDIA_DATABASE_URL=database_url) as scene:
        response = await scene.client.get(f"/media/messages?{query}")
        if response.status_code != 200:  # U+FFFD, which stands for what is no UTF-8, could be in a name
            assert (response.status_code, problem_type(response)) == (400, "bad-request")


async def test_duplicates_of_an_event_are_one_message(open_scene: OpenScene, database_url: str) -> None:
    async with open_scene(MEDIA_DATABASE_URL=database_url) as scene:
        sender = WebhookSender(f"{scene.gateway.url}/webhooks/whatsapp", APP_SECRET, scene.nobody)
        payload = scene.simulator.webhooks.media_payload(scene.simulator.add(jpeg(), "image/jpeg"))
        answers = await sender.send_concurrently(payload, times=8)
        assert sum(answer.json()["new_media"] for answer in answers) == 1
        assert (await scene.nobody.get("/readyz")).status_code == 200
        assert 'media_gateway_queue_depth{queue="media-high"} 1.0' in (await scene.nobody.get("/metrics")).text
