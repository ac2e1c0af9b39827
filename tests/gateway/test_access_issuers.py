"""Tokens by keys that an issuer publishes, in a file or at an endpoint: they open, and nothing forged does."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from time import time

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.jwks import URL
from tests.gateway.access import bearer, claims, cookie, token
from tests.gateway.issuer import compact, document, segment, signing
from tests.gateway.problems import problem_type
from tests.gateway.scene import OpenScene, Scene
from tests.gateway.test_jwks_endpoint import Endpoint
from tests.running import PATIENCE, eventually, serving, until

RSA, EC, ED = signing("RS256"), signing("ES256"), signing("EdDSA")
KEYS = [RSA, EC, ED]
PUBLISHED = document(*(key.jwk() for key in KEYS))
RSA_PEM = RSA.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
RSA_SPKI = RSA.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


async def read(client: httpx.AsyncClient, path: str, fields: dict[str, str]) -> httpx.Response:
    return await client.get(path, headers=fields)


@pytest.fixture(params=["file", "endpoint"])
async def issued(
    request: pytest.FixtureRequest, open_scene: OpenScene, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """A gateway that takes tokens by keys that an issuer has published, and by no secret."""
    endpoint = Endpoint()
    endpoint.body = PUBLISHED
    async with serving(endpoint.app) as base:
        file = tmp_path_factory.mktemp("issuer") / "jwks.json"
        file.write_bytes(PUBLISHED)
        async with open_scene(MEDIA_JWKS={"file": str(file), "endpoint": f"{base}/jwks.json"}[request.param]) as scene:
            yield scene


async def test_published_keys_verify_all_their_algorithms(issued: Scene) -> None:
    message = await issued.message()
    answers = {key.algorithm: await read(issued.nobody, message.path, bearer(key.token(claims()))) for key in KEYS}
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 200)
    foreign = [await read(issued.nobody, message.path, bearer(key.token(claims(workspace_ids=[])))) for key in KEYS]
    assert {answer.status_code for answer in foreign} == {404}


def unsigned(alg: str) -> str:
    return f"{segment({'alg': alg})}.{segment(claims())}."


FORGED: dict[str, Callable[[], str]] = {
    "8725-3.1 alg none": partial(unsigned, "none"),
    "8725-3.1 alg None": partial(unsigned, "None"),
    "8725-3.1 alg none, some signature": lambda: unsigned("none") + "eHh4",
    "8725-2.1 public key as PEM for HMAC": lambda: compact({"alg": "HS256", "kid": RSA.kid}, claims(), RSA_PEM),
    "8725-2.1 public key as DER for HMAC": lambda: compact({"alg": "HS256", "kid": RSA.kid}, claims(), RSA_SPKI),
    "8725-3.1 HS256 where keys are published": token,
    "8725-3.1 RS256 as HS256": lambda: RSA.token(claims(), alg="HS256"),
    "8725-3.1 RS256 as ES256": lambda: RSA.token(claims(), alg="ES256"),
    "8725-3.1 PS256 by the same key": lambda: compact({"alg": "PS256", "kid": RSA.kid}, claims(), RSA.private, "PS256"),
    "8725-3.10 unknown kid": lambda: RSA.token(claims(), kid="unknown"),
    "8725-3.10 kid is a path": lambda: RSA.token(claims(), kid="../../etc/passwd"),
    "8725-3.10 a stranger's key in the token": lambda: signing("RS256", "x").token(
        claims(), kid=RSA.kid, jwk=signing("RS256", "x").jwk()
    ),
    "8725-3.3 another payload": lambda: swapped(RSA.token(claims(workspace_ids=[]))),
    "7519-4.1.4 no exp": lambda: RSA.token(claims(exp=None)),
    "7519-2 exp is a text": lambda: RSA.token(claims(exp="9999999999")),
    "7519-2 exp is true": lambda: RSA.token(claims(exp=True)),
    "7519-2 exp is a list": lambda: RSA.token(claims(exp=[9999999999])),
    "exp of 400 digits": lambda: RSA.token(claims(exp=10**400)),
    "exp of 5,000 digits": lambda: RSA.token(json.dumps(claims(exp=1)).replace('"exp": 1', f'"exp": {"9" * 5000}')),
    "exp beyond a double": lambda: RSA.token(json.dumps(claims(exp=1)).replace('"exp": 1', '"exp": 1e999')),
    "exp in milliseconds": lambda: RSA.token(claims(exp=int(time() * 1000))),
    "no sub": lambda: RSA.token(claims(sub=None)),
    "no workspaces": lambda: RSA.token(claims(workspace_ids=None)),
    "workspaces are a text": lambda: RSA.token(claims(workspace_ids="default")),
    "too long": lambda: RSA.token(claims(more="x" * 8192)),
    "no token at all": lambda: "null",
    "dots": lambda: "..",
}


def swapped(one: str) -> str:
    head, _, signature = one.split(".")
    return f"{head}.{segment(claims())}.{signature}"


async def test_a_forged_token_opens_nothing_and_reaches_nobody(issued: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # An attacker's library does not ask whether the key is meant for HMAC.
    monkeypatch.setattr("jwt.algorithms.HMACAlgorithm.prepare_key", lambda _, key: key)
    message = await issued.message()
    issued.forget_requests()
    for title, forge in FORGED.items():
        forged = forge()
        answers = [await read(issued.nobody, message.path, fields) for fields in (bearer(forged), cookie(forged))]
        answers.append(await issued.nobody.post(f"{message.path}/url", headers=bearer(forged)))
        assert {(answer.status_code, problem_type(answer)) for answer in answers} == {(403, "forbidden")}, title
        assert forged not in str([(answer.text, answer.headers) for answer in answers])
    assert list(issued.simulator.requests) == []


async def test_without_keys_no_token_opens_anything(open_scene: OpenScene) -> None:
    async with open_scene() as scene:
        message = await scene.message()
        for credential in (token(), RSA.token(claims()), unsigned("none")):
            assert (await read(scene.nobody, message.path, bearer(credential))).status_code == 403


@asynccontextmanager
async def silent(open_scene: OpenScene) -> AsyncIterator[tuple[Endpoint, Scene]]:
    """Serve an endpoint that does not answer yet, to a gateway that needs its keys."""
    endpoint = Endpoint()
    endpoint.body = PUBLISHED
    endpoint.may_answer.clear()
    async with serving(endpoint.app) as base:
        try:
            async with open_scene(MEDIA_JWKS=f"{base}/jwks.json") as scene:
                yield endpoint, scene
        finally:
            endpoint.may_answer.set()  # the server ends when its requests have


async def test_keys_that_are_late_hold_up_nobody_who_needs_none(
    open_scene: OpenScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jwks.URL", replace(URL, patience=PATIENCE))
    async with silent(open_scene) as (endpoint, scene):
        message = await scene.message()
        waiting = asyncio.create_task(read(scene.nobody, message.path, bearer(RSA.token(claims()))))
        await until(lambda: endpoint.requests)
        assert (await scene.client.get(message.path)).status_code == 200
        assert (await scene.nobody.get(scene.gateway.signer.mint(message.id).url)).status_code == 200
        assert not waiting.done()
        endpoint.may_answer.set()
        assert (await waiting).status_code == 200


async def test_keys_that_do_not_come_open_nothing_until_they_do(
    open_scene: OpenScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jwks.URL", replace(URL, cooldown=0, patience=0.1))
    async with silent(open_scene) as (endpoint, scene):
        message, fields = await scene.message(), bearer(RSA.token(claims()))
        refused = await read(scene.nobody, message.path, fields)
        assert (refused.status_code, problem_type(refused)) == (403, "forbidden")
        endpoint.may_answer.set()

        async def opened() -> bool:
            return (await read(scene.nobody, message.path, fields)).status_code == 200

        assert await eventually(opened)
