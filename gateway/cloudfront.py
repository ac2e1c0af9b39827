"""Signs CloudFront URLs and cookies, with which the CDN itself lets a viewer in.

After AWS's Developer Guide, "Serve private content with signed URLs and signed cookies"; checked against botocore's
signer, which knows neither SHA-256 nor ECDSA.
"""

import json
import re
from base64 import b64encode
from ipaddress import IPv4Network
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

RSA_BITS: Final = 2048

_ALPHABET: Final = bytes.maketrans(b"+=/", b"-_~")
_KEY_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,128}")
# The characters of RFC 3986: the policy is JSON, and neither it nor CloudFront may see another way to write them.
_URL: Final = re.compile(r"https?://[0-9A-Za-z.:\[\]-]+/[0-9A-Za-z._~:/?@!$&'()+,;=%\[\]-]*")
_RESOURCE: Final = re.compile(r"http[s*]?://[0-9A-Za-z.:\[\]*?-]+/[0-9A-Za-z._~:/?@!$&'()+,;=%\[\]*-]*")
_RESERVED: Final = frozenset({"Expires", "Policy", "Signature", "Key-Pair-Id", "Hash-Algorithm"})

Digest = Literal["sha1", "sha256"]


class CloudFrontSigner:
    """Signs with one key of a trusted key group; the same input gives the same signature, so that caches see one URL.

    All times are Unix seconds. An RSA signature takes 0.7 ms of a processor, an ECDSA one a tenth of that.

    Args:
        key_id: CloudFront's ID of the public key.
        private_key_pem: RSA of 2,048 bits or ECDSA on P-256, without a passphrase.
        digest: What is signed; CloudFront takes SHA-1 for granted and is told of SHA-256 in each URL.

    Raises:
        ValueError: The key or its ID is none that CloudFront takes; the message says why and holds nothing of the key.
    """

    def __init__(self, key_id: str, private_key_pem: bytes, digest: Digest = "sha256") -> None:
        if not _KEY_ID.fullmatch(key_id):
            raise ValueError("the ID of a CloudFront key is made of letters and digits")
        self._key_id = key_id
        self._key = _load(private_key_pem)
        self._digest = digest

    def sign_url(self, url: str, expires: int) -> str:
        """Return ``url`` with the proof that it, and nothing else, may be read until ``expires`` (canned policy).

        Raises:
            ValueError: It is not an absolute URL in ASCII without a fragment, or it is signed already.
        """
        _check_url(url)
        return _appended(url, self._parameters(_policy(url, expires), expires))

    def sign_url_with_policy(
        self, url: str, *, expires: int, resource: str | None = None, starts: int | None = None, ip: str | None = None
    ) -> str:
        """Return ``url`` with a proof that also opens other URLs, only begins later, or holds for some viewers only.

        Args:
            url: As for `sign_url`.
            expires: The first second at which it opens nothing any more.
            resource: What the policy opens, with ``*`` for any characters and ``?`` for one; None: the URL itself.
            starts: The last second at which it does not open anything yet.
            ip: The viewer's address or network, IPv4 only.

        Raises:
            ValueError: As `sign_url`, or the policy makes no sense.
        """
        _check_url(url)
        policy = _custom_policy(url if resource is None else resource, expires, starts, ip)
        return _appended(url, self._parameters(policy))

    def cookies(self, url: str, expires: int) -> dict[str, str]:
        """Return the cookies, by name, that open one URL; send them ``Secure`` and ``HttpOnly``."""
        _check_url(url)
        return _as_cookies(self._parameters(_policy(url, expires), expires))

    def cookies_with_policy(
        self, resource: str, *, expires: int, starts: int | None = None, ip: str | None = None
    ) -> dict[str, str]:
        """Return the cookies, by name, that open every URL of ``resource``; arguments as of `sign_url_with_policy`."""
        return _as_cookies(self._parameters(_custom_policy(resource, expires, starts, ip)))

    def _parameters(self, policy: bytes, expires: int | None = None) -> dict[str, str]:
        """Return the parameters of a signed URL in AWS's order; a canned policy is known by its expiry alone."""
        parameters = {"Policy": _encoded(policy)} if expires is None else {"Expires": str(expires)}
        parameters |= {"Signature": _encoded(self._sign(policy)), "Key-Pair-Id": self._key_id}
        return parameters | ({"Hash-Algorithm": "SHA256"} if self._digest == "sha256" else {})

    def _sign(self, policy: bytes) -> bytes:
        # CloudFront's own default is SHA-1.
        digest = hashes.SHA256() if self._digest == "sha256" else hashes.SHA1()  # noqa: S303 see above
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(policy, padding.PKCS1v15(), digest)
        return self._key.sign(policy, ec.ECDSA(digest, deterministic_signing=True))  # RFC 6979


def _load(pem: bytes) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    if b"PUBLIC KEY-----" in pem or b"CERTIFICATE-----" in pem:
        raise ValueError("the CloudFront key is a public one: the private key is needed")
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError("the CloudFront private key is encrypted: it must have no passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("the CloudFront private key is not a private key in PEM form") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size == RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ValueError("the CloudFront private key is neither RSA of 2,048 bits nor ECDSA on P-256")


def _check_url(url: str) -> None:
    if not _URL.fullmatch(url):
        raise ValueError("only an absolute http(s) URL in ASCII, percent-encoded and without a fragment, can be signed")
    if any(name in _RESERVED for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)):
        raise ValueError("the URL has one of CloudFront's own parameters already")


def _custom_policy(resource: str, expires: int, starts: int | None, ip: str | None) -> bytes:
    if not _RESOURCE.fullmatch(resource):
        raise ValueError("the resource of a CloudFront policy must be an absolute http(s) URL in ASCII")
    if starts is not None and starts >= expires:
        raise ValueError("the CloudFront policy would end before it begins")
    return _policy(resource, expires, starts, None if ip is None else str(IPv4Network(ip)))


def _policy(resource: str, expires: int, starts: int | None = None, network: str | None = None) -> bytes:
    """Return the statement to sign; of a canned policy CloudFront makes every byte of it itself, from the URL."""
    condition: dict[str, Any] = {"DateLessThan": {"AWS:EpochTime": expires}}
    if network is not None:
        condition["IpAddress"] = {"AWS:SourceIp": network}
    if starts is not None:
        condition["DateGreaterThan"] = {"AWS:EpochTime": starts}
    statement = {"Statement": [{"Resource": resource, "Condition": condition}]}
    return json.dumps(statement, separators=(",", ":")).encode()


def _encoded(value: bytes) -> str:
    return b64encode(value).translate(_ALPHABET).decode()


def _appended(url: str, parameters: dict[str, str]) -> str:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"{url}{'&' if '?' in url else '?'}{query}"


def _as_cookies(parameters: dict[str, str]) -> dict[str, str]:
    return {f"CloudFront-{name}": value for name, value in parameters.items()}
