"""Whatever is changed in a credential or made up without one: it opens nothing, and nobody is asked for a medium."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from string import ascii_letters
from time import time

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.auth import Gatekeeper, Presented
from gateway.errors import Forbidden, GatewayError, Unauthorized
from gateway.media import parse_query
from gateway.routing import decode_id
from gateway.signing import Signer
from gateway.tokens import SharedSecret, Verifier
from gateway.variants import VARIANTS
from tests.gateway.access import ACCESS, ORIGIN_SECRET, bearer, cookie, token
from tests.gateway.issuer import SECRET
from tests.gateway.raw import exchange
from tests.gateway.scene import Message, OpenScene, Scene
from tests.running import API_KEY, SIGNING_KEY

SIGNER = Signer({"k1": SIGNING_KEY.encode(), "k2": b"another"}, public_url="")
GATEKEEPER = Gatekeeper(
    SIGNER,
    [API_KEY],
    verifier=Verifier([SharedSecret(SECRET)]),
    origin_secrets=[ORIGIN_SECRET],
    origin_subjects=["CN=a"],
)
CARRIED = [
    (b"authorization", f"Bearer {token(exp=time() + 86_400)}".encode()),
    (b"cookie", f"media_token={token(exp=time() + 86_400)}".encode()),
    (b"x-api-key", API_KEY.encode()),
    (b"x-origin-verify", ORIGIN_SECRET.encode()),
]
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255)


@st.composite
def changed(draw: st.DrawFn, text: bytes) -> bytes:
    """Return a text in which one byte was replaced, added or left out, or two were exchanged."""
    place = draw(st.integers(0, len(text) - 1))
    byte = bytes([draw(st.sampled_from(b"0123456789%+&=;./") | st.integers(0, 255))])
    after = text[place + 1 :]
    swapped = text[:place] + after[:1] + text[place : place + 1] + after[1:]
    replaced, added, left_out = text[:place] + byte + after, text[:place] + byte + text[place:], text[:place] + after
    return draw(st.sampled_from([replaced, added, left_out, swapped]))


async def is_let_in(presented: Presented, message_id: str, query: dict[str, str]) -> bool:
    variant, download = query.get("variant", "original"), query.get("download") == "1"
    try:
        await GATEKEEPER.reader(presented, message_id, variant, download=download, query=query)
    except (Unauthorized, Forbidden):
        return False
    return True


@given(st.sampled_from(CARRIED), st.data())
@settings(max_examples=400, deadline=None)
async def test_any_changed_byte_of_a_field_that_opens_is_refused(
    field: tuple[bytes, bytes], data: st.DataObject
) -> None:
    """Unless it still says the same, such as the scheme's name in capitals."""
    name, value = field
    before, after = Presented.of([field]), Presented.of([(name, data.draw(changed(value)))])
    assert await is_let_in(before, "m", {})
    assume(before != after)
    assert not await is_let_in(after, "m", {})


@given(message_id=IDS, variant=st.sampled_from(sorted(VARIANTS - {"hls"})), download=st.booleans(), data=st.data())
@settings(max_examples=400, deadline=None)
async def test_any_changed_byte_of_a_signed_url_is_refused(
    *, message_id: str, variant: str, download: bool, data: st.DataObject
) -> None:
    url = SIGNER.mint(message_id, variant, download=download).url.removeprefix("/media/messages/").encode()
    before, after = taken_apart(url), taken_apart(data.draw(changed(url)))
    assert before is not None
    assert await is_let_in(Presented(), *before)
    assume(signed_part(before) != signed_part(after))
    assert after is None or not await is_let_in(Presented(), *after)


def taken_apart(url: bytes) -> tuple[str, dict[str, str]] | None:
    """Return the message id and the parameters, as the gateway reads them; None where it refuses to."""
    segment, _, query = url.partition(b"?")
    try:
        return decode_id(segment), parse_query(query)
    except GatewayError:
        return None


def signed_part(read: tuple[str, dict[str, str]] | None) -> tuple[str, ...]:
    """Return what is signed by the contract, and the signature."""
    if read is None:
        return ()
    message_id, query = read
    download = str(query.get("download") == "1")
    signature = (query.get(name, "") for name in ("exp", "kid", "sig"))
    return (message_id, query.get("variant", "original"), download, *signature)


