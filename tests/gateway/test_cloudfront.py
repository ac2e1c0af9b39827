"""CloudFront's signed URLs and cookies: AWS's Developer Guide, "Serve private content", and botocore's own signer."""

import json
import traceback
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from urllib.parse import parse_qsl, urlencode

import pytest
from botocore.signers import CloudFrontSigner as BotocoreSigner
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from gateway.cloudfront import CloudFrontSigner, Digest
from gateway.signing import Signer

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

KEY_ID = "K2JCJMDEHXQW5F"
URL = "https://d111111abcdef8.cloudfront.net/image.jpg"
QUERY_URL = f"{URL}?color=red&size=medium"
EXPIRES = 1767290400  # of the guide's own example
OWN_PARAMETERS = ("Expires", "Policy", "Signature", "Key-Pair-Id", "Hash-Algorithm")
SHA1, SHA256 = hashes.SHA1(), hashes.SHA256()  # noqa: S303 SHA-1 is CloudFront's default
DIGESTS: dict[Digest, hashes.HashAlgorithm] = {"sha1": SHA1, "sha256": SHA256}


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def ecdsa_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


KEYS: dict[str, Callable[[], Key]] = {"RSA": rsa_key, "ECDSA": ecdsa_key}


def pem(
    key: Key | ed25519.Ed25519PrivateKey,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


@cache
def signer(kind: str = "RSA", digest: Digest = "sha1") -> CloudFrontSigner:
    return CloudFrontSigner(KEY_ID, pem(KEYS[kind]()), digest)


def decoded(text: str) -> bytes:
    """Undo what the guide's shell does: ``openssl base64 -A | tr -- '+=/' '-_~'``."""
    plain = text.translate(str.maketrans("-_~", "+=/"))
    value = b64decode(plain, validate=True)
    if b64encode(value).decode() != plain:  # the last character has bits that decode to nothing
        raise ValueError("not base64 as it is written")
    return value


def opens(key: Key, url: str) -> bool:
    """Judge a signed URL with the public key alone, as the edge does; a canned policy is made anew from the URL."""
    base, _, query = url.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    own = urlencode([pair for pair in pairs if pair[0] not in OWN_PARAMETERS])
    canned = f'{{"Statement":[{{"Resource":"{base}{own and "?"}{own}","Condition":{{"DateLessThan":{{"AWS:EpochTime":'
    try:
        policy = decoded(given["Policy"]) if "Policy" in given else f"{canned}{given['Expires']}}}}}}}]}}".encode()
        verify(key, decoded(given["Signature"]), policy, {None: SHA1, "SHA256": SHA256}[given.get("Hash-Algorithm")])
    except (InvalidSignature, KeyError, ValueError):
        return False
    return given["Key-Pair-Id"] == KEY_ID


def verify(key: Key, signature: bytes, message: bytes, digest: hashes.HashAlgorithm) -> None:
    if isinstance(key, rsa.RSAPrivateKey):
        key.public_key().verify(signature, message, padding.PKCS1v15(), digest)
    else:
        key.public_key().verify(signature, message, ec.ECDSA(digest))


def botocore_signer(key: Key, digest: hashes.HashAlgorithm) -> BotocoreSigner:
    def sign(message: bytes) -> bytes:
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(message, padding.PKCS1v15(), digest)
        return key.sign(message, ec.ECDSA(digest, deterministic_signing=True))

    return BotocoreSigner(KEY_ID, sign)


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# Like botocore, byte for byte; SHA-256 adds one parameter at the end, of which botocore does not know.


@pytest.mark.parametrize("url", [URL, QUERY_URL, f"{URL}?"])
@pytest.mark.parametrize("digest", ["sha1", "sha256"])
@pytest.mark.parametrize("kind", KEYS)
def test_a_canned_policy_is_signed_as_botocore_signs_it(kind: str, digest: Digest, url: str) -> None:
    key = KEYS[kind]()
    theirs = botocore_signer(key, DIGESTS[digest]).generate_presigned_url(url, date_less_than=moment(EXPIRES))
    hash_algorithm = "&Hash-Algorithm=SHA256" if digest == "sha256" else ""
    assert signer(kind, digest).sign_url(url, EXPIRES) == theirs + hash_algorithm


@pytest.mark.parametrize("starts", [None, EXPIRES - 3600])
@pytest.mark.parametrize(
    ("ip", "network"),
    [(None, None), ("192.0.2.7", "192.0.2.7/32"), ("192.0.2.0/24", "192.0.2.0/24"), ("0.0.0.0/0", "0.0.0.0/0")],
)
@pytest.mark.parametrize("resource", [None, "https://d111111abcdef8.cloudfront.net/media/messages/*", "http*://*/*"])
@pytest.mark.parametrize("kind", KEYS)
def test_a_custom_policy_is_signed_as_botocore_signs_it(
    kind: str, resource: str | None, ip: str | None, network: str | None, starts: int | None
) -> None:
    theirs = botocore_signer(KEYS[kind](), SHA1)
    policy = theirs.build_policy(
        resource or QUERY_URL, moment(EXPIRES), None if starts is None else moment(starts), network
    )
    url = signer(kind).sign_url_with_policy(QUERY_URL, expires=EXPIRES, resource=resource, starts=starts, ip=ip)
    assert url == theirs.generate_presigned_url(QUERY_URL, policy=policy)


def test_a_url_reads_like_the_one_of_the_guide() -> None:
    url = signer(digest="sha256").sign_url(QUERY_URL, EXPIRES)
    names = [name for name, _ in parse_qsl(url.partition("?")[2])]
    assert url.startswith(f"{QUERY_URL}&Expires=1767290400&Signature=")
    assert url.endswith("&Key-Pair-Id=K2JCJMDEHXQW5F&Hash-Algorithm=SHA256")
    assert names == ["color", "size", "Expires", "Signature", "Key-Pair-Id", "Hash-Algorithm"]


def test_the_alphabet_needs_no_percent_encoding() -> None:
    urls = [signer().sign_url(f"{URL}?n={number}", EXPIRES) for number in range(40)]
    signatures = "".join(dict(parse_qsl(url.partition("?")[2]))["Signature"] for url in urls)
    assert set("-_~") <= set(signatures)
    assert not set("+=/%") & set(signatures)


# What the edge makes of it.


@pytest.mark.parametrize("digest", DIGESTS)
@pytest.mark.parametrize("kind", KEYS)
def test_the_public_key_confirms_every_form(kind: str, digest: Digest) -> None:
    key = KEYS[kind]()
    signing = signer(kind, digest)
    assert opens(key, signing.sign_url(URL, EXPIRES))
    assert opens(key, signing.sign_url(QUERY_URL, EXPIRES))
    assert opens(key, signing.sign_url_with_policy(QUERY_URL, expires=EXPIRES, ip="192.0.2.7"))


@given(message_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), download=st.booleans())
def test_every_url_of_the_gateway_can_be_signed(message_id: str, download: bool) -> None:  # noqa: FBT001 hypothesis names it
    base = Signer({}, public_url="https://cdn.example.com").unsigned(message_id)
    url = signer("ECDSA", "sha256").sign_url(f"{base}?download=1" if download else base, EXPIRES)
    assert opens(ecdsa_key(), url)


