"""Minting for the CDN in front: CloudFront and Cloudflare let in what is minted, and the gateway alone does not."""

import asyncio
import json
from base64 import b64decode
from time import time
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.cloudflare import TimedHmac
from tests.gateway.access import ACCESS, CDN, PUBLIC
from tests.gateway.scene import OpenScene, Scene
from tests.gateway.test_access_urls import WEEK, minted, seconds
from tests.running import command, environment

RSA = rsa.generate_private_key(65537, 2048)
ECDSA = ec.generate_private_key(ec.SECP256R1())
KEYS: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = {"RSA": RSA, "ECDSA": ECDSA}
DISTRIBUTION = "https://d111111abcdef8.cloudfront.net"
ZONE = "https://cdn.example.com"
SECRET = "the-secret-of-the-rule"


def cloudfront(kind: str = "RSA", **changes: str) -> dict[str, str]:
    """Return the environment of a gateway behind CloudFront, which also knows every credential."""
    pem = KEYS[kind].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    variables = {"MEDIA_CDN": "cloudfront", "MEDIA_CDN_URL": DISTRIBUTION, "MEDIA_CDN_KEY_ID": "K2JCJMDEHXQW5F"}
    return ACCESS | variables | {"MEDIA_CDN_PRIVATE_KEY": pem.replace("\n", "\\n")} | changes


CLOUDFLARE = ACCESS | {"MEDIA_CDN": "cloudflare", "MEDIA_CDN_URL": ZONE, "MEDIA_CDN_SECRET": SECRET}


def verified(url: str, kind: str, *, digest: hashes.HashAlgorithm) -> int:
    """Judge a canned policy as CloudFront does, by the public key; return its expiry in Unix seconds.

    AWS's Developer Guide, "Create a signed URL using a canned policy": the statement is made of the URL without
    CloudFront's own parameters.
    """
    base, _, query = url.partition("?")
    own = {"Expires", "Signature", "Key-Pair-Id", "Hash-Algorithm"}
    given = parse_qs(query)
    rest = urlencode([pair for pair in parse_qsl(query) if pair[0] not in own])
    resource = f"{base}?{rest}" if rest else base
    expires = int(given["Expires"][0])
    condition = {"DateLessThan": {"AWS:EpochTime": expires}}
    statement = {"Statement": [{"Resource": resource, "Condition": condition}]}
    policy = json.dumps(statement, separators=(",", ":")).encode()
    signature = b64decode(given["Signature"][0].translate(str.maketrans("-_~", "+=/")))
    if kind == "RSA":
        RSA.public_key().verify(signature, policy, padding.PKCS1v15(), digest)
    else:
        ECDSA.public_key().verify(signature, policy, ec.ECDSA(digest))
    return expires


class TestAtCloudFront:
    @pytest.mark.parametrize(
        ("kind", "digest"), [("RSA", "sha1"), ("RSA", "sha256"), ("ECDSA", "sha1"), ("ECDSA", "sha256")]
    )
    async def test_the_public_key_verifies_what_is_minted(self, open_scene: OpenScene, kind: str, digest: str) -> None:
        algorithm = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256()}[digest]  # noqa: S303 CloudFront's default
        async with open_scene(**cloudfront(kind, MEDIA_CDN_DIGEST=digest)) as scene:
            message = await scene.message(message_id="wamid.A/ü==")
            for order in ({}, {"variant": "thumbnail"}, {"variant": "small", "download": True}):
                url = await minted(scene, message.id, expires_in=600, **order)
                assert url.startswith(f"{DISTRIBUTION}{message.path}?")
                assert time() + 599 <= verified(url, kind, digest=algorithm) <= time() + 661
                assert ("Hash-Algorithm=SHA256" in url) is (digest == "sha256")
            single = (await scene.client.post(f"{message.path}/url", json={"expires_in": 600})).json()
            assert seconds(single["expires_at"]) == verified(single["url"], kind, digest=algorithm)

    async def test_a_whole_history_is_minted_without_holding_up_others(self, open_scene: OpenScene) -> None:
        async with open_scene(**cloudfront()) as scene:
            message = await scene.message()
            orders = {"urls": [{"message_id": message.id, "variant": "thumbnail"}] * 200}
            answers = await asyncio.gather(
                scene.client.post("/media/urls", json=orders), *(scene.nobody.get("/healthz") for _ in range(5))
            )
            assert {answer.status_code for answer in answers} == {200}
            assert len({each["url"] for each in answers[0].json()["urls"]}) <= 2

    async def test_the_cdn_gets_by_its_own_proof_what_the_viewer_asked_for(self, open_scene: OpenScene) -> None:
        """CloudFront takes its own parameters away, and adds the secret."""
        async with open_scene(**cloudfront()) as scene:
            message = await scene.message()
            url = urlsplit(await minted(scene, message.id, download=True))
            own = [pair for pair in parse_qsl(url.query) if pair[0] == "download"]
            answer = await scene.nobody.get(f"{url.path}?{urlencode(own)}", headers=CDN)
            assert (answer.content, answer.headers["cache-control"]) == (message.body, PUBLIC)
            assert answer.headers["content-disposition"] == "attachment"
            assert (await scene.nobody.get(f"{url.path}?{url.query}")).status_code == 401  # not past the CDN

    async def test_a_stream_stays_the_gateways_own(self, open_scene: OpenScene) -> None:
        async with open_scene(**cloudfront(), MEDIA_PUBLIC_URL="https://media.example.com") as scene:
            message = await scene.message()
            url = await minted(scene, message.id, variant="hls")
            assert url.startswith(f"https://media.example.com{message.path}/hls/master.m3u8?exp=")

    async def test_info_shows_the_cdns_urls(self, open_scene: OpenScene) -> None:
        async with open_scene(**cloudfront("ECDSA")) as scene:
            message = await scene.store(await scene.message())
            shown = (await scene.client.get(f"{message.path}/info")).json()["variants"]["original"]["url"]
            assert verified(shown, "ECDSA", digest=hashes.SHA256()) > time()


