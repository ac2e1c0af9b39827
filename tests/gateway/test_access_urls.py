"""Minting: one URL or a whole chat history's, the gateway's own or a CDN's; each opens its one variant and no other."""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import datetime
from time import time
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.cloudflare import TimedHmac
from gateway.variants import VARIANTS
from storage.records import Records
from tests.gateway.access import ACCESS, CDN, PUBLIC, bearer, token
from tests.gateway.problems import problem_type
from tests.gateway.scene import OpenScene, Scene
from tests.running import command, environment

RSA = rsa.generate_private_key(65537, 2048)
ECDSA = ec.generate_private_key(ec.SECP256R1())
KEYS: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = {"RSA": RSA, "ECDSA": ECDSA}
DISTRIBUTION = "https://d111111abcdef8.cloudfront.net"
ZONE = "https://cdn.example.com"
SECRET = "the-secret-of-the-rule"


@pytest.fixture
async def scene(open_scene: OpenScene) -> AsyncIterator[Scene]:
    """A gateway that knows every credential and mints its own URLs."""
    async with open_scene(**ACCESS) as opened:
        yield opened


def cloudfront(kind: str = "RSA", **changes: str) -> dict[str, str]:
    """Return the environment of a gateway behind CloudFront, which also knows every credential."""
    pem = KEYS[kind].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    variables = {"MEDIA_CDN": "cloudfront", "MEDIA_CDN_URL": DISTRIBUTION, "MEDIA_CDN_KEY_ID": "K2JCJMDEHXQW5F"}
    return ACCESS | variables | {"MEDIA_CDN_PRIVATE_KEY": pem.replace("\n", "\\n")} | changes


CLOUDFLARE = ACCESS | {"MEDIA_CDN": "cloudflare", "MEDIA_CDN_URL": ZONE, "MEDIA_CDN_SECRET": SECRET}
WEEK = 604_800  # seconds; a tenth of it, in which a URL stays the same, is longer than any test


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

    @pytest.mark.parametrize(("count", "status"), [(0, 200), (1, 200), (200, 200), (201, 400)])
    async def test_has_up_to_200_messages(self, scene: Scene, count: int, status: int) -> None:
        message = await scene.message()
        answer = await scene.client.post("/media/urls", json={"urls": [{"message_id": message.id}] * count})
        assert answer.status_code == status
        if status == 200:
            assert len(answer.json()["urls"]) == count
        else:
            assert problem_type(answer) == "bad-request"

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
        for variant in sorted(VARIANTS - {"hls"}):
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
