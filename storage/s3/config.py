"""Where a bucket is and how to talk to its store."""

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Literal, Self
from urllib.parse import urlsplit

CONNECT_TIMEOUT: Final = 5.0  # seconds for TCP and TLS
READ_TIMEOUT: Final = 10.0  # seconds of silence, before the first byte and between two
RECEIVE_BUFFER: Final = 256 * 1024  # bytes; the kernel would let that of a slow reader grow to megabytes

_LABEL: Final = r"(?!-)[A-Za-z\d-]{1,63}(?<!-)"
_HOST: Final = re.compile(rf"({_LABEL}\.)*{_LABEL}\.?")
_REGION: Final = re.compile(r"(?![0-9]+$)(?!-)[A-Za-z0-9-]{0,63}(?<!-)")
_MAX_HOST: Final = 255  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Config:
    """Where a bucket is and how to talk to its store."""

    bucket: str
    region: str = "us-east-1"
    endpoint_url: str | None = None
    """Scheme and host of something that speaks S3; None: AWS itself."""
    access_key_id: str | None = None
    """None, like the next: botocore finds credentials (environment, profile, role of the machine) and renews them."""
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    """Of temporary credentials."""
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    """Where the bucket's name goes; auto: into the path for an explicit endpoint or a name with dots."""
    conditional_writes: bool = True
    """Whether the store knows ``If-None-Match: *``; without, a racing writer may write the same bytes again."""
    page_size: int = 1000
    """Objects per page of a listing; 1,000 is also the most that S3 gives."""
    connect_timeout: float = CONNECT_TIMEOUT
    read_timeout: float = READ_TIMEOUT
    receive_buffer: int = RECEIVE_BUFFER
    """Bytes that the kernel takes in for one read; it bounds the pace of a distant store to this per round trip."""

    def __post_init__(self) -> None:
        """Refuse what botocore would refuse, which is not asked before the first write.

        Raises:
            ValueError: The endpoint is no URL, or the region no name of one.
        """
        if self.endpoint_url is not None and not _is_endpoint(self.endpoint_url):
            raise ValueError(f"Invalid endpoint: {self.endpoint_url}")
        if not _REGION.fullmatch(self.region):
            raise ValueError(f"Provided region_name '{self.region}' doesn't match a supported format.")

    @classmethod
    def for_r2(
        cls,
        *,
        account_id: str,
        bucket: str,
        access_key_id: str,
        secret_access_key: str,
        endpoint_url: str | None = None,
    ) -> Self:
        """Return the configuration of a bucket of Cloudflare R2; a jurisdiction has an endpoint of its own."""
        return cls(
            bucket=bucket,
            region="auto",
            endpoint_url=endpoint_url or f"https://{account_id}.r2.cloudflarestorage.com",
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
        )

    @property
    def on_aws(self) -> bool:
        """Whether this is S3 itself, with all that the others lack."""
        return self.endpoint_url is None

    @property
    def endpoint(self) -> str:
        """The URL of the store, without the bucket's name and a final slash."""
        suffix = ".cn" if self.region.startswith("cn-") else ""
        return (self.endpoint_url or f"https://s3.{self.region}.amazonaws.com{suffix}").rstrip("/")

    @property
    def path_style(self) -> bool:
        """Whether the bucket's name is in the path; a certificate does not cover a name with dots as a host."""
        if self.addressing_style == "auto":
            return not self.on_aws or "." in self.bucket
        return self.addressing_style == "path"

    @property
    def bucket_url(self) -> str:
        """The URL of the bucket, without a final slash."""
        if self.path_style:
            return f"{self.endpoint}/{self.bucket}"
        scheme, _, host = self.endpoint.partition("://")
        return f"{scheme}://{self.bucket}.{host}"


def _is_endpoint(url: str) -> bool:
    """Whether a URL has a scheme that we speak and a host, and nothing that `urlsplit` would drop."""
    if any(character in url for character in "\t\r\n"):
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if ":" in host:
            ip_address(host)
            return parts.scheme in {"http", "https"}
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and len(host) <= _MAX_HOST and _HOST.fullmatch(host) is not None