class TestAtCloudflare:
    async def test_the_rule_lets_in_what_is_minted_until_it_ends(self, open_scene: OpenScene) -> None:
        async with open_scene(**CLOUDFLARE, MEDIA_CDN_TOKEN_LIFETIME="7200") as scene:
            message = await scene.message(message_id="wamid.A/ü==")
            answer = await scene.client.post(f"{message.path}/url", json={"variant": "small", "expires_in": 600})
            url, ends = answer.json()["url"], seconds(answer.json()["expires_at"])
            assert url.startswith(f"{ZONE}{message.path}?variant=small&verify=")
            rule = TimedHmac(SECRET.encode(), lifetime=7200)
            assert rule.verify(url.removeprefix(ZONE), time())
            assert not rule.verify(url.removeprefix(ZONE), ends)
            assert time() < ends <= time() + 600
            assert not rule.verify(url.removeprefix(ZONE).replace("small", "large"), time())
            assert not TimedHmac(b"another", lifetime=7200).verify(url.removeprefix(ZONE), time())

    async def test_the_zone_passes_its_parameter_on_and_it_opens_nothing_by_itself(self, open_scene: OpenScene) -> None:
        async with open_scene(**CLOUDFLARE) as scene:
            message = await scene.message()
            path = (await minted(scene, message.id)).removeprefix(ZONE)
            assert (await scene.nobody.get(path, headers=CDN)).headers["cache-control"] == PUBLIC
            assert (await scene.nobody.get(path)).status_code == 401


CDNS = {
    "none": ACCESS,
    "cloudfront": cloudfront(),
    "cloudflare": CLOUDFLARE | {"MEDIA_CDN_TOKEN_LIFETIME": str(WEEK)},
}


class TestTheCommandLine:
    @pytest.mark.parametrize("cdn", CDNS)
    async def test_signs_what_the_server_would_mint(self, open_scene: OpenScene, cdn: str) -> None:
        variables = {
            "none": ACCESS,
            "cloudfront": cloudfront(),
            "cloudflare": CLOUDFLARE | {"MEDIA_CDN_TOKEN_LIFETIME": str(WEEK)},
        }[cdn]
        variables = variables | {"MEDIA_PUBLIC_URL": "https://media.example.com"}
        async with open_scene(**variables) as scene:
            message = await scene.message()
            env = environment(scene.gateway.path, **variables)
            arguments = ["sign", message.id, "--variant", "small", "--expires-in", str(WEEK)]
            said = await command(*arguments, env=env)
            answer = await scene.client.post(f"{message.path}/url", json={"variant": "small", "expires_in": WEEK})
            assert (said.returncode, said.stdout.strip()) == (0, answer.json()["url"])
            if cdn == "none":
                assert (await on(scene, said.stdout.strip())).status_code == 200


async def on(scene: Scene, url: str) -> httpx.Response:
    """Open a public URL where the gateway really is."""
    parts = urlsplit(url)
    return await scene.nobody.get(f"{parts.path}?{parts.query}")
