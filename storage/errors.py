"""What can go wrong below HTTP, as one tree per origin of the fault.

::

    MediaError
    ├── StorageError                 an object store did not do what it was asked
    │   ├── ObjectNotFound           the key is certainly absent
    │   ├── StoreForbidden           403: the key may or may not exist
    │   ├── ObjectFrozen             in a tier that needs a restore first
    │   ├── StoreFull                no space left for the bytes
    │   └── StoreUnavailable         down, throttled, too slow, or broke off
    ├── OriginError                  the provider did not deliver a medium
    │   ├── OriginGone               it no longer has it, or never had
    │   ├── OriginBusy               it limits our rate, or our own breaker is open
    │   ├── OriginRefused            it refuses our token or permission
    │   ├── OriginTimeout            a phase of the exchange took too long
    │   └── OriginFailed             any other failure or a nonsensical answer
    │       ├── OriginLied           size, hash or type are not what was declared
    │       └── OriginTooLarge       it has more bytes than we take
    └── RecordsError                 the database did not answer
        ├── RecordsUnavailable       locked, gone, or out of connections
        └── RecordConflict           the change contradicts what is recorded

The default message is the first line of the class's docstring; facts are attributes, never text to parse.
No message ever holds a token, a bucket's name or a signed URL: it may be shown to a client.
"""

from typing import ClassVar


class MediaError(Exception):
    """The medium could not be served."""

    code: ClassVar[str] = "internal-error"
    """The cause in a word: what a record remembers and what a client reads as the problem's type."""
    permanent: ClassVar[bool] = False
    """Whether asking again is pointless until somebody changes something."""

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        """Take an optional message and, in seconds, when asking again makes sense."""
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])
        self.retry_after = retry_after


class StorageError(MediaError):
    """The object store failed."""

    code = "storage-unavailable"


class ObjectNotFound(StorageError):
    """The object does not exist."""

    permanent = True


class StoreForbidden(StorageError):
    """The object store refused access.

    Without ``s3:ListBucket``, S3 answers 403 for a missing key: this is "unknown", never "absent".
    """

    permanent = True


class ObjectFrozen(StorageError):
    """The object is in an archive tier and must be restored first."""

    code = "media-frozen"
    permanent = True


class StoreFull(StorageError):
    """There is no space left to store the object."""

    code = "storage-full"


class StoreUnavailable(StorageError):
    """The object store is unavailable."""


class OriginError(MediaError):
    """The provider did not deliver the medium."""

    code = "provider-error"


class OriginGone(OriginError):
    """The provider no longer has the medium."""

    code = "media-expired"
    permanent = True


class OriginBusy(OriginError):
    """The provider limits the rate of requests."""

    code = "provider-busy"


class OriginRefused(OriginError):
    """The provider refused our credentials."""

    permanent = True


class OriginTimeout(OriginError):
    """The provider took too long to answer."""

    code = "provider-timeout"


class OriginFailed(OriginError):
    """The provider failed to deliver the medium."""


class OriginLied(OriginFailed):
    """The provider's bytes are not what it declared."""


class OriginTooLarge(OriginFailed):
    """The provider's medium is larger than any that is taken."""

    code = "media-too-large"
    permanent = True


class RecordsError(MediaError):
    """The media records could not be read or written."""

    code = "records-unavailable"


class RecordsUnavailable(RecordsError):
    """The database of media records is unavailable."""


class RecordConflict(RecordsError):
    """The change contradicts what is already recorded."""

    code = "conflict"
    permanent = True
