"""Keeps objects in S3, or anything that speaks it; the only module that knows botocore, aiobotocore and aiohttp.

Writes and everything rare go through aiobotocore. Reads are signed with botocore's signer and sent through one aiohttp
session: four times as many small objects a second, and a body that waits for a slow client holds little memory.
"""

import asyncio
import hashlib
import re
import socket
import ssl
import time
from base64 import b64encode
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import structlog
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from aiohttp import AddrInfoType
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies
from cachetools import LRUCache
from yarl import URL

from storage.errors import ObjectFrozen, ObjectNotFound, StorageError, StoreForbidden, StoreFull, StoreUnavailable
from storage.store import CHUNK_SIZE, MAX_PRESIGNED_LIFE, ByteRange, ObjectMeta, ObjectReader, PresignedUrl

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT: Final = 5.0  # seconds for TCP and TLS
POOL_TIMEOUT: Final = 10.0  # seconds for a free connection, connecting included
READ_TIMEOUT: Final = 10.0  # seconds of silence, before the first byte and between two
REQUEST_TIMEOUT: Final = 120.0  # seconds for one whole request that is not a read; the largest carries one part
REQUEST_ATTEMPTS: Final = 2  # within one operation: it may take many requests, and one of them meets a 503
READ_CONNECTIONS: Final = 1024  # a slow client holds its connection as long as it reads
READ_BUFFER: Final = 1  # byte: what a socket has given is handed on before it is read again
RECEIVE_BUFFER: Final = 64 * 1024  # bytes; the kernel would let that of a slow reader grow to megabytes
WRITE_CONNECTIONS: Final = 32
PART_SIZE: Final = 8 * 1024 * 1024  # bytes; R2 wants equal parts, S3 at least 5 MiB
PARTS_IN_FLIGHT: Final = 4
ERROR_BODY_LIMIT: Final = 16 * 1024  # bytes of an error that are looked at
PRESIGNED_KEPT: Final = 1000  # URLs of some 1.5 KB; signing one takes 0.1 ms of a processor
PRESIGNED_LENGTH: Final = 8000  # characters of a URL that every recipient should take (RFC 9110, section 4.1)
PRESIGNED_STEPS: Final = 10  # of a URL's life; within one of them it stays the same

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_FIELD_VALUE: Final = re.compile(r"[ -~]+")
_ERROR_CODE: Final = re.compile(rb"<Code>(\w+)</Code>")


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


