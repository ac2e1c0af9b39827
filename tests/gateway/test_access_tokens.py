"""Tokens over HTTP: what opens a message, how it may be carried, and that somebody else's is not even there."""

import json
from collections.abc import AsyncIterator, Callable
from time import time
from typing import Any

import httpx
import pytest

from tests.gateway.access import ACCESS, JWT_SECRET, bearer, cookie, token
from tests.gateway.problems import problem_type
from tests.gateway.scene import OpenScene, Scene
from tests.running import API_KEY


@pytest.fixture
async def scene(open_scene: OpenScene) -> AsyncIterator[Scene]:
    """A gateway that takes tokens by a secret."""
    async with open_scene(**ACCESS) as opened:
        yield opened


CARRIED: dict[str, tuple[dict[str, str], int]] = {
    "9110-11.4 Bearer": (bearer(token()), 200),
    "9110-11.1 the scheme ignores case": ({"Authorization": f"bEARER {token()}"}, 200),
    "9110-11.4 one or more spaces": ({"Authorization": f"Bearer   {token()}"}, 200),
    "cookie": (cookie(token()), 200),
    "cookie among others": ({"Cookie": f"a=b; media_token={token()}; c=d"}, 200),
    "6265-5.4 the first of two cookies, it has the longer path": (
        {"Cookie": f"media_token={token()}; media_token=x"},
        200,
    ),
    "6265-5.4 the first of two cookies, which is wrong": ({"Cookie": f"media_token=x; media_token={token()}"}, 403),
    "Bearer before the cookie": (bearer(token()) | cookie("x"), 200),
    "a wrong Bearer is not mended by a cookie": (bearer("x") | cookie(token()), 403),
    "no Bearer, but a cookie": ({"Authorization": "Bearer"} | cookie(token()), 200),
    "another scheme": ({"Authorization": f"Basic {token()}"}, 401),
    "no scheme": ({"Authorization": token()}, 401),
    "a cookie of another name": ({"Cookie": f"Media_Token={token()}; xmedia_token={token()}"}, 401),
    "an empty cookie": (cookie(""), 403),
    "a cookie in quotes": (cookie(f'"{token()}"'), 403),
    "two tokens in one field": ({"Authorization": f"Bearer {token()}, Bearer {token()}"}, 403),
    "an API key that is none, and a token": ({"X-API-Key": "none"} | bearer(token()), 200),
    "an API key, and a token that is none": ({"X-API-Key": API_KEY} | bearer("none"), 200),
}


async def test_a_token_opens_by_its_field_or_its_cookie(scene: Scene) -> None:
    message = await scene.message()
    for url in (message.path, f"{message.path}/info"):
        answers = {title: await scene.nobody.get(url, headers=fields) for title, (fields, _) in CARRIED.items()}
        assert {title: answer.status_code for title, answer in answers.items()} == {
            title: status for title, (_, status) in CARRIED.items()
        }


async def test_a_token_in_the_address_is_none(scene: Scene) -> None:
    """RFC 6750 section 2.3: addresses are logged, and passed on as referrers."""
    message = await scene.message()
    for name in ("access_token", "token", "media_token", "jwt"):
        assert (await scene.nobody.get(f"{message.path}?{name}={token()}")).status_code == 401


REPEATED = [
    ("Authorization", f"Bearer {token()}", {401, 403}),
    ("X-API-Key", API_KEY, {403}),
    ("Cookie", f"media_token={token()}", {200}),  # RFC 9113 section 8.2.3: the one that may come in several
]


async def test_a_repeated_field_counts_for_the_same_on_every_route(scene: Scene) -> None:
    """A proxy may look at the first and we at the last, or the other way round: so neither opens anything."""
    message = await scene.message()
    for name, value, allowed in REPEATED:
        for values in ([value, value], [value, "other"], ["other", value]):
            fields = httpx.Headers([(name, each) for each in values])
            answers = [
                await scene.nobody.get(message.path, headers=fields),
                await scene.nobody.get(f"{message.path}/info", headers=fields),
                await scene.nobody.post(f"{message.path}/url", headers=fields),
                await scene.nobody.post("/media/urls", headers=fields, json={"urls": []}),
            ]
            (status,) = {answer.status_code for answer in answers}
            assert status in allowed


