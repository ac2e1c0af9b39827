"""Minting: one URL, or those of a whole chat history; each opens its one variant and no other."""

from collections.abc import AsyncIterator
from datetime import datetime
from time import time
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from storage.records import Records
from tests.gateway.access import ACCESS, bearer, token
from tests.gateway.problems import problem_type
from tests.gateway.scene import OpenScene, Scene

WEEK = 604_800  # seconds; a tenth of it, in which a URL stays the same, is longer than any test


@pytest.fixture
async def scene(open_scene: OpenScene) -> AsyncIterator[Scene]:
    """A gateway that knows every credential and mints its own URLs."""
    async with open_scene(**ACCESS) as opened:
        yield opened


async def minted(scene: Scene, message_id: str, **order: Any) -> str:
    """Mint one URL as the host application does."""
    answer = await scene.client.post("/media/urls", json={"urls": [{"message_id": message_id, **order}]})
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["urls"][0]["url"]
    return url


def seconds(moment: str) -> float:
    """Return a moment of an answer in Unix seconds."""
    assert moment.endswith("Z")  # RFC 3339, in UTC
    return datetime.fromisoformat(moment).timestamp()


WRONG_ORDERS: dict[str, Any] = {
    "no list": {"urls": {}},
    "no urls": {},
    "a list": [],
    "no message": {"urls": [{}]},
    "a bare id": {"urls": ["m"]},
    "a number as id": {"urls": [{"message_id": 7}]},
    "an empty id": {"urls": [{"message_id": ""}]},
    "an id of 256 characters": {"urls": [{"message_id": "x" * 256}]},
    "an id of two lines": {"urls": [{"message_id": "a\nb"}]},
    "no such variant": {"urls": [{"message_id": "m", "variant": "huge"}]},
    "a variant of two lines": {"urls": [{"message_id": "m", "variant": "original\n1"}]},
    "neither shown nor saved": {"urls": [{"message_id": "m", "download": "perhaps"}]},
    "no life": {"urls": [{"message_id": "m", "expires_in": 0}]},
    "a life in the past": {"urls": [{"message_id": "m", "expires_in": -1}]},
    "longer than a week": {"urls": [{"message_id": "m", "expires_in": WEEK + 1}]},
    "for ever": {"urls": [{"message_id": "m", "expires_in": 10**30}]},
    "one of two": {"urls": [{"message_id": "m"}, {"message_id": "m", "expires_in": "x"}]},
}


