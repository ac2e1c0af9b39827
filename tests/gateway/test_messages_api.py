"""What the host application does with messages: register, look at, mint URLs for, retry, list, delete."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.gateway.problems import problem_type
from tests.gateway.scene import SIZE, Message, OpenScene, Scene, jpeg

PATH = "/media/messages/m"
WHOLE = {
    "workspace_id": "default",
    "provider_media_id": "4711",
    "kind": "document",
    "mime_type": "application/pdf",
    "sha256": "A" * 64,
    "size": 1234,
    "filename": "Rechnung №1.pdf",
    "conversation_id": "15550002222",
    "participants": ["ana", "bob"],
    "ingest": False,
}


async def waiting(scene: Scene) -> int:
    """Count the jobs that wait."""
    text = (await scene.nobody.get("/metrics")).text
    depths = [line for line in text.splitlines() if line.startswith("media_gateway_queue_depth{")]
    return sum(int(float(line.rpartition(" ")[2])) for line in depths)


async def info(scene: Scene, message: Message) -> dict[str, Any]:
    """Return what is known of a message."""
    document: dict[str, Any] = (await scene.client.get(f"{message.path}/info")).json()
    return document


async def test_a_registration_is_created_once(scene: Scene) -> None:
    answers = [await scene.client.put(PATH, json=WHOLE) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[0].headers["cache-control"] == "no-store"


async def test_a_registration_says_what_is_known(scene: Scene) -> None:
    record = (await scene.client.put(PATH, json=WHOLE)).json()
    expected = {
        "message_id": "m",
        "status": "pending",
        "mime_type": "application/pdf",
        "size": 1234,
        "sha256": "a" * 64,
        "filename": "Rechnung №1.pdf",
        "stored_url": None,
        "stored_at": None,
        "storage_backend": None,
        "variants": {},
    }
    assert {name: record[name] for name in expected} == expected


async def test_a_hash_may_be_given_in_either_form_of_the_provider(scene: Scene) -> None:
    for name, given in (("hex", "ab" * 32), ("base64", "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=")):
        body = {"provider_media_id": "1", "sha256": given, "ingest": False}
        assert (await scene.client.put(f"/media/messages/{name}", json=body)).json()["sha256"] == "ab" * 32


async def test_a_registration_schedules_the_ingest_unless_told_not_to(scene: Scene) -> None:
    await scene.client.put("/media/messages/quiet", json={"provider_media_id": "1", "ingest": False})
    assert await waiting(scene) == 0
    await scene.client.put("/media/messages/eager", json={"provider_media_id": "2"})
    assert await waiting(scene) == 1
    await scene.client.put("/media/messages/eager", json={"provider_media_id": "2"})
    assert await waiting(scene) == 1


async def test_no_registration_schedules_an_ingest_that_is_switched_off(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_INGEST="off") as scene:
        await scene.client.put(PATH, json={"provider_media_id": "1"})
        assert await waiting(scene) == 0


async def test_another_medium_replaces_the_one_before(scene: Scene) -> None:
    message = await scene.store(await scene.message())
    other = await scene.message()
    await scene.register(message, provider_media_id=other.medium.id)
    answer = await scene.client.get(message.path)
    assert (answer.content, answer.headers["x-media-source"]) == (other.body, "provider")


async def test_a_message_of_one_workspace_is_not_taken_over_by_another(scene: Scene) -> None:
    await scene.client.put(PATH, json=WHOLE)
    response = await scene.client.put(PATH, json=WHOLE | {"workspace_id": "other"})
    assert (response.status_code, problem_type(response)) == (409, "conflict")


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_copy_refers_to_the_medium_of_another_message(scene: Scene, *, is_stored: bool) -> None:
    source = await scene.message(filename="cat.jpg")
    if is_stored:
        await scene.store(source)
        scene.simulator.online = False
    copied = await scene.client.put(PATH, json={"copy_of": source.id, "ingest": False})
    assert copied.status_code == 201
    assert copied.json()["status"] == ("completed" if is_stored else "pending")
    assert (await scene.client.put(PATH, json={"copy_of": source.id, "ingest": False})).status_code == 200
    assert await waiting(scene) == 0
    answer = await scene.client.get(PATH)
    assert (answer.content, answer.headers["etag"]) == (source.body, source.etag)
    assert answer.headers["content-disposition"] == 'inline; filename="cat.jpg"'


async def test_a_copy_outlives_its_source(scene: Scene) -> None:
    source = await scene.store(await scene.message())
    await scene.client.put(PATH, json={"copy_of": source.id})
    scene.simulator.online = False
    assert (await scene.client.delete(source.path)).status_code == 204
    assert (await scene.client.get(PATH)).content == source.body
    assert (await scene.client.get(source.path)).status_code == 410


async def test_nothing_can_be_copied_from_nothing(scene: Scene) -> None:
    gone = await scene.message()
    await scene.client.delete(gone.path)
    for source, status, kind in (("unknown", 404, "not-found"), (gone.id, 410, "deleted")):
        response = await scene.client.put(PATH, json={"copy_of": source})
        assert (response.status_code, problem_type(response)) == (status, kind)


async def test_a_deletion_leaves_a_tombstone(scene: Scene) -> None:
    message = await scene.store(await scene.message())
    deleted = await scene.client.delete(message.path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for method, below in (("GET", ""), ("GET", "/info"), ("POST", "/url"), ("POST", "/retry")):
        response = await scene.client.request(method, message.path + below)
        assert (response.status_code, problem_type(response)) == (410, "deleted")
    assert (await scene.client.delete(message.path)).status_code == 204
    assert (await scene.client.get("/media/messages")).json()["messages"] == []


async def test_a_message_that_was_just_read_is_gone_at_once(scene: Scene) -> None:
    message = await scene.store(await scene.message())
    assert (await scene.client.get(message.path)).status_code == 200
    await scene.client.delete(message.path)
    assert (await scene.client.get(message.path)).status_code == 410
    assert (await scene.client.head(message.path)).status_code == 410


async def test_a_deleted_message_may_be_registered_anew(scene: Scene) -> None:
    message = await scene.message()
    await scene.client.delete(message.path)
    again = await scene.client.put(message.path, json={"provider_media_id": message.medium.id, "ingest": False})
    assert again.status_code == 201
    assert (await scene.client.get(message.path)).content == message.body


@pytest.mark.parametrize(
    ("method", "below"),
    [("GET", ""), ("HEAD", ""), ("DELETE", ""), ("GET", "/info"), ("POST", "/url"), ("POST", "/retry")],
)
async def test_an_unknown_message_is_not_found(scene: Scene, method: str, below: str) -> None:
    response = await scene.client.request(method, f"/media/messages/unknown{below}")
    assert response.status_code == 404
    assert method == "HEAD" or problem_type(response) == "not-found"


async def test_info_tells_the_whole_record(scene: Scene) -> None:
    message = await scene.store(await scene.message(filename="cat.jpg", kind="image"))
    known = await info(scene, message)
    expected = {
        "status": "completed",
        "mime_type": "image/jpeg",
        "size": SIZE,
        "sha256": sha256(message.body).hexdigest(),
        "filename": "cat.jpg",
        "storage_backend": "local",
        "error": None,
    }
    assert {name: known[name] for name in expected} == expected
    assert known["stored_url"].startswith("file:///")
    assert known["stored_url"].endswith(f"/media/{message.id}/{message.medium.id}")
    assert datetime.now(UTC) - datetime.fromisoformat(known["stored_at"]) < timedelta(minutes=1)
    processed = {"width", "height", "duration", "codec", "blurhash", "lqip", "dominant_color", "waveform", "exif"}
    assert {name: known[name] for name in processed} == dict.fromkeys(processed)


async def test_info_has_a_url_of_each_variant_that_is_ready(scene: Scene) -> None:
    message = await scene.store(await scene.message(message_id="a/b ü"))
    original = (await info(scene, message))["variants"]["original"]
    assert (original["size"], original["type"]) == (SIZE, "image/jpeg")
    assert (await scene.nobody.get(original["url"])).content == message.body


async def test_without_signing_keys_the_urls_of_variants_are_for_other_credentials(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_SIGNING_KEYS="", MEDIA_PUBLIC_URL="https://media.example.com") as scene:
        message = await scene.store(await scene.message(message_id="a/b"))
        url = (await info(scene, message))["variants"]["original"]["url"]
        page = (await scene.client.get("/media/messages")).json()["messages"]
        assert url == page[0]["variants"]["original"]["url"] == "https://media.example.com/media/messages/a%2Fb"


async def test_info_never_touches_the_provider(scene: Scene) -> None:
    message = await scene.message()
    scene.forget_requests()
    assert (await info(scene, message))["status"] == "pending"
    assert list(scene.simulator.requests) == []


async def test_a_url_is_minted(scene: Scene) -> None:
    message = await scene.message()
    body = {"variant": "thumbnail", "download": True, "expires_in": 600}
    minted = (await scene.client.post(f"{message.path}/url", json=body)).json()
    assert set(minted) == {"url", "expires_at"}
    query = parse_qs(urlsplit(minted["url"]).query)
    assert (query["variant"], query["download"]) == (["thumbnail"], ["1"])
    assert datetime.fromisoformat(minted["expires_at"]).timestamp() == int(query["exp"][0])
    left = datetime.fromisoformat(minted["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=595) < left <= timedelta(seconds=660)
    opened = await scene.nobody.get(minted["url"])
    assert (opened.status_code, opened.headers["content-disposition"]) == (200, "attachment")


async def test_a_url_is_minted_without_a_body(scene: Scene) -> None:
    message = await scene.message()
    urls = [(await scene.client.post(f"{message.path}/url")).json() for _ in range(2)]
    assert urls[0] == urls[1]
    assert (await scene.nobody.get(urls[0]["url"])).content == message.body


async def test_minted_urls_begin_with_the_public_url(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_PUBLIC_URL="https://media.example.com/chat/") as scene:
        message = await scene.message()
        url = (await scene.client.post(f"{message.path}/url")).json()["url"]
        assert url.startswith(f"https://media.example.com/chat{message.path}?")


async def test_without_a_public_url_they_begin_as_the_request_did(scene: Scene) -> None:
    message = await scene.message()
    asked = await scene.client.post(f"{message.path}/url", headers={"Host": "media.test:8080"})
    assert asked.json()["url"].startswith(f"http://media.test:8080{message.path}?")
    for malformed in ("[::1", "evil.test/path?", "a b"):
        answer = await scene.client.post(f"{message.path}/url", headers={"Host": malformed})
        assert answer.json()["url"].startswith(f"{scene.gateway.url}{message.path}?")


async def test_a_retry_ingests_again(scene: Scene) -> None:
    message = await scene.message()
    answers = [await scene.client.post(f"{message.path}/retry") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == {"message_id": message.id, "status": "pending"}
    assert await waiting(scene) == 1


async def test_a_retry_forgets_what_the_provider_refused(scene: Scene) -> None:
    body = jpeg()
    await scene.client.put(PATH, json={"provider_media_id": "4711", "ingest": False})
    assert (await scene.client.get(PATH)).status_code == 410
    scene.simulator.add(body, "image/jpeg", media_id="4711")
    assert (await scene.client.get(PATH)).status_code == 410  # remembered
    await scene.client.post(f"{PATH}/retry")
    assert (await scene.client.get(PATH)).content == body


async def test_the_list_is_read_page_by_page(scene: Scene) -> None:
    registered = [await scene.message(message_id=f"m{number}") for number in range(5)]
    pages, cursor = [], ""
    while cursor is not None:
        answer = await scene.client.get("/media/messages", params={"limit": 2, "cursor": cursor})
        pages.append([each["message_id"] for each in answer.json()["messages"]])
        cursor = answer.json()["next_cursor"]
    assert pages == [["m0", "m1"], ["m2", "m3"], ["m4"]]
    assert len(registered) == 5


async def test_the_list_is_filtered(scene: Scene) -> None:
    pending, stored = await scene.message(), await scene.store(await scene.message())
    await scene.message(message_id="elsewhere", workspace_id="other")

    async def listed(query: str) -> set[str]:
        answer = await scene.client.get(f"/media/messages?{query}")
        assert answer.status_code == 200
        return {each["message_id"] for each in answer.json()["messages"]}

    assert await listed("status=completed") == {stored.id}
    assert await listed("workspace_id=other") == {"elsewhere"}
    assert await listed("workspace_id=default&status=pending") == {pending.id}
    assert await listed("workspace_id=&status=&cursor=") == {pending.id, stored.id, "elsewhere"}
    assert await listed("status=failed") == set()


async def test_unknown_fields_are_ignored(scene: Scene) -> None:
    body = {"provider_media_id": "1", "ingest": False, "colour": "blue"}
    assert (await scene.client.put(PATH, json=body)).status_code == 201


async def test_the_provider_never_hears_of_a_registration(scene: Scene) -> None:
    await scene.message()
    assert list(scene.simulator.requests) == []