Said = dict[str, Any]
Registered = dict[str, Any]
OPENS: dict[str, tuple[Said, Registered, int]] = {
    "its workspace": ({}, {}, 200),
    "one of its workspaces": ({"workspace_ids": ["acme", "default"]}, {}, 200),
    "another workspace": ({"workspace_ids": ["acme"]}, {}, 404),
    "no workspace": ({"workspace_ids": []}, {}, 404),
    "its workspace in other case": ({"workspace_ids": ["Default"]}, {}, 404),
    "every workspace, as some would write it": ({"workspace_ids": ["*"]}, {}, 404),
    "its conversation": ({"conversation_ids": ["c1"]}, {"conversation_id": "c1"}, 200),
    "another conversation": ({"conversation_ids": ["c2"]}, {"conversation_id": "c1"}, 404),
    "no conversation": ({"conversation_ids": []}, {"conversation_id": "c1"}, 404),
    "a message of no conversation": ({"conversation_ids": ["c1"]}, {}, 404),
    "a conversation of another workspace": (
        {"workspace_ids": ["acme"], "conversation_ids": ["c1"]},
        {"conversation_id": "c1"},
        404,
    ),
    "all conversations": ({}, {"conversation_id": "c1"}, 200),
    "a participant": ({}, {"participants": ["bob", "ana"]}, 200),
    "not a participant": ({}, {"participants": ["bob"]}, 404),
    "a participant in other case": ({}, {"participants": ["Ana"]}, 404),
    "nobody participates": ({}, {"participants": []}, 404),
    "a participant of another conversation": (
        {"conversation_ids": ["c2"]},
        {"conversation_id": "c1", "participants": ["ana"]},
        404,
    ),
}


async def test_a_token_opens_what_its_claims_say_and_nothing_else_is_there(scene: Scene) -> None:
    got: dict[str, set[int]] = {}
    for title, (said, registration, _) in OPENS.items():
        message = await scene.message(**registration)
        fields = bearer(token(**said))
        answers = [await request(scene.nobody, message.path, fields) for request in READS]
        many = await scene.nobody.post("/media/urls", headers=fields, json={"urls": [{"message_id": message.id}]})
        got[title] = {answer.status_code for answer in answers} | {200 if "url" in many.json()["urls"][0] else 404}
    assert got == {title: {status} for title, (_, _, status) in OPENS.items()}


async def read(client: httpx.AsyncClient, path: str, fields: dict[str, str]) -> httpx.Response:
    return await client.get(path, headers=fields)


async def read_part(client: httpx.AsyncClient, path: str, fields: dict[str, str]) -> httpx.Response:
    answer = await client.get(path, headers=fields | {"Range": "bytes=0-"})
    assert answer.status_code != 200
    answer.status_code = 200 if answer.status_code == 206 else answer.status_code
    return answer


async def head(client: httpx.AsyncClient, path: str, fields: dict[str, str]) -> httpx.Response:
    return await client.head(path, headers=fields)


async def saved(client: httpx.AsyncClient, path: str, fields: dict[str, str]) -> httpx.Response:
    return await client.get(f"{path}?download=1", headers=fields)


async def info(client: httpx.AsyncClient, path: str, fields: dict[str, str]) -> httpx.Response:
    return await client.get(f"{path}/info", headers=fields)


async def mint(client: httpx.AsyncClient, path: str, fields: dict[str, str]) -> httpx.Response:
    return await client.post(f"{path}/url", headers=fields)


async def stream(client: httpx.AsyncClient, path: str, fields: dict[str, str]) -> httpx.Response:
    return await client.get(f"{path}/hls/master.m3u8", headers=fields)


Read = Callable[[httpx.AsyncClient, str, dict[str, str]], Any]
READS: list[Read] = [read, read_part, head, saved, info, mint]


