"""Signed URLs: exactly the contract's formula, and nothing else opens a medium."""

import asyncio
import base64
import hashlib
import hmac
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import Gatekeeper, Presented
from gateway.errors import Forbidden, Unauthorized
from gateway.media import parse_query
from gateway.signing import Signer
from tests.gateway.problems import problem_type
from tests.gateway.scene import OpenScene, Scene
from tests.running import SIGNING_KEY, eventually

NOW = 1_800_000_000
FAR = 9_999_999_999


def sign(key: str, message_id: str, variant: str, download: int, exp: int) -> str:
    """Compute ``sig`` by the words of the contract, independently of the code."""
    text = f"v1\n{message_id}\n{variant}\n{download}\n{exp}"
    mac = hmac.new(key.encode(), text.encode("utf-8"), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).decode("ascii").rstrip("=")


def signed(
    message_id: str, *, variant: str = "original", download: int = 0, exp: int = FAR, key: str = SIGNING_KEY
) -> dict[str, str]:
    """Return the parameters that open a variant."""
    return {"exp": str(exp), "kid": "k1", "sig": sign(key, message_id, variant, download, exp)}


async def ask(scene: Scene, path: str, query: dict[str, str] | str) -> httpx.Response:
    """Ask without any other credential."""
    text = query if isinstance(query, str) else httpx.QueryParams(query)
    return await scene.nobody.get(f"{path}?{text}")


def test_a_vector_computed_by_hand() -> None:
    signer = Signer({"k1": b"secret"}, public_url="https://media.example.com", clock=lambda: NOW)
    minted = signer.mint("wamid.A/ü==", "thumbnail", download=True, expires_in=600)
    exp = NOW + 600
    # printf 'v1\nwamid.A/ü==\nthumbnail\n1\n1800000600' |
    #   openssl dgst -sha256 -hmac secret -binary | basenc --base64url
    assert minted.expires_at == exp
    assert minted.url == (
        "https://media.example.com/media/messages/wamid.A%2F%C3%BC%3D%3D?variant=thumbnail&download=1"
        f"&exp={exp}&kid=k1&sig=rqERldD7ozIldHIKwKnzUQHJQcLz3zEiwQKZTCKIdz0"
    )


async def test_the_formula_of_the_contract_opens_a_medium(scene: Scene) -> None:
    message = await scene.message(message_id="wamid.A/ü==")
    for variant, download in (("original", 0), ("original", 1), ("thumbnail", 0)):
        query = signed(message.id, variant=variant, download=download)
        query |= {"variant": variant, "download": str(download)}
        answer = await ask(scene, message.path, query)
        assert (answer.status_code, answer.content) == (200, message.body)
        assert answer.headers["content-disposition"].startswith("attachment" if download else "inline")


async def test_it_opens_head_and_ranges_too(scene: Scene) -> None:
    message = await scene.message()
    url = f"{message.path}?{httpx.QueryParams(signed(message.id))}"
    assert (await scene.nobody.head(url)).status_code == 200
    assert (await scene.nobody.get(url, headers={"Range": "bytes=0-9"})).status_code == 206
    assert (await scene.nobody.put(url, json={})).status_code == 401
    assert (await scene.nobody.delete(url)).status_code == 401


REFUSED = {
    # what is wrong: (the message it was signed for, how the parameters differ)
    "forged": ("m", {"sig": "A" * 43}),
    "empty": ("m", {"sig": ""}),
    "padded": ("m", {"sig": sign(SIGNING_KEY, "m", "original", 0, FAR) + "="}),
    "of another message": ("n", {}),
    "for another variant": ("m", {"variant": "thumbnail"}),
    "for showing, not for saving": ("m", {"download": "1"}),
    "by an unknown key": ("m", {"kid": "k2"}),
    "by no key": ("m", {"kid": ""}),
    "of another time": ("m", {"exp": str(FAR + 1)}),
    "expired": ("m", {"exp": "1", "sig": sign(SIGNING_KEY, "m", "original", 0, 1)}),
    "of no time": ("m", {"exp": "never", "sig": sign(SIGNING_KEY, "m", "original", 0, FAR)}),
    "of a negative time": ("m", {"exp": "-1"}),
    "of a time in other digits": ("m", {"exp": "٩٩٩٩٩٩٩٩٩٩"}),
    "of a time without end": ("m", {"exp": "9" * 5000}),
    "not ASCII": ("m", {"sig": "ü" * 43}),
}


