"""Multipart uploads (RFC 7578), kept in a file and cut into their parts there, never held whole."""

import asyncio
import mmap
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

import aiofiles

from ingest.simulator.content import FileContent

_HEADER_END = b"\r\n\r\n"


class UploadTooLargeError(Exception):
    """The body is larger than anybody may send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One field of a form."""

    name: str
    filename: str | None
    content_type: str | None
    content: FileContent

    def text(self) -> str:
        """Read a short field."""
        return self.content.read(0, self.content.size).decode()


async def save_body(chunks: AsyncIterator[bytes], folder: Path, *, max_bytes: int) -> Path:
    """Write a request's body to a new file.

    Raises:
        UploadTooLargeError: There are more bytes than allowed; the file is gone again.
    """
    path = folder / secrets.token_hex(16)
    size = 0
    try:
        async with aiofiles.open(path, "wb") as file:
            async for chunk in chunks:
                size += await file.write(chunk)
                _check_size(size, max_bytes)
    except BaseException:
        await asyncio.to_thread(path.unlink, missing_ok=True)
        raise
    return path


def parts(path: Path, content_type: str) -> Iterator[Part]:
    """Go through the parts of a saved body; blocks.

    Args:
        path: The file that holds the body.
        content_type: The request's, with its boundary.

    Raises:
        ValueError: The body is not a multipart form.
    """
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_boundary()
    if boundary is None or path.stat().st_size == 0:
        raise ValueError("not a multipart form")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
        yield from _cut(path, body, b"--" + boundary.encode())


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise UploadTooLargeError


def _cut(path: Path, body: mmap.mmap, delimiter: bytes) -> Iterator[Part]:
    position = body.find(delimiter) + len(delimiter)
    while body[position : position + 2] == b"\r\n":
        start = body.find(_HEADER_END, position)
        # The line break before a delimiter belongs to it, and an empty part shares it with its header.
        stop = body.find(b"\r\n" + delimiter, start + 2)
        if start < 0 or stop < 0:
            raise ValueError("the form breaks off")
        headers = BytesParser().parsebytes(body[position + 2 : start] + _HEADER_END, headersonly=True)
        yield _part(headers, FileContent(path, max(0, stop - start - len(_HEADER_END)), start + len(_HEADER_END)))
        position = stop + 2 + len(delimiter)


def _part(headers: Message, content: FileContent) -> Part:
    return Part(
        name=str(headers.get_param("name", "", header="content-disposition")),
        filename=headers.get_filename(),
        content_type=headers["content-type"],
        content=content,
    )
