"""A CDN that checks its viewers itself: how it proves to be one, and what that opens."""

from collections.abc import AsyncIterator
from functools import partial

import httpx
import pytest

from tests.gateway.access import ACCESS, CDN, OLD_ORIGIN_SECRET, ORIGIN_SECRET, PUBLIC
from tests.gateway.problems import problem_type
from tests.gateway.scene import OpenScene, Scene
from tests.running import API_KEY


@pytest.fixture
async def scene(open_scene: OpenScene) -> AsyncIterator[Scene]:
    """A gateway that knows every credential."""
    async with open_scene(**ACCESS) as opened:
        yield opened


SECRETS = {
    ORIGIN_SECRET: 200,
    OLD_ORIGIN_SECRET: 200,
    f"{ORIGIN_SECRET},{OLD_ORIGIN_SECRET}": 403,
    ORIGIN_SECRET.upper(): 403,
    ORIGIN_SECRET[:-1]: 403,
    f"{ORIGIN_SECRET}x": 403,
    API_KEY: 403,
    "": 403,
}


class TestTheProof:
    async def test_is_one_of_several_secrets(self, scene: Scene) -> None:
        message = await scene.message()
        for method in ("GET", "HEAD"):
            answers = {
                secret: await scene.nobody.request(method, message.path, headers={"X-Origin-Verify": secret})
                for secret in SECRETS
            }
            assert {secret: answer.status_code for secret, answer in answers.items()} == SECRETS

    async def test_does_nothing_where_none_is_configured(self, open_scene: OpenScene) -> None:
        async with open_scene() as scene:
            message = await scene.message()
            for secret in ("", ORIGIN_SECRET):
                answer = await scene.nobody.get(message.path, headers={"X-Origin-Verify": secret})
                assert (answer.status_code, problem_type(answer)) == (403, "forbidden")

    async def test_opens_media_and_files_of_streams_to_be_read_and_nothing_else(self, scene: Scene) -> None:
        message = await scene.message()
        ask = partial(scene.nobody.request, headers=CDN)
        for method in ("GET", "HEAD"):
            assert (await ask(method, message.path)).status_code == 200
            assert (await ask(method, f"{message.path}/hls/master.m3u8")).status_code == 404  # let in; there is none
        for method, path in (
            ("PUT", message.path),
            ("DELETE", message.path),
            ("GET", f"{message.path}/info"),
            ("POST", f"{message.path}/url"),
            ("POST", f"{message.path}/retry"),
            ("GET", "/media/messages"),
            ("POST", "/media/urls"),
        ):
            answer = await ask(method, path, json={})
            assert (answer.status_code, problem_type(answer)) == (401, "unauthorized")
        for method in ("POST", "PATCH"):
            assert (await ask(method, message.path)).status_code == 405

    async def test_opens_messages_of_all_workspaces_whoever_takes_part(self, scene: Scene) -> None:
        for registration in ({"workspace_id": "acme"}, {"participants": ["bob"]}, {"conversation_id": "c1"}):
            message = await scene.message(**registration)
            assert (await scene.nobody.head(message.path, headers=CDN)).status_code == 200


SUBJECT = "CN=origin-pull.example.net,O=CDN\\, Inc.,L=San Francisco"
VERIFIED = {"X-SSL-Client-Verify": "SUCCESS", "X-SSL-Client-S-DN": SUBJECT}
NGINX: dict[str, tuple[list[tuple[str, str]], int]] = {
    "verified, ours": ([*VERIFIED.items()], 200),
    "verified, of the second": ([*(VERIFIED | {"X-SSL-Client-S-DN": "CN=other"}).items()], 200),
    "verified, somebody else's": ([*(VERIFIED | {"X-SSL-Client-S-DN": "CN=evil"}).items()], 403),
    "verified, a part of ours": ([*(VERIFIED | {"X-SSL-Client-S-DN": "CN=origin-pull.example.net"}).items()], 403),
    "verified, in other case": ([*(VERIFIED | {"X-SSL-Client-S-DN": SUBJECT.lower()}).items()], 403),
    "not verified": ([*(VERIFIED | {"X-SSL-Client-Verify": "FAILED:unable to verify"}).items()], 401),
    "no certificate": ([("X-SSL-Client-Verify", "NONE"), ("X-SSL-Client-S-DN", "")], 401),
    "nothing about verification": ([("X-SSL-Client-S-DN", SUBJECT)], 401),
    "the client's own field beside the proxy's": ([*VERIFIED.items(), ("X-SSL-Client-S-DN", SUBJECT)], 401),
    "the client's own verdict beside the proxy's": ([*VERIFIED.items(), ("X-SSL-Client-Verify", "SUCCESS")], 401),
    "another proxy's field": ([("X-Amzn-Mtls-Clientcert-Subject", SUBJECT)], 401),
}


class TestAClientCertificate:
    async def test_is_believed_as_a_trusted_proxy_tells_it(self, open_scene: OpenScene) -> None:
        variables = {"MEDIA_TRUSTED_PROXIES": "127.0.0.1", "MEDIA_MTLS_SUBJECTS": f"{SUBJECT};CN=other"}
        async with open_scene(MEDIA_MTLS="nginx", **variables) as scene:
            message = await scene.message()
            answers = {
                title: await scene.nobody.get(message.path, headers=httpx.Headers(fields))
                for title, (fields, _) in NGINX.items()
            }
            assert {title: answer.status_code for title, answer in answers.items()} == {
                title: status for title, (_, status) in NGINX.items()
            }
            assert answers["verified, ours"].headers["cache-control"] == PUBLIC
            assert (await scene.nobody.get(f"{message.path}/info", headers=VERIFIED)).status_code == 401
            assert (await scene.nobody.delete(message.path, headers=VERIFIED)).status_code == 401

    async def test_is_told_by_a_load_balancer_in_its_own_field(self, open_scene: OpenScene) -> None:
        variables = {"MEDIA_TRUSTED_PROXIES": "127.0.0.1", "MEDIA_MTLS_SUBJECTS": SUBJECT}
        async with open_scene(MEDIA_MTLS="alb", **variables) as scene:
            message = await scene.message()
            fields = {"X-Amzn-Mtls-Clientcert-Subject": SUBJECT}
            assert (await scene.nobody.get(message.path, headers=fields)).status_code == 200
            assert (await scene.nobody.get(message.path, headers=VERIFIED)).status_code == 401

    @pytest.mark.parametrize(
        "variables",
        [
            {"MEDIA_MTLS": "nginx", "MEDIA_TRUSTED_PROXIES": "192.0.2.1", "MEDIA_MTLS_SUBJECTS": SUBJECT},
            {"MEDIA_MTLS": "off", "MEDIA_TRUSTED_PROXIES": "127.0.0.1", "MEDIA_MTLS_SUBJECTS": SUBJECT},
        ],
        ids=["not told by a trusted proxy", "not asked for"],
    )
    async def test_is_not_believed_otherwise(self, open_scene: OpenScene, variables: dict[str, str]) -> None:
        async with open_scene(**variables) as scene:
            message = await scene.message()
            fields = VERIFIED | {"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1"}
            assert (await scene.nobody.get(message.path, headers=fields)).status_code == 401