class TestAWholeHistory:
    async def test_is_minted_in_one_call_and_in_its_order(self, scene: Scene) -> None:
        messages = [await scene.message() for _ in range(3)]
        orders = [{"message_id": messages[number].id} for number in (2, 0, 1, 0)]
        answer = await scene.client.post("/media/urls", json={"urls": orders})
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        urls = answer.json()["urls"]
        assert [each["message_id"] for each in urls] == [order["message_id"] for order in orders]
        assert all(set(each) == {"message_id", "url", "expires_at"} for each in urls)
        assert urls[1] == urls[3]
        for each in urls:
            (body,) = {message.body for message in messages if message.id == each["message_id"]}
            assert (await scene.nobody.get(each["url"])).content == body

    async def test_has_up_to_200_messages(self, scene: Scene) -> None:
        message = await scene.message()
        for count in (0, 1, 200):
            answer = await scene.client.post("/media/urls", json={"urls": [{"message_id": message.id}] * count})
            assert (answer.status_code, len(answer.json()["urls"])) == (200, count)
        more = await scene.client.post("/media/urls", json={"urls": [{"message_id": message.id}] * 201})
        assert (more.status_code, problem_type(more)) == (400, "bad-request")

    async def test_of_which_some_may_not_be_minted_has_their_errors_in_place(self, scene: Scene) -> None:
        ours, deleted = await scene.message(), await scene.message()
        theirs, gone = await scene.message(workspace_id="acme"), await scene.message(workspace_id="acme")
        for message in (deleted, gone):
            await scene.client.delete(message.path)
        orders = {"urls": [{"message_id": each} for each in (ours.id, deleted.id, theirs.id, gone.id, "unknown")]}
        by_token = (await scene.nobody.post("/media/urls", json=orders, headers=bearer(token()))).json()["urls"]
        assert [each.get("error") for each in by_token] == [None, "deleted", "not-found", "not-found", "not-found"]
        assert [set(each) for each in by_token[1:]] == [{"message_id", "error"}] * 4
        by_key = (await scene.client.post("/media/urls", json=orders)).json()["urls"]
        assert [each.get("error") for each in by_key] == [None, "deleted", None, "deleted", "not-found"]

    async def test_is_the_same_again_within_a_tenth_of_its_life(self, scene: Scene) -> None:
        message = await scene.message()
        order = {"urls": [{"message_id": message.id, "expires_in": 600_000}]}  # a tenth of it is 17 hours
        answers = [await scene.client.post("/media/urls", json=order) for _ in range(2)]
        answers.append(await scene.nobody.post("/media/urls", json=order, headers=bearer(token())))
        one = await scene.client.post(f"{message.path}/url", json={"expires_in": 600_000})
        told = [answer.json()["urls"][0] for answer in answers]
        assert len({(each["url"], each["expires_at"]) for each in told} | {tuple(one.json().values())}) <= 2
        assert 600_000 <= seconds(told[0]["expires_at"]) - time() + 1 <= 660_001

    async def test_that_is_ordered_wrongly_is_refused_as_a_whole(self, scene: Scene) -> None:
        answers = {title: await scene.client.post("/media/urls", json=body) for title, body in WRONG_ORDERS.items()}
        told = {title: (answer.status_code, problem_type(answer)) for title, answer in answers.items()}
        assert told == dict.fromkeys(WRONG_ORDERS, (400, "bad-request"))

    async def test_is_asked_of_the_database_once(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        messages = [await scene.message() for _ in range(5)]
        asked: list[int] = []
        get_many = Records.get_many

        async def counted(self: Records, ids: Any) -> Any:
            asked.append(len(ids))
            return await get_many(self, ids)

        monkeypatch.setattr(Records, "get_many", counted)
        await scene.client.post("/media/urls", json={"urls": [{"message_id": message.id} for message in messages]})
        assert len(asked) == 1


class TestAMintedUrl:
    async def test_opens_its_variant_and_no_other(self, scene: Scene) -> None:
        message = await scene.message()
        for variant in ("original", "auto", "thumbnail", "webp"):
            for download in (False, True):
                url = urlsplit(await minted(scene, message.id, variant=variant, download=download))
                query = dict(parse_qsl(url.query))
                asked = query.get("variant", "original"), query.get("download", "0")
                assert asked == (variant, str(int(download)))
                assert (await scene.nobody.get(f"{url.path}?{url.query}")).status_code == 200
                for change in (
                    {"variant": "small" if variant != "small" else "large"},
                    {"download": str(1 - download)},
                ):
                    other = urlencode(query | change)
                    assert (await scene.nobody.get(f"{url.path}?{other}")).status_code == 403

    async def test_of_a_stream_opens_its_files_and_not_the_message(self, scene: Scene) -> None:
        message = await scene.message()
        url = urlsplit(await minted(scene, message.id, variant="hls"))
        assert url.path == f"{message.path}/hls/master.m3u8"
        for file in ("master.m3u8", "360p.m3u8", "360p.mp4"):  # let in; there is none
            assert (await scene.nobody.get(f"{message.path}/hls/{file}?{url.query}")).status_code == 404
        assert (await scene.nobody.get(f"{message.path}?{url.query}")).status_code == 403
        assert (await scene.nobody.get(f"{message.path}?variant=hls&{url.query}")).status_code == 200
        other = await scene.message()
        assert (await scene.nobody.get(f"{other.path}/hls/master.m3u8?{url.query}")).status_code == 403
        original = urlsplit(await minted(scene, message.id))
        assert (await scene.nobody.get(f"{message.path}/hls/master.m3u8?{original.query}")).status_code == 403

    async def test_opens_nothing_but_the_medium(self, scene: Scene) -> None:
        message = await scene.message()
        query = urlsplit(await minted(scene, message.id)).query
        for method, path in (
            ("GET", f"{message.path}/info"),
            ("POST", f"{message.path}/url"),
            ("POST", f"{message.path}/retry"),
            ("PUT", message.path),
            ("DELETE", message.path),
            ("POST", "/media/urls"),
            ("GET", "/media/messages"),
        ):
            answer = await scene.nobody.request(method, f"{path}?{query}", json={})
            assert (answer.status_code, problem_type(answer)) == (401, "unauthorized")

    async def test_outlives_the_message_by_nothing(self, scene: Scene) -> None:
        message = await scene.message()
        url = await minted(scene, message.id)
        await scene.client.delete(message.path)
        answer = await scene.nobody.get(url)
        assert (answer.status_code, problem_type(answer)) == (410, "deleted")

    async def test_begins_as_configured_or_as_it_was_asked_for(self, open_scene: OpenScene) -> None:
        async with open_scene() as scene:
            message = await scene.message()
            answer = await scene.client.post(f"{message.path}/url", headers={"Host": "media.example.com:8443"})
            assert answer.json()["url"].startswith(f"http://media.example.com:8443{message.path}?")
        async with open_scene(MEDIA_PUBLIC_URL="https://media.example.com/base/") as scene:
            answer = await scene.client.post(f"{message.path}/url", headers={"Host": "evil.example.com"})
            assert answer.json()["url"].startswith(f"https://media.example.com/base{message.path}?")