class S3Store:
    """A bucket; use it within ``async with``, which opens the connections it needs."""

    backend: ClassVar[str] = "s3"

    _client: Any
    _credentials: Any
    _http: aiohttp.ClientSession

    def __init__(self, config: S3Config, *, clock: Callable[[], float] = time.time) -> None:
        """Take where the bucket is, and a clock in Unix seconds for what is presigned."""
        self._config = config
        self._clock = clock
        self._presigned: LRUCache[tuple[object, ...], str] = LRUCache(PRESIGNED_KEPT)
        self._condition = {"IfNoneMatch": "*"} if config.conditional_writes else {}
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        session = get_session()
        if self._config.access_key_id and self._config.secret_access_key:
            session.set_credentials(
                self._config.access_key_id, self._config.secret_access_key, self._config.session_token
            )
        async with AsyncExitStack() as stack:
            self._client = await stack.enter_async_context(_client(session, self._config))
            self._credentials = await session.get_credentials()
            trusted = await asyncio.to_thread(_trusted, session)
            self._http = await stack.enter_async_context(_session(self._config, trusted))
            self._resources = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._resources.aclose()

    def url(self, key: str) -> str:
        """Return ``s3://`` or ``r2://``, the bucket and the key as it is."""
        return f"{self.backend}://{self._config.bucket}/{key}"

    async def put(self, key: str, file: Path, *, content_type: str) -> bool:
        """Upload ``file``, above ``PART_SIZE`` in parts; whatever ends the upload early also aborts it at the store."""
        if not self._config.conditional_writes and await self._may_exist(key):
            return False
        with _translated():
            size = (await asyncio.to_thread(file.stat)).st_size
        try:
            if size <= PART_SIZE:
                part = await self._part(file, 0)
                await self._call("put_object", Key=key, ContentType=content_type, **part, **self._condition)
            else:
                await self._put_parts(key, file, size, content_type)
        except _KeyTaken:
            return False
        return True

    @asynccontextmanager
    async def open(self, key: str, byte_range: ByteRange | None = None) -> AsyncIterator[ObjectReader]:
        """Send one GET; what comes back is checked to be exactly the bytes that were asked for."""
        async with AsyncExitStack() as stack:
            with _translated():
                headers = await self._headers(key, byte_range)
                url = URL(self._object_url(key), encoded=True)
                response = await stack.enter_async_context(self._http.get(url, headers=headers, allow_redirects=False))
                if response.status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
                    raise await _refusal(response)
            size, length = read_sizes(response.status, response.headers, byte_range)
            chunks = await stack.enter_async_context(aclosing(_chunks(response, length)))
            yield ObjectReader(size=size, chunks=chunks)

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
        began, lasts = presigned_window(self._clock(), life)
        overrides = {
            "response-cache-control": cache_control,
            "response-content-disposition": content_disposition,
            "response-content-type": content_type,
        }
        with _translated():
            url = self._object_url(key)
            credentials = await self._frozen_credentials()
        if not all(map(_FIELD_VALUE.fullmatch, overrides.values())) or self._must_renew_within(began + lasts):
            return None
        call = (credentials.access_key, url, began, lasts, *overrides.values())
        if call not in self._presigned:
            auth = S3SigV4QueryAuth(credentials, "s3", self._config.region)
            self._presigned[call] = _presigned(auth, url, overrides, began, lasts)
        signed = self._presigned[call]
        return PresignedUrl(signed, began + lasts) if len(signed) <= PRESIGNED_LENGTH else None

    def _must_renew_within(self, moment: int) -> bool:
        """Whether the credentials end before ``moment``, in Unix seconds: with them, everything that they signed."""
        renewed = isinstance(self._credentials, RefreshableCredentials)
        return renewed and self._credentials.refresh_needed(moment - self._clock())

    def _object_url(self, key: str) -> str:
        if not key:  # the bucket itself, whose listing would pass for an object
            raise ObjectNotFound
        return f"{self._config.bucket_url}/{quote(key, safe='/~')}"

    async def _call(self, operation: str, **parameters: Any) -> Any:
        with _translated():
            async with asyncio.timeout(REQUEST_TIMEOUT):
                return await getattr(self._client, operation)(Bucket=self._config.bucket, **parameters)

    async def _headers(self, key: str, byte_range: ByteRange | None) -> dict[str, str]:
        """Return the headers of a GET, signed now: the credentials of a machine's role change every few hours."""
        request = AWSRequest(method="GET", url=self._object_url(key))
        S3SigV4Auth(await self._frozen_credentials(), "s3", self._config.region).add_auth(request)
        wanted = {"Range": f"bytes={byte_range.start}-{byte_range.stop - 1}"} if byte_range else {}
        return {**request.headers, **wanted, "Accept-Encoding": "identity"}

    async def _frozen_credentials(self) -> Any:
        if self._credentials is None:
            raise NoCredentialsError
        return await self._credentials.get_frozen_credentials()

    async def _may_exist(self, key: str) -> bool:
        try:
            await self.head(key)
        except (ObjectNotFound, StoreForbidden):
            return False
        return True

    async def _put_parts(self, key: str, file: Path, size: int, content_type: str) -> None:
        async with self._multipart_upload(key, content_type) as upload:
            parts = await self._send_parts(file, size, upload)
            listed = [{"PartNumber": number, "ETag": parts[number]} for number in sorted(parts)]
            completion = {"MultipartUpload": {"Parts": listed}, **self._condition}
            await self._call("complete_multipart_upload", **upload, **completion)

    @asynccontextmanager
    async def _multipart_upload(self, key: str, content_type: str) -> AsyncIterator[dict[str, str]]:
        """Begin an upload, and abort it where the block fails or is cancelled: its parts would cost money for ever."""
        begun = asyncio.ensure_future(self._call("create_multipart_upload", Key=key, ContentType=content_type))
        try:
            upload_id = (await asyncio.shield(begun))["UploadId"]
            yield {"Key": key, "UploadId": upload_id}
        except BaseException:
            await asyncio.shield(self._abort(key, begun))
            raise

    async def _abort(self, key: str, begun: asyncio.Future[Any]) -> None:
        await asyncio.wait([begun])  # the store may begin an upload after its caller was cancelled
        if begun.cancelled() or begun.exception():
            return
        try:
            await self._call("abort_multipart_upload", Key=key, UploadId=begun.result()["UploadId"])
        except StorageError as error:
            log.warning("multipart_upload_left_behind", backend=self.backend, key=key, error=str(error))

    async def _send_parts(self, file: Path, size: int, upload: dict[str, str]) -> dict[int, str]:
        """Send all parts, at most ``PARTS_IN_FLIGHT`` at a time, and return their ETags by number."""
        etags: dict[int, str] = {}
        numbers = iter(range(1, -(-size // PART_SIZE) + 1))

        async def send() -> None:
            for number in numbers:
                part = await self._part(file, (number - 1) * PART_SIZE)
                etags[number] = (await self._call("upload_part", PartNumber=number, **upload, **part))["ETag"]

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(PARTS_IN_FLIGHT):
                    group.create_task(send())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return etags

    async def _part(self, file: Path, offset: int) -> dict[str, Any]:
        with _translated():
            return await asyncio.to_thread(_read_part, file, offset, digest=not self._config.on_aws)


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


def _session(config: S3Config, trusted: ssl.SSLContext) -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(
        total=None, connect=POOL_TIMEOUT, sock_connect=config.connect_timeout, sock_read=config.read_timeout
    )
    sockets = partial(_socket, config.receive_buffer)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=READ_CONNECTIONS, ssl=trusted, socket_factory=sockets),
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=READ_BUFFER,
        proxy=get_environ_proxies(config.bucket_url).get(urlsplit(config.bucket_url).scheme),  # as botocore does
    )


def _socket(receive_buffer: int, address: AddrInfoType) -> socket.socket:
    opened = socket.socket(*address[:3])
    opened.settimeout(0)  # the event loop wants it non-blocking
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    return opened


def _trusted(session: AioSession) -> ssl.SSLContext:
    """Return the certificates that botocore trusts: reads must not fail where writes work."""
    return ssl.create_default_context(cafile=session.get_config_variable("ca_bundle") or get_cert_path(verify=True))


def _read_part(file: Path, offset: int, *, digest: bool) -> dict[str, Any]:
    """Return the part's bytes and, for stores that want no newer checksum, their MD5 (RFC 1864)."""
    with file.open("rb") as source:
        source.seek(offset)
        content = source.read(PART_SIZE)
    part: dict[str, Any] = {"Body": BytesIO(content)}
    if digest:
        part["ContentMD5"] = b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    return part


def presigned_window(now: float, life: int) -> tuple[int, int]:
    """Return when a URL is signed, in Unix seconds, and for how many seconds: ``life`` at least from ``now`` on.

    Raises:
        ValueError: The life is not from 1 to ``MAX_PRESIGNED_LIFE``.
    """
    if not 1 <= life <= MAX_PRESIGNED_LIFE:
        raise ValueError(f"a presigned URL lives from 1 to {MAX_PRESIGNED_LIFE} seconds")
    step = max(1, life // PRESIGNED_STEPS)
    return int(now // step) * step, life + step


def _presigned(auth: S3SigV4QueryAuth, url: str, overrides: Mapping[str, str], began: int, lasts: int) -> str:
    """Return ``url`` with a signature as of ``began``: `add_auth` would take the time of day, and log what it signs."""
    request = AWSRequest(method="GET", url=url)
    request.context["timestamp"] = datetime.fromtimestamp(began, UTC).strftime("%Y%m%dT%H%M%SZ")
    query = {
        **overrides,
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": auth.scope(request),
        "X-Amz-Date": request.context["timestamp"],
        "X-Amz-Expires": str(lasts),
        "X-Amz-SignedHeaders": "host",
    }
    if auth.credentials.token:
        query["X-Amz-Security-Token"] = auth.credentials.token
    request.url = f"{url}?{urlencode(query, quote_via=quote, safe='')}"
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    return f"{request.url}&X-Amz-Signature={signature}"


def read_sizes(status: int, headers: Mapping[str, str], byte_range: ByteRange | None) -> tuple[int, int]:
    """Return the sizes of the whole object and of the body, both in bytes (RFC 9110, section 14.4).

    Raises:
        StoreUnavailable: The body is not exactly what was asked for. The whole object instead of a range is no answer
            either: it may be another version of the object than the ranges before it.
    """
    declared = headers.get("Content-Length", "")
    if byte_range is None and status == HTTPStatus.OK and declared.isdecimal():
        return int(declared), int(declared)
    content_range = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if byte_range and status == HTTPStatus.PARTIAL_CONTENT and content_range:
        first, last, size = map(int, content_range.groups())
        stop = min(byte_range.stop, size)
        if first <= last and (first, last) == (byte_range.start, stop - 1) and declared == str(stop - first):
            return size, stop - first
    raise StoreUnavailable("The object store sent other bytes than it was asked for.")


async def _chunks(response: aiohttp.ClientResponse, length: int) -> AsyncGenerator[bytes, None]:
    """Yield the body in pieces; a reader that pauses holds what is left of one read of the socket, and no more.

    aiohttp reads ahead as soon as its buffer is empty, and the event loops take up to 256 KiB at a time: 200 readers
    that pause hold 96 MB then, 57 MB without reading ahead, and 30 MB where the socket holds less as well.
    """
    while length:
        with _translated():
            _flow(response, on=True)
            content = await response.content.readany()
            _flow(response, on=False)
        if not content:
            raise StoreUnavailable("The object broke off.")
        length -= len(content)
        pieces = deque(content[start : start + CHUNK_SIZE] for start in range(0, len(content), CHUNK_SIZE))
        del content
        while pieces:
            yield pieces.popleft()


def _flow(response: aiohttp.ClientResponse, *, on: bool) -> None:
    connection = response.connection
    if connection is None or connection.protocol is None or connection.transport is None:  # read to the end, or lost
        return
    if on:
        connection.protocol.resume_reading()
    else:
        connection.protocol.pause_reading()


class _KeyTaken(Exception):
    """412: a conditional write found the key in use."""


_BY_CODE: Final[dict[str, type[StorageError]]] = {
    "InvalidObjectState": ObjectFrozen,  # a 403
    "NoSuchBucket": StoreUnavailable,  # a 404, like the next, but says nothing of the object
    "NoSuchUpload": StoreUnavailable,
}
_BY_STATUS: Final[dict[int, type[StorageError]]] = {
    HTTPStatus.UNAUTHORIZED: StoreForbidden,
    HTTPStatus.FORBIDDEN: StoreForbidden,
    HTTPStatus.NOT_FOUND: ObjectNotFound,
    HTTPStatus.INSUFFICIENT_STORAGE: StoreFull,
}
_MESSAGES: Final = {
    "NoSuchBucket": "The bucket of the object store does not exist.",
    "InvalidRange": "The stored object is shorter than expected.",
    "NotImplemented": "The object store does not implement this request.",
    "RequestTimeTooSkewed": "The object store refused access: the clocks differ too much.",
}


def s3_error(status: int, code: str = "", retry_after: str | None = None) -> StorageError | _KeyTaken:
    """Return what an answer means; the code, where there is one, says more than the status.

    A range past the end (416) is `StoreUnavailable`: the object is shorter than what is recorded of it, so this store
    is not the place to read it from, though nothing says that the object is absent.
    """
    if status == HTTPStatus.PRECONDITION_FAILED:
        return _KeyTaken()
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, StoreUnavailable)
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    return kind(_MESSAGES.get(code), retry_after=seconds)


async def _refusal(response: aiohttp.ClientResponse) -> StorageError | _KeyTaken:
    body = b""
    while len(body) < ERROR_BODY_LIMIT and (piece := await response.content.readany()):
        body += piece
    code = _ERROR_CODE.search(body)
    return s3_error(response.status, code.group(1).decode() if code else "", response.headers.get("Retry-After"))


@contextmanager
def _translated() -> Iterator[None]:
    """Raise the drivers' errors as ours."""
    try:
        yield
    except ClientError as error:
        answer = error.response["ResponseMetadata"]
        retry_after = answer.get("HTTPHeaders", {}).get("retry-after")
        raise s3_error(answer["HTTPStatusCode"], error.response["Error"].get("Code", ""), retry_after) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise StoreForbidden("There are no credentials for the object store.") from error
    except UnicodeEncodeError as error:  # a lone surrogate, as JSON may carry
        raise StoreForbidden("The key is not one that the object store can hold.") from error
    except (BotoCoreError, aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
        raise StoreUnavailable from error