@pytest.mark.parametrize(("signed_for", "change"), [pytest.param(*row, id=title) for title, row in REFUSED.items()])
async def test_any_other_signature_is_refused(scene: Scene, signed_for: str, change: dict[str, str]) -> None:
    message = await scene.message(message_id="m")
    response = await ask(scene, message.path, signed(signed_for) | change)
    expected = (400, "bad-request") if len(change.get("exp", "")) > 4096 else (403, "forbidden")
    assert (response.status_code, problem_type(response)) == expected


@pytest.mark.parametrize("missing", ["exp", "kid", "sig"])
async def test_a_part_of_a_signature_is_none(scene: Scene, missing: str) -> None:
    query = signed("m")
    del query[missing]
    response = await ask(scene, "/media/messages/m", query)
    assert (response.status_code, problem_type(response)) == (403, "forbidden")


async def test_other_parameters_are_no_part_of_a_signature(scene: Scene) -> None:
    message = await scene.message()
    for extra in ({"retry": "2"}, {"utm": "x", "_": "1"}, {"SIG": "x"}, {"variant": "original"}, {"download": "0"}):
        assert (await ask(scene, message.path, extra | signed(message.id))).status_code == 200
        assert (await ask(scene, message.path, signed(message.id) | extra)).status_code == 200


async def test_of_a_repeated_parameter_one_is_signed_and_the_same_is_served(scene: Scene) -> None:
    message = await scene.message()
    query = str(httpx.QueryParams(signed(message.id)))
    answer = await ask(scene, message.path, f"{query}&download=0&download=1&variant=original&variant=thumbnail")
    assert (answer.status_code, answer.headers["content-disposition"]) == (200, "inline")
    refused = await ask(scene, message.path, f"download=1&download=0&{query}")
    assert refused.status_code == 403
    assert (await ask(scene, message.path, f"sig={'A' * 43}&{query}")).status_code == 403


async def test_keys_may_be_rotated(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_SIGNING_KEYS=f"k2:new,k1:{SIGNING_KEY}") as scene:
        message = await scene.message()
        assert (await ask(scene, message.path, signed(message.id))).status_code == 200
        url = urlsplit((await scene.client.post(f"{message.path}/url")).json()["url"])
        assert parse_qs(url.query)["kid"] == ["k2"]
        assert (await ask(scene, url.path, url.query)).status_code == 200
    async with open_scene(MEDIA_SIGNING_KEYS="k2:new") as scene:
        assert (await ask(scene, message.path, signed(message.id))).status_code == 403
        assert (await ask(scene, url.path, url.query)).status_code == 200


async def test_a_key_of_the_wrong_id_does_not_open(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_SIGNING_KEYS=f"k1:other,k2:{SIGNING_KEY}") as scene:
        message = await scene.message()
        assert (await ask(scene, message.path, signed(message.id))).status_code == 403
        assert (await ask(scene, message.path, signed(message.id) | {"kid": "k2"})).status_code == 200


async def test_without_keys_nothing_is_minted_and_nothing_opens(open_scene: OpenScene) -> None:
    async with open_scene(MEDIA_SIGNING_KEYS="") as scene:
        message = await scene.message()
        assert (await ask(scene, message.path, signed(message.id))).status_code == 403
        assert (await ask(scene, message.path, signed(message.id, key=""))).status_code == 403
        assert (await scene.client.post(f"{message.path}/url")).status_code == 403


