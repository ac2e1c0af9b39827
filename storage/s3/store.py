"""The store itself: a bucket, with its clients for reads and for everything else."""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from storage.errors import ObjectNotFound, StoreForbidden
from storage.s3.answers import translated
from storage.s3.client import Client
from storage.s3.config import S3Config
from storage.s3.dialling import Dialler, Proxy
from storage.s3.hedging import Hedging
from storage.s3.pool import Pool
from storage.s3.reading import Read
from storage.s3.signing import Signatures
from storage.s3.uploads import Uploads
from storage.store import ByteRange, ObjectMeta, ObjectReader, PresignedUrl

REQUEST_TIMEOUT: Final = 120.0  # seconds for one whole request that is not a read; the largest carries one part
REQUEST_ATTEMPTS: Final = 2  # within one operation: it may take many requests, and one of them meets a 503
WRITE_CONNECTIONS: Final = 32


class S3Store:
    """A bucket; use it within ``async with``, which opens the connections it needs."""

    backend: ClassVar[str] = "s3"

    _client: Any
    _signatures: Signatures
    _reads: Client

    def __init__(
        self, config: S3Config, *, clock: Callable[[], float] = time.time, hedging: Hedging | None = None
    ) -> None:
        """Take where the bucket is, a clock in Unix seconds for what is signed, and the policy for late answers."""
        self._config = config
        self._clock = clock
        self._hedging = hedging or Hedging()
        self._uploads = Uploads(self._call, conditional=config.conditional_writes, digest=not config.on_aws)
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        session = get_session()
        if self._config.access_key_id and self._config.secret_access_key:
            session.set_credentials(
                self._config.access_key_id, self._config.secret_access_key, self._config.session_token
            )
        async with AsyncExitStack() as stack:
            self._client = await stack.enter_async_context(_client(session, self._config))
            credentials = await session.get_credentials()
            dialler = _dialler(self._config, await asyncio.to_thread(_trusted, session))
            self._signatures = Signatures(
                self._config, credentials, clock=self._clock, target=dialler.target, fields=dialler.fields
            )
            pool = Pool(dialler)
            stack.push_async_callback(pool.aclose)
            self._reads = Client(pool, self._hedging)
            self._resources = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._resources.aclose()

    def url(self, key: str) -> str:
        """Return ``s3://`` or ``r2://``, the bucket and the key as it is."""
        return f"{self.backend}://{self._config.bucket}/{key}"

    async def put(self, key: str, file: Path, *, content_type: str) -> bool:
        """Upload ``file``, a large one in parts."""
        if not self._config.conditional_writes and await self._may_exist(key):
            return False
        return await self._uploads.put(key, file, content_type)

    def open(self, key: str, byte_range: ByteRange | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        """Send one GET; what comes back is checked to be exactly the bytes that were asked for."""
        return Read(self._reads, self._signatures, key, byte_range)

    async def head(self, key: str) -> ObjectMeta:
        """Ask for size and time; the answer has no body, so a missing bucket looks like a missing object."""
        found = await self._call("head_object", Key=key)
        return ObjectMeta(key=key, size=found["ContentLength"], last_modified=found["LastModified"])

    async def delete(self, key: str) -> None:
        """Delete the object; S3 says the same of one that is not there."""
        with suppress(ObjectNotFound):
            await self._call("delete_object", Key=key)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectMeta, None]:
        """Iterate over the bucket in pages of ``page_size``."""
        query: dict[str, Any] | None = {"Prefix": prefix, "MaxKeys": self._config.page_size}
        while query:
            page = await self._call("list_objects_v2", **query)
            token = page.get("NextContinuationToken")
            query = {**query, "ContinuationToken": token} if token else None
            for found in page.get("Contents", ()):
                yield ObjectMeta(key=found["Key"], size=found["Size"], last_modified=found["LastModified"])

    async def check(self) -> None:
        """List one key: without that permission a missing object could not be told from a forbidden one."""
        await self._call("list_objects_v2", MaxKeys=1)

    async def presign(
        self, key: str, *, life: int, content_type: str, content_disposition: str, cache_control: str
    ) -> PresignedUrl | None:
        """Sign a GET as of the last tenth of its life: the same until the next one."""
        overrides = {
            "response-cache-control": cache_control,
            "response-content-disposition": content_disposition,
            "response-content-type": content_type,
        }
        with translated():
            return await self._signatures.presign(key, life, overrides)

    async def _call(self, operation: str, **parameters: Any) -> Any:
        with translated():
            async with asyncio.timeout(REQUEST_TIMEOUT):
                return await getattr(self._client, operation)(Bucket=self._config.bucket, **parameters)

    async def _may_exist(self, key: str) -> bool:
        try:
            await self.head(key)
        except (ObjectNotFound, StoreForbidden):
            return False
        return True


class R2Store(S3Store):
    """A bucket of Cloudflare R2."""

    backend = "r2"


def _client(session: AioSession, config: S3Config) -> AbstractAsyncContextManager[Any]:
    checksums = "when_supported" if config.on_aws else "when_required"  # R2 and others refuse the newer ones
    options = AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": "path" if config.path_style else "virtual"},
        connect_timeout=config.connect_timeout,
        read_timeout=config.read_timeout,
        max_pool_connections=WRITE_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": REQUEST_ATTEMPTS},
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
    )
    client: AbstractAsyncContextManager[Any] = session.create_client(
        "s3", region_name=config.region, endpoint_url=config.endpoint, config=options
    )
    return client


def _dialler(config: S3Config, trusted: ssl.SSLContext) -> Dialler:
    proxy = get_environ_proxies(config.bucket_url).get(urlsplit(config.bucket_url).scheme)  # as botocore does
    return Dialler(
        config.bucket_url,
        trusted=trusted,
        proxy=Proxy(proxy) if proxy else None,
        connect_timeout=config.connect_timeout,
        silence=config.read_timeout,
        receive_buffer=config.receive_buffer,
    )


def _trusted(session: AioSession) -> ssl.SSLContext:
    """Return the certificates that botocore trusts: reads must not fail where writes work."""
    return ssl.create_default_context(cafile=session.get_config_variable("ca_bundle") or get_cert_path(verify=True))
