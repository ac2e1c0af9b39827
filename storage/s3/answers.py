"""What the answers of a store and the errors of its drivers mean."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from storage.errors import ObjectFrozen, ObjectNotFound, StorageError, StoreForbidden, StoreFull, StoreUnavailable
from storage.store import ByteRange

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)", re.ASCII)
_ERROR_CODE: Final = re.compile(rb"<Code>(\w+)</Code>")


NO_CREDENTIALS: Final = "There are no credentials for the object store."


class KeyTaken(Exception):
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


def s3_error(status: int, code: str = "", retry_after: str | None = None) -> StorageError | KeyTaken:
    """Return what an answer means; the code, where there is one, says more than the status.

    A range past the end (416) is `StoreUnavailable`: the object is shorter than what is recorded of it, so this store
    is not the place to read it from, though nothing says that the object is absent.
    """
    if status == HTTPStatus.PRECONDITION_FAILED:
        return KeyTaken()
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, StoreUnavailable)
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    return kind(_MESSAGES.get(code), retry_after=seconds)


def refusal(status: int, body: bytes, retry_after: str | None) -> StorageError | KeyTaken:
    """Return what an answer that is no object means; ``body`` is its beginning, with the code of the error."""
    code = _ERROR_CODE.search(body)
    return s3_error(status, code.group(1).decode() if code else "", retry_after)


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


def driver_errors() -> tuple[type[Exception], ...]:
    """Return what the drivers raise; a `TimeoutError` is an `OSError`.

    Of botocore that is nothing before it is loaded. aiobotocore lets errors of aiohttp through.
    """
    if "storage.s3.driver" not in sys.modules:
        return UnicodeEncodeError, OSError
    from aiohttp import ClientError as AiohttpError  # noqa: PLC0415 see above
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 see above

    return UnicodeEncodeError, OSError, ClientError, BotoCoreError, AiohttpError


def meaning(error: Exception) -> StorageError | KeyTaken:
    """Return one of `driver_errors` as ours."""
    if isinstance(error, UnicodeEncodeError):  # a lone surrogate, as JSON may carry
        return StoreForbidden("The key is not one that the object store can hold.")
    return StoreUnavailable() if isinstance(error, OSError) else _botocore_meaning(error)


def _botocore_meaning(error: Exception) -> StorageError | KeyTaken:
    from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError  # noqa: PLC0415 it raised

    if isinstance(error, ClientError):
        answer = error.response["ResponseMetadata"]
        retry_after = answer.get("HTTPHeaders", {}).get("retry-after")
        return s3_error(answer["HTTPStatusCode"], error.response["Error"].get("Code", ""), retry_after)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return StoreForbidden(NO_CREDENTIALS)
    return StoreUnavailable()


@contextmanager
def translated() -> Iterator[None]:
    """Raise the drivers' errors as ours."""
    try:
        yield
    except driver_errors() as error:
        raise meaning(error) from error
