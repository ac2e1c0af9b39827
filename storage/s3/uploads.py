"""Puts files into a bucket, large ones in parts; whatever ends an upload early also aborts it at the store."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import structlog

from storage.errors import StorageError
from storage.s3.answers import KeyTaken, translated

log = structlog.get_logger(__name__)

PART_SIZE: Final = 8 * 1024 * 1024  # bytes; R2 wants equal parts, S3 at least 5 MiB
PARTS_IN_FLIGHT: Final = 4


class Uploads:
    """Puts through the calls of one bucket."""

    def __init__(self, call: Callable[..., Coroutine[Any, Any, Any]], *, conditional: bool, digest: bool) -> None:
        """Take how to call the bucket, whether it knows ``If-None-Match``, and whether it wants the MD5 of a part."""
        self._call = call
        self._condition = {"IfNoneMatch": "*"} if conditional else {}
        self._digest = digest

    async def put(self, key: str, file: Path, content_type: str) -> bool:
        """Upload ``file``, above ``PART_SIZE`` in parts; False: the key is taken."""
        with translated():
            size = (await asyncio.to_thread(file.stat)).st_size
        try:
            if size <= PART_SIZE:
                part = await self._part(file, 0)
                await self._call("put_object", Key=key, ContentType=content_type, **part, **self._condition)
            else:
                await self._put_parts(key, file, size, content_type)
        except KeyTaken:
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
            log.warning("multipart_upload_left_behind", key=key, error=str(error))

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
        with translated():
            return await asyncio.to_thread(_read_part, file, offset, digest=self._digest)


def _read_part(file: Path, offset: int, *, digest: bool) -> dict[str, Any]:
    """Return the part's bytes and, for stores that want no newer checksum, their MD5 (RFC 1864)."""
    with file.open("rb") as source:
        source.seek(offset)
        content = source.read(PART_SIZE)
    part: dict[str, Any] = {"Body": BytesIO(content)}
    if digest:
        part["ContentMD5"] = b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    return part
