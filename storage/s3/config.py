"""Where a bucket is and how to talk to its store."""

from dataclasses import dataclass, field
from typing import Final, Literal, Self

CONNECT_TIMEOUT: Final = 5.0  # seconds for TCP and TLS
READ_TIMEOUT: Final = 10.0  # seconds of silence, before the first byte and between two
RECEIVE_BUFFER: Final = 128 * 1024  # bytes; the kernel would let that of a slow reader grow to megabytes


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