async def test_what_is_somebody_elses_looks_like_nothing_at_all(scene: Scene) -> None:
    """Registered, stored, deleted, or never heard of: nobody can ask which."""
    fields = bearer(token(workspace_ids=["acme"]))
    stored, deleted = await scene.store(await scene.message()), await scene.message()
    await scene.client.delete(deleted.path)
    theirs = [(await scene.message()).path, stored.path, deleted.path, "/media/messages/unknown"]
    for request in (read, saved, info, mint, stream):
        answers = [await request(scene.nobody, path, fields) for path in theirs]
        assert {(answer.status_code, problem_type(answer)) for answer in answers} == {(404, "not-found")}
        assert len({json.dumps(answer.json() | {"request_id": ""}) for answer in answers}) == 1
        varying = {"date", "x-request-id"}
        shown = [{name: value for name, value in each.headers.items() if name not in varying} for each in answers]
        assert all(each == shown[0] for each in shown)


async def test_a_token_cannot_do_what_the_host_does(scene: Scene) -> None:
    """These routes know no other credential than the API key: without one, there is none (RFC 9110 section 15.5.2)."""
    message = await scene.message()
    client, fields = scene.nobody, bearer(token())
    answers = [
        await client.put(message.path, headers=fields, json={"provider_media_id": "1"}),
        await client.delete(message.path, headers=fields),
        await client.post(f"{message.path}/retry", headers=fields),
        await client.get("/media/messages", headers=fields),
    ]
    assert {(answer.status_code, problem_type(answer)) for answer in answers} == {(401, "unauthorized")}
    assert all("ApiKey" in answer.headers["www-authenticate"] for answer in answers)
    assert all("API key" in answer.json()["detail"] for answer in answers)
    assert (await scene.client.get(message.path)).status_code == 200


async def test_any_one_good_credential_is_enough(scene: Scene) -> None:
    message = await scene.message()
    good = scene.gateway.signer.mint(message.id).url
    wrong = f"{message.path}?exp=1&kid=k1&sig=wrong"
    assert (await scene.nobody.get(wrong, headers=bearer(token()))).status_code == 200
    assert (await scene.nobody.get(good, headers=bearer("wrong"))).status_code == 200
    assert (await scene.nobody.get(good, headers=bearer(token(exp=1)))).status_code == 200
    assert (await scene.nobody.get(good, headers=bearer(token(workspace_ids=["acme"])))).status_code == 200
    assert (await scene.nobody.get(wrong, headers=bearer("wrong"))).status_code == 403
    assert (await scene.nobody.get(wrong, headers=bearer(token(workspace_ids=["acme"])))).status_code == 404


LIVES: dict[str, tuple[dict[str, float], int]] = {
    "7519-4.1.4 not over": ({"exp": 60}, 200),
    "7519-4.1.4 over, within the leeway of 30 s": ({"exp": -20}, 200),
    "7519-4.1.4 over": ({"exp": -40}, 403),
    "7519-4.1.5 not begun, within the leeway": ({"nbf": 20}, 200),
    "7519-4.1.5 not begun": ({"nbf": 60}, 403),
    "7519-4.1.6 of the future": ({"iat": 60}, 403),
}


async def test_a_token_opens_while_it_lives(scene: Scene) -> None:
    message = await scene.message()
    got = {}
    for title, (offsets, _) in LIVES.items():
        fields = bearer(token(**{name: time() + offset for name, offset in offsets.items()}))
        answers = [await request(scene.nobody, message.path, fields) for request in (read, head, info, mint)]
        (got[title],) = {answer.status_code for answer in answers}
    assert got == {title: status for title, (_, status) in LIVES.items()}


async def test_audience_and_issuer_are_those_that_are_configured(open_scene: OpenScene) -> None:
    ours = {"aud": ["other", "media"], "iss": "https://issuer.test"}
    async with open_scene(
        MEDIA_JWT_SECRET=JWT_SECRET, MEDIA_JWT_AUDIENCE="media", MEDIA_JWT_ISSUER="https://issuer.test"
    ) as scene:
        message = await scene.message()
        for changes, status in ((ours, 200), (ours | {"aud": "other"}, 403), (ours | {"iss": "x"}, 403), ({}, 403)):
            answer = await read(scene.nobody, message.path, bearer(token(**changes)))
            assert answer.status_code == status