async def test_a_minted_url_expires(scene: Scene) -> None:
    message = await scene.message()
    minted = (await scene.client.post(f"{message.path}/url", json={"expires_in": 1})).json()

    async def expired() -> bool:
        return (await scene.nobody.get(minted["url"])).status_code == 403

    assert await eventually(expired)


def test_a_url_ends_with_its_last_second() -> None:
    for now, opens in ((NOW, True), (FAR - 1, True), (FAR, False), (FAR + 1, False)):
        signer = Signer({"k1": SIGNING_KEY.encode()}, public_url="", clock=lambda now=now: now)  # type: ignore[misc] # a bound default
        assert signer.check("m", "original", download=False, query=signed("m")) is opens


@pytest.mark.parametrize("expires_in", [1, 10, 60, 3600, 604_800])
def test_two_calls_give_the_same_url_for_a_tenth_of_its_life(expires_in: int) -> None:
    clock = [float(NOW)]
    signer = Signer({"k1": b"k"}, public_url="", clock=lambda: clock[0])
    minted = signer.mint("m", expires_in=expires_in)
    bucket = max(1, expires_in // 10)
    clock[0] = minted.expires_at - expires_in  # the last moment of this bucket
    assert signer.mint("m", expires_in=expires_in) == minted
    clock[0] += 0.5
    later = signer.mint("m", expires_in=expires_in)
    assert later.expires_at == minted.expires_at + bucket


@given(st.integers(1, 604_800), st.floats(0, 4e9))
def test_a_url_lives_as_long_as_asked_for_and_at_most_a_tenth_longer(expires_in: int, now: float) -> None:
    minted = Signer({"k1": b"k"}, public_url="", clock=lambda: now).mint("m", expires_in=expires_in)
    assert now + expires_in <= minted.expires_at <= now + expires_in + max(1, expires_in / 10)


IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255)


@given(message_id=IDS, variant=st.sampled_from(["original", "thumbnail", "hls"]), download=st.booleans())
def test_what_is_minted_opens(message_id: str, variant: str, *, download: bool) -> None:
    signer = Signer({"k1": b"k"}, public_url="https://media.example.com", clock=lambda: NOW)
    url = urlsplit(signer.mint(message_id, variant, download=download).url)
    query = parse_query(url.query.encode())
    in_path = "hls" if url.path.endswith("/hls/master.m3u8") else "original"
    assert query.get("variant", in_path) == variant
    assert signer.check(message_id, variant, download=query.get("download") == "1", query=query)
    assert len(parse_qsl(url.query)) == len(query)


@given(st.data())
def test_any_changed_byte_is_refused(data: st.DataObject) -> None:
    """Of the path or of a parameter that is signed; a change that decodes to the same is none."""
    signer = Signer({"k1": b"k", "k2": b"other"}, public_url="", clock=lambda: NOW)
    url = signer.mint("wamid.A/==", "thumbnail", download=True).url.encode().removeprefix(b"/media/messages/")
    place = data.draw(st.integers(0, len(url) - 1))
    byte = data.draw(st.integers(0x21, 0x7E).filter(lambda value: value not in (url[place], ord("#"))))
    changed = taken_apart(url[:place] + bytes([byte]) + url[place + 1 :])
    if changed == taken_apart(url):
        return
    message_id, query = changed
    with pytest.raises((Forbidden, Unauthorized)):
        asyncio.run(
            Gatekeeper(signer, []).reader(
                Presented(),
                message_id,
                query.get("variant", "original"),
                download=query.get("download") == "1",
                query=query,
            )
        )


def taken_apart(url: bytes) -> tuple[str, dict[str, str]]:
    """Return the message id and the parameters, as the gateway reads them."""
    segment, _, query = url.partition(b"?")
    return unquote(segment.decode()), parse_query(query)