@given(st.data())
def test_any_changed_byte_is_refused(data: st.DataObject) -> None:
    url = signer("ECDSA", "sha256").sign_url(QUERY_URL, EXPIRES)
    position = data.draw(st.integers(0, len(url) - 1))
    other = data.draw(st.characters(min_codepoint=0x21, max_codepoint=0x7E).filter(lambda char: char != url[position]))
    assert not opens(ecdsa_key(), url[:position] + other + url[position + 1 :])


@pytest.mark.parametrize("digest", DIGESTS)
@pytest.mark.parametrize("kind", KEYS)
def test_the_same_url_and_expiry_are_signed_alike_so_that_caches_see_one_url(kind: str, digest: Digest) -> None:
    one, other = (CloudFrontSigner(KEY_ID, pem(KEYS[kind]()), digest) for _ in range(2))
    assert one.sign_url(URL, EXPIRES) == other.sign_url(URL, EXPIRES)
    assert one.sign_url(URL, EXPIRES) != one.sign_url(URL, EXPIRES + 1)


# Cookies.


def test_cookies_of_a_canned_policy_hold_what_its_url_holds() -> None:
    given = dict(parse_qsl(signer().sign_url(URL, EXPIRES).partition("?")[2]))
    assert signer().cookies(URL, EXPIRES) == {
        "CloudFront-Expires": "1767290400",
        "CloudFront-Signature": given["Signature"],
        "CloudFront-Key-Pair-Id": KEY_ID,
    }


@pytest.mark.parametrize("kind", KEYS)
def test_cookies_of_a_custom_policy_open_all_that_it_names(kind: str) -> None:
    resource = "https://d111111abcdef8.cloudfront.net/*"
    cookies = signer(kind, "sha256").cookies_with_policy(resource, expires=EXPIRES, ip="10.0.0.0/8")
    policy = decoded(cookies["CloudFront-Policy"])
    verify(KEYS[kind](), decoded(cookies["CloudFront-Signature"]), policy, SHA256)
    condition = {"DateLessThan": {"AWS:EpochTime": EXPIRES}, "IpAddress": {"AWS:SourceIp": "10.0.0.0/8"}}
    assert json.loads(policy) == {"Statement": [{"Resource": resource, "Condition": condition}]}
    assert list(cookies) == [
        "CloudFront-Policy", "CloudFront-Signature", "CloudFront-Key-Pair-Id", "CloudFront-Hash-Algorithm",
    ]  # fmt: skip
    assert cookies["CloudFront-Hash-Algorithm"] == "SHA256"


