"""Whose media we fetch, from which API, and within which limits: plain values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self
from urllib.parse import quote

import httpx

from ingest.whatsapp.breaker import BreakerPolicy
from ingest.whatsapp.dialling import META_HOSTS, HostRules, canonical, host_and_port
from storage.errors import OriginFailed, OriginGone

GRAPH_URL = "https://graph.facebook.com"
API_VERSION = "v23.0"
MAX_MEDIA_BYTES = 100 * 1024 * 1024
"""WhatsApp delivers no larger inbound medium (error 131052)."""

META_HOST_RULES = HostRules.parse(META_HOSTS)

_TOKEN = re.compile(r"[\x21-\x7e]+")
_VERSION = re.compile(r"v[0-9]+\.[0-9]+")
_MAX_ID_LENGTH = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A workspace's account at the provider.

    Raises:
        ValueError: No header can carry this token.
    """

    workspace_id: str
    access_token: str = field(repr=False)
    phone_number_id: str | None = None
    """Of the business number, where a medium does not name its own."""

    def __post_init__(self) -> None:
        """Refuse a token that h11 would quote in its own error."""
        if not _TOKEN.fullmatch(self.access_token):
            raise ValueError(
                f"the access token of workspace {self.workspace_id!r} is empty or has characters no header can carry"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a provider's API differs from Meta's."""

    name: str
    breaker: BreakerPolicy
    base_url: str = GRAPH_URL
    auth_header: str = "Authorization"
    auth_prefix: str = "Bearer "
    is_versioned: bool = True
    sends_phone_number: bool = True
    """With it, the provider answers only for media of that number: a second lock between tenants."""
    downloads_from_base: bool = False
    """Whether the host of a download URL is replaced by that of the API."""
    attempts: int = 2
    """How often a request is sent where the connection breaks, the provider stumbles, or the URL is stale."""


META = Profile(name="meta", breaker=BreakerPolicy(errors=20, window=60.0, cooldown=30.0))

# It blocks `GET /{id}` for half an hour after 20 error answers in an hour: nothing is asked twice, and we stop first.
DIALOG360 = Profile(
    name="360dialog",
    breaker=BreakerPolicy(errors=15, window=3600.0, cooldown=1800.0, ceiling=19, counts_permanent=True),
    base_url="https://waba-v2.360dialog.io",
    auth_header="D360-API-KEY",
    auth_prefix="",
    is_versioned=False,
    sends_phone_number=False,
    downloads_from_base=True,
    attempts=1,
)

PROFILES: Mapping[str, Profile] = MappingProxyType({profile.name: profile for profile in (META, DIALOG360)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds. An answer begins within ``2 * (resolve + headers)``, below the 30 that a CDN gives an origin."""

    resolve: float = 6.0
    """From asking what an ID stands for to the whole answer, a second try included."""
    connect: float = 3.0
    """Lookup and TCP; TLS gets as much again."""
    headers: float = 8.0
    """From asking for the bytes to the head of the last answer, redirects and a second try included."""
    chunk: float = 15.0
    """Between two chunks of the body."""
    download: float = 300.0
    """For the whole body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider's API, and how far we trust it.

    Raises:
        ValueError: ``base_url`` or ``api_version`` are malformed.
    """

    base_url: str = GRAPH_URL
    """Dialled wherever it points: the operator wrote it."""
    api_version: str = API_VERSION
    profile: Profile = META
    hosts: HostRules = META_HOST_RULES
    timeouts: Timeouts = Timeouts()
    max_size: int = MAX_MEDIA_BYTES
    """Of a medium, in bytes."""

    def __post_init__(self) -> None:
        """Refuse what no request could be built of."""
        base = self._base
        if base.scheme not in ("http", "https") or base.userinfo or base.query or base.fragment:
            raise ValueError("the provider's base URL must be http(s)://host[:port][/path]")
        if not _VERSION.fullmatch(self.api_version):
            raise ValueError("the API version must look like v23.0")

    @classmethod
    def of(cls, profile: str, *, base_url: str | None, api_version: str, hosts: HostRules | None) -> Self:
        """Build the provider of a profile, by its name; None is what the profile says; the version needs no ``v``.

        Raises:
            ValueError: The base URL is malformed.
        """
        chosen = PROFILES[profile]
        return cls(
            base_url=base_url or chosen.base_url,
            api_version=f"v{api_version.removeprefix('v')}",
            profile=chosen,
            hosts=hosts or META_HOST_RULES,
        )

    @property
    def _base(self) -> httpx.URL:
        try:
            return canonical(httpx.URL(self.base_url.rstrip("/")))
        except (httpx.InvalidURL, ValueError):
            raise ValueError("the provider's base URL is malformed") from None

    def resolve_url(self, media_id: str, phone_number_id: str | None) -> httpx.URL:
        """Build the URL that resolves a media ID, which is untrusted.

        Raises:
            OriginGone: It is none that a provider could have given out; nobody needs to be asked.
        """
        if not 0 < len(media_id) <= _MAX_ID_LENGTH or not media_id.isprintable() or media_id in (".", ".."):
            raise OriginGone("The medium's ID is none of the provider's.")
        path = (
            f"{self.api_version}/{quote(media_id, safe='')}" if self.profile.is_versioned else quote(media_id, safe="")
        )
        url = httpx.URL(f"{self._base}/{path}")
        if phone_number_id is None or not self.profile.sends_phone_number:
            return url
        return url.copy_with(params={"phone_number_id": phone_number_id})

    def download_url(self, url: str) -> httpx.URL:
        """Return the URL to ask for the bytes, given the resolved one; raises OriginFailed where it is not allowed."""
        if not self.profile.downloads_from_base:
            return self.hosts.check(url)
        try:
            return self._base.copy_with(raw_path=httpx.URL(url).raw_path)
        except httpx.InvalidURL:
            raise OriginFailed("The provider named a malformed URL.") from None

    def redirect_url(self, url: httpx.URL, location: str | None) -> httpx.URL:
        """Return where a redirect leads, seen from ``url``; raises OriginFailed where that is not allowed."""
        if not location:
            raise OriginFailed("The provider redirects to nowhere.")
        try:
            target = url.join(location)
        except httpx.InvalidURL:
            raise OriginFailed("The provider redirects to a malformed URL.") from None
        return self.hosts.check(target)

    def credentials(self, account: Account) -> dict[str, str]:
        """Build the header that carries the account's token."""
        return {self.profile.auth_header: self.profile.auth_prefix + account.access_token}

    def allow_inward(self, host: str, port: int) -> bool:
        """Tell whether a host may have a private address: the operator's own base URL and exact entries may."""
        return (host, port) == host_and_port(self._base) or self.hosts.allow_inward(host, port)