@dataclass(frozen=True, slots=True)
class Watched:
    """A gateway that keeps nothing in memory, and what its store and its provider were asked for."""

    scene: Scene
    stored: Message
    unstored: Message

    async def asked(self) -> tuple[int, int]:
        """Return how often the store and the provider were asked by the gateway."""
        lines = (await self.scene.nobody.get("/metrics")).text.splitlines()
        counts = [line for line in lines if line.startswith("media_gateway_storage_operation_duration_seconds_count")]
        return sum(int(float(line.rpartition(" ")[2])) for line in counts), len(self.scene.simulator.requests)


@pytest.fixture
async def watched(open_scene: OpenScene) -> AsyncIterator[Watched]:
    async with open_scene(**ACCESS, MEDIA_CACHE_BYTES="0", MEDIA_LIMIT_REQUESTS="off") as scene:
        stored, unstored = await scene.store(await scene.message(message_id="a/b")), await scene.message()
        scene.forget_requests()
        yield Watched(scene, stored, unstored)


async def test_the_store_and_the_provider_are_watched(watched: Watched) -> None:
    assert await watched.asked() == (0, 0)
    for message in (watched.stored, watched.unstored):
        assert (await watched.scene.client.get(message.path)).content == message.body
    in_store, at_provider = await watched.asked()
    assert in_store >= 1
    assert at_provider >= 1


HTTP = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WRONG: list[dict[str, str]] = [
    {},
    {"X-API-Key": "wrong"},
    {"X-API-Key": ""},
    {"X-Origin-Verify": "wrong"},
    {"X-Origin-Verify": ""},
    {"X-SSL-Client-Verify": "SUCCESS", "X-SSL-Client-S-DN": "CN=a"},
    {"X-Hub-Signature-256": "sha256=" + "0" * 64},
    bearer("wrong"),
    bearer(token(exp=1)),
    bearer(token(workspace_ids=["acme"])),
    bearer(token(conversation_ids=[])),
    bearer(token().rpartition(".")[0] + ".AAAA"),
    cookie(token(exp=1)),
    cookie(token(workspace_ids=[])),
    {"Authorization": f"Basic {API_KEY}"},
    {"Cookie": f"X-API-Key={API_KEY}"},
    {"Range": "bytes=0-0"},
]
QUERIES = [
    "",
    "variant=thumbnail",
    "variant=auto&download=1",
    "exp=9999999999&kid=k1&sig=" + "A" * 43,
    "exp=9999999999&kid=&sig=",
    f"X-API-Key={API_KEY}",
    f"api_key={API_KEY}",
    f"access_token={token()}",
    f"X-Origin-Verify={ORIGIN_SECRET}",
]
BELOW = ["", "", "/hls/master.m3u8", "/hls/360p.mp4", "/info", "/url", "/retry"]


@dataclass(frozen=True, slots=True)
class Bare:
    """A request that has no right credential, wherever it looks for one."""

    method: str
    below: str
    query: str
    fields: list[dict[str, str]]
    stored: bool


METHODS = ["GET", "GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "TRACE", "PROPFIND"]
BARE = st.builds(
    Bare,
    st.sampled_from(METHODS),
    st.sampled_from(BELOW),
    st.sampled_from(QUERIES) | st.text(ascii_letters + "%&=;+.0123456789", max_size=60),
    st.lists(st.sampled_from(WRONG), max_size=3),
    st.booleans(),
)


@given(BARE)
@HTTP
async def test_no_request_without_a_right_credential_reaches_a_store_or_the_provider(
    watched: Watched, bare: Bare
) -> None:
    message = watched.stored if bare.stored else watched.unstored
    fields = {name: value for each in bare.fields for name, value in each.items()}
    target = f"{message.path}{bare.below}?{bare.query}"
    answer = await watched.scene.nobody.request(bare.method, target, headers=fields, json={})
    assert answer.status_code in {400, 401, 403, 404, 405}
    assert message.body not in answer.content
    assert await watched.asked() == (0, 0)


@given(data=st.data(), variant=st.sampled_from(["original", "thumbnail", "auto"]))
@HTTP
async def test_any_changed_byte_of_a_signed_request_is_refused_before_anybody_is_asked(
    watched: Watched, data: st.DataObject, variant: str
) -> None:
    base = "/media/messages/"
    url = watched.scene.gateway.signer.mint(watched.stored.id, variant).url.partition(base)[2].encode()
    other = data.draw(changed(url))
    assume(signed_part(taken_apart(url)) != signed_part(taken_apart(other)))
    assume(not set(b"\r\n #") & set(other))  # these end a target: what is left may be whole
    answer = await exchange(watched.scene.gateway.url, base.encode() + other)
    assert 400 <= answer.status < 500
    assert await watched.asked() == (0, 0)
