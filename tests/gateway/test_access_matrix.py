"""Every credential against every route and method, and what it gets by the contract."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import time
from typing import Any

import pytest

from gateway.openapi import document
from gateway.signing import Signer
from tests.gateway.access import ACCESS, CDN, bearer, cookie, token
from tests.gateway.problems import problem_type
from tests.gateway.scene import Message, OpenScene, Scene
from tests.running import API_KEY, SIGNING_KEY


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request brings along."""

    fields: Mapping[str, str] = field(default_factory=dict)
    query: Callable[[Message], str] = lambda _: ""
    registered: Mapping[str, Any] = field(default_factory=dict)
    """What is said of the message."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the gateway."""


def signed(variant: str = "original", *, of: str | None = None, at: float | None = None) -> Callable[[Message], str]:
    """Return what signs a URL for a variant: of the message unless another is named, now unless at another time."""
    signer = Signer({"k1": SIGNING_KEY.encode()}, public_url="", clock=time if at is None else lambda: at)

    def query(message: Message) -> str:
        url = signer.mint(of or message.id, variant).url
        return url.partition("?")[2].removeprefix(f"variant={variant}&")

    return query


THEIRS = {"workspace_id": "acme"}
CREDENTIALS: dict[str, Credential] = {
    "none": Credential(),
    "wrong API key": Credential({"X-API-Key": "wrong"}),
    "API key": Credential({"X-API-Key": API_KEY}),
    "token, own message": Credential(bearer(token())),
    "token, another workspace": Credential(bearer(token()), registered=THEIRS),
    "token, another conversation": Credential(
        bearer(token(conversation_ids=["c1"])), registered={"conversation_id": "c2"}
    ),
    "token, not a participant": Credential(bearer(token()), registered={"participants": ["bob"]}),
    "cookie, own message": Credential(cookie(token())),
    "expired token": Credential(bearer(token(exp=1))),
    "forged token": Credential(bearer(token().rpartition(".")[0] + ".AAAA")),
    "signed URL": Credential(query=signed()),
    "signed URL of a stream": Credential(query=signed("hls")),
    "signed URL, another variant": Credential(query=signed("thumbnail")),
    "signed URL, another message": Credential(query=signed(of="another")),
    "expired signed URL": Credential(query=signed(at=1_000_000_000)),
    "origin secret": Credential(CDN),
    "wrong origin secret": Credential({"X-Origin-Verify": "wrong"}),
    "MEDIA_AUTH=off": Credential(variables={"MEDIA_AUTH": "off"}),
}

ROUTES: dict[str, tuple[str, str, Any]] = {
    "GET medium": ("GET", "{message}", None),
    "HEAD medium": ("HEAD", "{message}", None),
    "GET stream": ("GET", "{message}/hls/master.m3u8", None),
    "HEAD stream": ("HEAD", "{message}/hls/master.m3u8", None),
    "PUT medium": ("PUT", "{message}", {"provider_media_id": "1", "ingest": False}),
    "DELETE medium": ("DELETE", "{message}", None),
    "GET info": ("GET", "{message}/info", None),
    "HEAD info": ("HEAD", "{message}/info", None),
    "POST url": ("POST", "{message}/url", {}),
    "POST urls": ("POST", "/media/urls", {"urls": []}),
    "POST retry": ("POST", "{message}/retry", None),
    "GET messages": ("GET", "/media/messages", None),
    "HEAD messages": ("HEAD", "/media/messages", None),
    "GET webhook": ("GET", "/webhooks/whatsapp", None),
    "POST webhook": ("POST", "/webhooks/whatsapp", {}),
    "GET healthz": ("GET", "/healthz", None),
    "GET readyz": ("GET", "/readyz", None),
    "GET metrics": ("GET", "/metrics", None),
    "GET openapi": ("GET", "/openapi.json", None),
    "OPTIONS medium": ("OPTIONS", "{message}", None),
    "PATCH medium": ("PATCH", "{message}", None),
}

READING = ("GET medium", "HEAD medium")
STREAMS = ("GET stream", "HEAD stream")
LOOKING = ("GET info", "HEAD info", "POST url")
OF_A_MESSAGE = (*READING, *STREAMS, *LOOKING)
HOSTS = ("PUT medium", "DELETE medium", "POST retry", "GET messages", "HEAD messages")
CHANGING = ("PUT medium", "DELETE medium", "POST retry")
NOT_GUARDED = {
    # Webhooks are signed and the handshake has a token of its own: no credential of ours counts.
    "GET webhook": 403,
    "POST webhook": 401,
    **dict.fromkeys(("GET healthz", "GET readyz", "GET metrics", "GET openapi"), 200),
    "OPTIONS medium": 204,
    "PATCH medium": 405,
}


