"""URLs where they will be used: the gateway's own, or the CDN's."""

import json
from base64 import b64decode
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.cloudflare import TimedHmac
from gateway.cloudfront import CloudFrontSigner
from gateway.minting import CloudflareEdge, CloudFrontEdge, Minter
from gateway.signing import Signer

NOW = 1_800_000_000.0
KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def cloudfront(now: float = NOW) -> Minter:
    edge = CloudFrontEdge(CloudFrontSigner("K1", KEY), "https://d1.cloudfront.net/")
    return Minter(Signer({"k": b"s"}, public_url="https://media.example.com"), edge, clock=lambda: now)


def cloudflare(now: float = NOW, *, lifetime: int = 3600) -> Minter:
    edge = CloudflareEdge(TimedHmac(b"s", lifetime=lifetime), "https://cdn.example.com", lifetime=lifetime)
    return Minter(Signer({}, public_url="https://media.example.com"), edge, clock=lambda: now)


def test_without_a_cdn_the_url_is_the_gateways_own() -> None:
    signer = Signer({"k": b"s"}, public_url="https://media.example.com", clock=lambda: NOW)
    assert Minter(signer).mint("m", "webp") == signer.mint("m", "webp")


def test_with_cloudfront_the_url_is_the_distributions() -> None:
    url = urlsplit(cloudfront().mint("a/b", "webp", download=True, expires_in=600).url)
    query = parse_qs(url.query)
    assert (url.scheme, url.netloc, url.path) == ("https", "d1.cloudfront.net", "/media/messages/a%2Fb")
    assert (query["variant"], query["download"], query["Key-Pair-Id"]) == (["webp"], ["1"], ["K1"])
    assert NOW + 600 <= int(query["Expires"][0]) <= NOW + 660


@pytest.mark.parametrize("later", [1, 30, 59])
def test_a_url_is_the_same_within_a_tenth_of_its_life(later: int) -> None:
    assert cloudfront(NOW + later).mint("m", expires_in=600) == cloudfront(NOW + 1).mint("m", expires_in=600)
    assert cloudflare(NOW + later).mint("m", expires_in=600) == cloudflare().mint("m", expires_in=600)


@pytest.mark.parametrize("expires_in", [1, 60, 600, 3600, 604_800])
def test_a_cloudflare_token_is_never_of_the_future_and_never_outlives_its_rule(expires_in: int) -> None:
    minted = cloudflare(NOW + 17).mint("m", expires_in=expires_in)
    path = minted.url.removeprefix("https://cdn.example.com")
    issued = int(parse_qs(urlsplit(minted.url).query)["verify"][0].partition("-")[0])
    assert issued <= NOW + 17
    assert minted.expires_at - (NOW + 17) <= min(expires_in, 3600)
    assert TimedHmac(b"s", lifetime=3600).verify(path, NOW + 17)
    assert not TimedHmac(b"s", lifetime=3600).verify(path, minted.expires_at)


def test_a_streams_url_stays_the_gateways_own() -> None:
    assert cloudfront().mint("m", "hls").url.startswith("https://media.example.com/media/messages/m/hls/master.m3u8?")


def test_the_cookies_of_a_stream_open_its_files_and_no_other_messages() -> None:
    edge = CloudFrontEdge(CloudFrontSigner("K1", KEY), "https://d1.cloudfront.net")
    policy = edge.cookies("m1", int(NOW))["CloudFront-Policy"].translate(str.maketrans("-_~", "+=/"))
    (statement,) = json.loads(b64decode(policy))["Statement"]
    assert statement["Resource"] == "https://d1.cloudfront.net/media/messages/m1/hls/*"