# What is refused.


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("kind", KEYS)
def test_either_form_of_pem_is_read(kind: str, form: PrivateFormat) -> None:
    key = KEYS[kind]()
    assert opens(key, CloudFrontSigner(KEY_ID, pem(key, form)).sign_url(URL, EXPIRES))


def public_pem() -> bytes:
    return rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(lambda: b"", "not a private key", id="nothing"),
        pytest.param(lambda: b"/run/secrets/key.pem", "not a private key", id="the name of a file"),
        pytest.param(lambda: pem(rsa_key())[:-200], "not a private key", id="half a key"),
        pytest.param(lambda: pem(rsa_key()).replace(b"\n", b"\\n"), "not a private key", id="escaped line ends"),
        pytest.param(public_pem, "public one", id="the public key"),
        pytest.param(
            lambda: pem(rsa_key(), encryption=BestAvailableEncryption(b"x")), "encrypted", id="with a passphrase"
        ),
        pytest.param(lambda: pem(rsa.generate_private_key(65537, 3072)), "neither RSA", id="RSA of 3,072 bits"),
        pytest.param(lambda: pem(ec.generate_private_key(ec.SECP384R1())), "neither RSA", id="P-384"),
        pytest.param(lambda: pem(ed25519.Ed25519PrivateKey.generate()), "neither RSA", id="Ed25519"),
    ],
)
def test_a_key_that_cloudfront_does_not_take_is_refused_without_a_word_of_it(
    make: Callable[[], bytes], why: str
) -> None:
    key = make()
    with pytest.raises(ValueError, match=why) as caught:
        CloudFrontSigner(KEY_ID, key)
    told = "".join(traceback.format_exception(caught.value))
    assert not [line for line in key.decode().splitlines() if len(line) > 20 and "KEY" not in line and line in told]


def test_a_signer_does_not_show_its_key() -> None:
    assert str(rsa_key().private_numbers().d) not in repr(vars(signer()))
    assert "PRIVATE" not in repr(vars(signer()))


@pytest.mark.parametrize("key_id", ["", "K2&Policy=", "K 2", "K2\n", "ключ"])
def test_the_id_of_a_key_goes_into_urls_as_it_is(key_id: str) -> None:
    with pytest.raises(ValueError, match="ID of a CloudFront key"):
        CloudFrontSigner(key_id, pem(rsa_key()))


@pytest.mark.parametrize(
    "url",
    ["", "/image.jpg", "//cdn.example.com/a", "ftp://cdn.example.com/a", "https:///a", "https://cdn.example.com",
     "https://user:password@cdn.example.com/a", f"{URL}#t=5", f"{URL}?a=b c", f"{URL}?a=ä", f'{URL}?a="', f"{URL}?a=\\",
     f"{URL}\n", f"{URL}*"],
)  # fmt: skip
def test_only_an_absolute_url_in_ascii_is_signed(url: str) -> None:
    with pytest.raises(ValueError, match="absolute"):
        signer().sign_url(url, EXPIRES)
    with pytest.raises(ValueError, match="absolute"):
        signer().sign_url_with_policy(url, expires=EXPIRES, resource="https://cdn.example.com/*")
    with pytest.raises(ValueError, match="absolute"):
        signer().cookies(url, EXPIRES)


@pytest.mark.parametrize("name", [*OWN_PARAMETERS, "Key%2DPair-Id"])
def test_a_url_is_signed_once(name: str) -> None:
    with pytest.raises(ValueError, match="already"):
        signer().sign_url(f"{URL}?variant=webp&{name}=", EXPIRES)


@pytest.mark.parametrize(
    "resource", ["", "*", "cdn.example.com/*", 'https://cdn.example.com/"*', "https://cdn.example.com/ä*"]
)
def test_a_policy_names_urls(resource: str) -> None:
    with pytest.raises(ValueError, match="resource"):
        signer().cookies_with_policy(resource, expires=EXPIRES)


@pytest.mark.parametrize("ip", ["", "::1", "2001:db8::/32", "192.0.2.300", "192.0.2.7/24", "example.com"])
def test_a_policy_holds_for_ipv4_only(ip: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        signer().sign_url_with_policy(URL, expires=EXPIRES, ip=ip)


@pytest.mark.parametrize("starts", [EXPIRES, EXPIRES + 1])
def test_a_policy_begins_before_it_ends(starts: int) -> None:
    with pytest.raises(ValueError, match="before it begins"):
        signer().sign_url_with_policy(URL, expires=EXPIRES, starts=starts)