def row(reading: int, streams: int, looking: int, urls: int, hosts: int) -> dict[str, int]:
    """Return what each route answers; a stream that is let in is 404 here, for there is none yet."""
    return (
        dict.fromkeys(READING, reading)
        | dict.fromkeys(STREAMS, streams)
        | dict.fromkeys(LOOKING, looking)
        | {"POST urls": urls}
        | dict.fromkeys(HOSTS, hosts)
        | NOT_GUARDED
    )


NOTHING = row(401, 401, 401, 401, 401)
EVERYTHING = row(200, 404, 200, 200, 200) | {"DELETE medium": 204, "POST retry": 202}
OWN = row(200, 404, 200, 200, 401)
SOMEBODY_ELSES = row(404, 404, 404, 200, 401)
BAD_TOKEN = row(403, 403, 403, 403, 401)

EXPECTED: dict[str, dict[str, int]] = {
    "none": NOTHING,
    "wrong API key": row(403, 403, 403, 403, 403),
    "API key": EVERYTHING,
    "token, own message": OWN,
    "token, another workspace": SOMEBODY_ELSES,
    "token, another conversation": SOMEBODY_ELSES,
    "token, not a participant": SOMEBODY_ELSES,
    "cookie, own message": OWN,
    "expired token": BAD_TOKEN,
    "forged token": BAD_TOKEN,
    "signed URL": NOTHING | dict.fromkeys(READING, 200) | dict.fromkeys(STREAMS, 403),
    "signed URL of a stream": NOTHING | dict.fromkeys(READING, 403) | dict.fromkeys(STREAMS, 404),
    "signed URL, another variant": NOTHING | dict.fromkeys((*READING, *STREAMS), 403),
    "signed URL, another message": NOTHING | dict.fromkeys((*READING, *STREAMS), 403),
    "expired signed URL": NOTHING | dict.fromkeys((*READING, *STREAMS), 403),
    "origin secret": NOTHING | dict.fromkeys(READING, 200) | dict.fromkeys(STREAMS, 404),
    "wrong origin secret": NOTHING | dict.fromkeys((*READING, *STREAMS), 403),
    "MEDIA_AUTH=off": EVERYTHING,
}
TYPES = {401: "unauthorized", 403: "forbidden", 404: "not-found", 405: "method-not-allowed"}


@pytest.mark.parametrize("name", CREDENTIALS)
async def test_a_credential_gets_on_every_route_what_the_contract_says(open_scene: OpenScene, name: str) -> None:
    credential = CREDENTIALS[name]
    async with open_scene(**ACCESS, **credential.variables) as scene:
        to_read = await scene.message(**credential.registered)
        got = {}
        for route, asked in ROUTES.items():
            message = await scene.message(**credential.registered) if route in CHANGING else to_read
            got[route] = await ask(scene, credential, message, asked)
    assert got == EXPECTED[name]


async def ask(scene: Scene, credential: Credential, message: Message, route: tuple[str, str, Any]) -> int:
    """Ask once; an error is the one of its status."""
    method, path, body = route
    if method == "PUT":
        body = {**body, "workspace_id": "default", **credential.registered}
    target = f"{path.replace('{message}', message.path)}?{credential.query(message)}"
    scene.forget_requests()
    answer = await scene.nobody.request(method, target, headers=credential.fields, json=body)
    if answer.is_error:
        assert method == "HEAD" or problem_type(answer) == TYPES[answer.status_code]
        assert list(scene.simulator.requests) == []  # who is refused costs the provider nothing
    return answer.status_code


def test_the_matrix_has_every_route_that_there_is() -> None:
    """A route that is added is missed here first."""
    there_are = {
        (method.upper(), path.replace("/media/messages/{message_id}", "{message}").replace("{file}", "master.m3u8"))
        for path, item in document()["paths"].items()
        for method in item
        if method not in {"parameters", "head", "options"} and "{workspace_id}" not in path
    }
    assert there_are <= {(method, path) for method, path, _ in ROUTES.values()}
    assert set(EXPECTED) == set(CREDENTIALS)
    assert all(set(expected) == set(ROUTES) for expected in EXPECTED.values())
