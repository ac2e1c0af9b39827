"""What the errors of a file system mean for a store."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from storage.errors import ObjectNotFound, StorageError, StoreFull, StoreUnavailable

ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG})
"""The numbers that mean there is no such object, where one is looked for."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def translated(absent: frozenset[int] = frozenset()) -> Iterator[None]:
    """Raise an operating system's error as ours; ``absent`` are the numbers that mean there is no such object."""
    try:
        yield
    except OSError as error:
        raise meaning(error.errno, absent) from error


def meaning(number: int | None, absent: frozenset[int] = frozenset()) -> StorageError:
    """Return the error of a number of the operating system as ours."""
    if number in absent:
        return ObjectNotFound()
    return StoreFull() if number in _FULL else StoreUnavailable()
