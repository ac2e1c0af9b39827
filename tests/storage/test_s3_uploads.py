"""Uploads in parts, and what is left of one that fails: nothing."""

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.errors import ObjectNotFound, StoreFull, StoreUnavailable
from storage.s3 import S3Config, S3Store, uploads
from storage.s3.uploads import PART_SIZE, PARTS_IN_FLIGHT

MakeFile = Callable[[bytes], Path]

PLAIN = "application/octet-stream"


class Recording(S3Store):
    """Notes what is uploaded, and how much of it at once."""

    def __init__(self, config: S3Config) -> None:
        super().__init__(config)
        self.parts: dict[int, int] = {}
        self.at_once = self.most_at_once = 0

    async def _call(self, operation: str, **parameters: Any) -> Any:
        if operation != "upload_part":
            return await super()._call(operation, **parameters)
        self.parts[parameters["PartNumber"]] = len(parameters["Body"].getvalue())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await super()._call(operation, **parameters)
        finally:
            self.at_once -= 1


async def test_parts_are_equal_but_the_last_and_few_at_a_time(s3_config: S3Config, make_file: MakeFile) -> None:
    async with Recording(s3_config) as store:
        await store.put("k", make_file(bytes(6 * PART_SIZE + 1)), content_type=PLAIN)

        assert store.parts == dict.fromkeys(range(1, 7), PART_SIZE) | {7: 1}
        assert store.most_at_once == PARTS_IN_FLIGHT
        assert (await store.head("k")).size == 6 * PART_SIZE + 1


async def test_a_file_of_one_part_is_put_at_once(s3_config: S3Config, make_file: MakeFile) -> None:
    async with Recording(s3_config) as store:
        await store.put("k", make_file(bytes(PART_SIZE)), content_type=PLAIN)

        assert store.parts == {}


async def test_an_upload_whose_file_cannot_be_read_is_aborted(
    s3_config: S3Config,
    make_file: MakeFile,
    pending_uploads: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read_part = uploads._read_part

    def read_first_part(file: Path, offset: int, *, digest: bool) -> dict[str, Any]:
        if offset > 0:
            raise OSError(errno.EIO, "a bad sector")
        return read_part(file, offset, digest=digest)

    monkeypatch.setattr(uploads, "_read_part", read_first_part)
    async with S3Store(s3_config) as store:
        with pytest.raises(StoreUnavailable):
            await store.put("k", make_file(bytes(2 * PART_SIZE)), content_type=PLAIN)

        assert pending_uploads() == []
        with pytest.raises(ObjectNotFound):
            await store.head("k")


@pytest.mark.parametrize("stuck", ["create_multipart_upload", "upload_part", "complete_multipart_upload"])
async def test_an_upload_that_is_cancelled_is_aborted(
    s3_config: S3Config, make_file: MakeFile, pending_uploads: Callable[[], list[str]], stuck: str
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    class Stuck(S3Store):
        async def _call(self, operation: str, **parameters: Any) -> Any:
            if operation == stuck:
                reached.set()
                await go_on.wait()
            return await super()._call(operation, **parameters)

    async with Stuck(s3_config) as store:
        put = asyncio.create_task(store.put("k", make_file(bytes(PART_SIZE + 1)), content_type=PLAIN))
        await asyncio.wait_for(reached.wait(), 10)

        put.cancel()
        await asyncio.sleep(0)
        go_on.set()

        with pytest.raises(asyncio.CancelledError):
            await put
        assert pending_uploads() == []
        with pytest.raises(ObjectNotFound):
            await store.head("k")


async def test_a_failed_abort_does_not_hide_why_the_upload_failed(s3_config: S3Config, make_file: MakeFile) -> None:
    class Offline(S3Store):
        async def _call(self, operation: str, **parameters: Any) -> Any:
            if operation == "upload_part":
                raise StoreFull
            if operation == "abort_multipart_upload":
                raise StoreUnavailable
            return await super()._call(operation, **parameters)

    async with Offline(s3_config) as store:
        with pytest.raises(StoreFull):
            await store.put("k", make_file(bytes(PART_SIZE + 1)), content_type=PLAIN)
