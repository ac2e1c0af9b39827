"""The store itself: a bucket, with its clients for reads and for everything else."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from storage.authorities import Authorities
from storage.errors import ObjectNotFound, StoreForbidden
from storage.s3.answers import translated
from storage.s3.client import Client
from storage.s3.config import S3Config
from storage.s3.dialling import Dialler, Proxy
from storage.s3.hedging import Hedging
from storage.s3.pool import Pool
from storage.s3.reading import Read, check_listing
from storage.s3.signing import Signatures, StaticCredentials
from storage.s3.uploads import Uploads
from storage.store import ByteRange, ObjectMeta, ObjectReader, PresignedUrl

REQUEST_TIMEOUT: Final = 120.0  # seconds for one whole request that is not a read; the largest carries one part


class S3Store:
    """A bucket; use it within ``async with``.

    botocore takes a fourth of a start and of the memory of a process that only reads. It is loaded with the first
    write, unless it has to look for the credentials.
    """

    backend: ClassVar[str] = "s3"

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
        self._opening = asyncio.Lock()
        self._session: Any = None
        self._client: Any = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            credentials, authorities = await self._identity()
            dialler = _dialler(self._config, authorities)
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
        await check_listing(self._reads, self._signatures)

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
                client = self._client or await self._opened()
                return await getattr(client, operation)(Bucket=self._config.bucket, **parameters)

    async def _identity(self) -> tuple[Any, Authorities]:
        """Return the credentials and who is trusted, both as botocore takes them."""
        config = self._config
        if config.access_key_id and config.secret_access_key and not _has_profiles():
            static = StaticCredentials(config.access_key_id, config.secret_access_key, config.session_token)
            return static, Authorities(os.environ.get("AWS_CA_BUNDLE"))
        driver = await self._driver()
        return await self._session.get_credentials(), Authorities(driver.trusted_authorities(self._session))

    async def _driver(self) -> Any:
        """Load what is loaded late, in a thread, and begin its session."""
        driver = await asyncio.to_thread(import_module, "storage.s3.driver")
        if self._session is None:
            self._session = driver.open_session(self._config)
        return driver

    async def _opened(self) -> Any:
        """Return the client, opened by the first call of all."""
        async with self._opening:
            if self._client is None:
                driver = await self._driver()
                await asyncio.to_thread(driver.load_model, self._session)
                opening = driver.open_client(self._session, self._config)
                self._client = await self._resources.enter_async_context(opening)
            return self._client

    async def _may_exist(self, key: str) -> bool:
        try:
            await self.head(key)
        except (ObjectNotFound, StoreForbidden):
            return False
        return True


class R2Store(S3Store):
    """A bucket of Cloudflare R2."""

    backend = "r2"


def _dialler(config: S3Config, trusted: Authorities) -> Dialler:
    return Dialler(
        config.bucket_url,
        trusted=trusted,
        proxy=_proxy(config.bucket_url),
        connect_timeout=config.connect_timeout,
        silence=config.read_timeout,
        receive_buffer=config.receive_buffer,
    )


def _proxy(url: str) -> Proxy | None:
    """Return what the environment says is between us and a URL, as botocore reads it."""
    parts = urlsplit(url)
    found = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    return Proxy(found) if found else None


def _has_profiles() -> bool:
    """Whether there are files of AWS's own tools, which may say more than our settings: only botocore reads them."""
    files = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}
    named = any(name in os.environ for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"))
    return named or any(Path(os.environ.get(name, usual)).expanduser().exists() for name, usual in files.items())
