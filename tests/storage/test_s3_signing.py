"""Signatures of requests: true for any key and credentials, kept while they are good, renewed when either ends."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import StoreForbidden
from storage.s3 import S3Config
from storage.s3.signing import SIGNED_KEPT, SIGNED_LIFE, Signatures, authorization
from tests.storage.presigning import NOW, SECRET, Clock

CONFIG = S3Config(bucket="b", region="eu-west-1", endpoint_url="http://store.example:9000")


@dataclass
class Credentials:
    """What botocore finds; a test may change it."""

    frozen: ReadOnlyCredentials

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return self.frozen


def credentials(access_key: str = "AKIDEXAMPLE", token: str | None = None, secret: str = SECRET) -> ReadOnlyCredentials:
    return ReadOnlyCredentials(access_key, secret, token, None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def found() -> Credentials:
    return Credentials(credentials())


@pytest.fixture
def signatures(clock: Clock, found: Credentials) -> Signatures:
    return Signatures(CONFIG, found, clock=clock)


def fields_of(request: bytes) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([\w-]+): (.*)\r$", request.decode()))


@given(
    key=st.text(min_size=1, max_size=40),
    access_key=st.text("ABCDEF0123456789", min_size=16, max_size=20),
    secret=st.text(min_size=1, max_size=40).filter(lambda text: text.isascii()),
    token=st.none() | st.text("abcXYZ0123456789+/=", min_size=1, max_size=60),
)
def test_a_signature_is_the_same_as_botocore_makes(key: str, access_key: str, secret: str, token: str | None) -> None:
    path = f"/b/{quote(key.encode(errors='replace'), safe='/~')}"
    wanted = ReadOnlyCredentials(access_key, secret, token, None)
    request = AWSRequest(method="GET", url=f"http://store.example:9000{path}")
    S3SigV4Auth(wanted, "s3", "eu-west-1").add_auth(request)
    headers = {name.lower(): value for name, value in request.headers.items()}
    signed = {"host": "store.example:9000"}
    for name in ("x-amz-content-sha256", "x-amz-date", "x-amz-security-token"):
        if name in headers:
            signed[name] = headers[name]

    assert authorization(path, signed, wanted, "eu-west-1") == headers["authorization"]


@given(
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    disposition=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40),
    token=st.none() | st.text("abcXYZ0123456789+/=", min_size=1, max_size=60),
)
async def test_a_presigned_url_is_signed_as_botocore_signs_it(key: str, disposition: str, token: str | None) -> None:
    wanted = credentials(token=token)
    overrides = {"response-content-disposition": disposition, "response-cache-control": "private, max-age=5"}
    presigned = await Signatures(CONFIG, Credentials(wanted), clock=Clock()).presign(key, 900, overrides)
    assert presigned is not None
    url, _, signature = presigned.url.partition("&X-Amz-Signature=")
    request = AWSRequest(method="GET", url=url)
    request.context["timestamp"] = parse_qs(urlsplit(url).query)["X-Amz-Date"][0]
    auth = S3SigV4QueryAuth(wanted, "s3", "eu-west-1")

    assert signature == auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("https://store.example", "b.store.example"),
        ("https://store.example:443", "b.store.example"),
        ("http://store.example:80", "b.store.example"),
        ("http://store.example:443", "b.store.example:443"),
        ("http://STORE.example:9000", "b.store.example:9000"),
    ],
)
async def test_the_host_is_written_as_rfc_9110_7_2_says(
    clock: Clock, found: Credentials, endpoint: str, host: str
) -> None:
    config = S3Config(bucket="b", endpoint_url=endpoint, addressing_style="virtual")

    request = await Signatures(config, found, clock=clock).request("k")

    assert fields_of(request)["host"] == host


async def test_a_signature_is_kept_for_some_minutes(signatures: Signatures, clock: Clock) -> None:
    first = await signatures.request("k")
    clock.now = NOW + SIGNED_LIFE - 1
    same = await signatures.request("k")
    clock.now = NOW + SIGNED_LIFE
    renewed = await signatures.request("k")

    assert same is first
    assert fields_of(renewed)["x-amz-date"] == "20260921T141820Z"
    assert fields_of(first)["x-amz-date"] == "20260921T141320Z"


async def test_a_clock_that_is_set_back_signs_anew(signatures: Signatures, clock: Clock) -> None:
    first = await signatures.request("k")
    clock.now = NOW - 1000

    assert await signatures.request("k") != first


async def test_other_credentials_sign_anew(signatures: Signatures, found: Credentials) -> None:
    requests = []
    for each in (credentials(), credentials("AKIDOTHER"), credentials("AKIDOTHER", "token"), credentials()):
        found.frozen = each
        requests.append(await signatures.request("k"))

    assert requests[0] is requests[3]
    assert len(set(requests)) == 3
    assert fields_of(requests[2])["x-amz-security-token"] == "token"


async def test_each_key_has_a_signature_of_its_own_and_their_number_is_bounded(signatures: Signatures) -> None:
    requests = {await signatures.request(f"media/{number}") for number in range(SIGNED_KEPT + 10)}

    assert len(requests) == SIGNED_KEPT + 10
    assert len(signatures._signed) == SIGNED_KEPT


@pytest.mark.parametrize(
    "broken", [credentials("AKID\r\nX-Injected: 1"), credentials(token="to\nken"), credentials(token="jeton à moi")]
)
async def test_credentials_that_would_break_the_head_are_not_sent(
    signatures: Signatures, found: Credentials, broken: ReadOnlyCredentials
) -> None:
    found.frozen = broken

    with pytest.raises(StoreForbidden) as caught:
        await signatures.request("k")

    assert "AKID" not in str(caught.value)


async def test_a_key_cannot_break_the_head(signatures: Signatures) -> None:
    request = await signatures.request("a\r\nX-Injected: 1\r\n\r\n")

    assert request.split(b"\r\n")[0] == b"GET /b/a%0D%0AX-Injected%3A%201%0D%0A%0D%0A HTTP/1.1"
