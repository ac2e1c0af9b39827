"""Which message a request is about, and how its URLs begin."""

from collections.abc import Callable

from starlette.requests import Request

from gateway.errors import Deleted, NotFound
from ingest.registry import Registry
from storage.record import MediaRecord


async def live(registry: Registry, message_id: str, check: Callable[[MediaRecord], None]) -> MediaRecord:
    """Return the record of a message that is not deleted; ``check`` raises NotFound where it is somebody else's.

    Raises:
        NotFound: There is none, or it is somebody else's.
        Deleted: It was deleted.
    """
    record = await registry.get(message_id)
    if record is None:
        raise NotFound
    check(record)
    if record.deleted_at is not None:
        raise Deleted
    return record


def path_id(request: Request) -> str:
    """Return the message's id in the path."""
    message_id: str = request.path_params["message_id"]
    return message_id


def base_of(request: Request) -> str:
    """Return what a URL begins with for who has made this request."""
    return f"{request.url.scheme}://{request.url.netloc}"
