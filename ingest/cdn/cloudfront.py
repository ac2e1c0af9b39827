"""Purges CloudFront by invalidations; besides `storage.s3` the only module that knows botocore and aiobotocore.

Sources: "Invalidate files" in the CloudFront Developer Guide, and the API's model of 2020-05-31.
"""

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from hashlib import sha256
from typing import Any, Final, Self

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from botocore.parsers import ResponseParserError

from ingest.cdn.purge import REQUEST_TIMEOUT, PurgeFailed, PurgeItem, PurgeRefused, chunks, refusal

ITEMS_PER_REQUEST: Final = 1000  # of the 3,000 that may be in progress
WILDCARDS_PER_REQUEST: Final = 15  # as many as may be in progress

_CODE: Final = re.compile(r"\w{1,64}", re.ASCII)
_THROTTLES: Final = frozenset({"TooManyInvalidationsInProgress", "Throttling", "ThrottlingException"})


class CloudFrontInvalidation:
    """A distribution, as a `Purger`; use it within ``async with``.

    By path, a deletion costs three items, two of them wildcards, of which only fifteen may be in progress at a time. By
    tag it costs one, but the distribution needs a ``CacheTagConfig`` that names ``Cache-Tag``: without, it takes the
    invalidation and forgets nothing.

    Args:
        distribution_id: Not its domain name.
        by_tag: See above.
        access_key_id: None, like the next two: botocore finds credentials and renews them.
        secret_access_key: It needs the permission ``cloudfront:CreateInvalidation``.
        session_token: Of temporary credentials.
        endpoint_url: None: AWS itself.
        timeout: Seconds for one request.
    """

    _client: Any

    def __init__(
        self,
        distribution_id: str,
        *,
        by_tag: bool = False,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        session_token: str | None = None,
        endpoint_url: str | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        self._distribution_id = distribution_id
        self._by_tag = by_tag
        self._timeout = timeout
        self._resources = AsyncExitStack()
        self._options = {
            "aws_access_key_id": access_key_id,
            "aws_secret_access_key": secret_access_key,
            "aws_session_token": session_token,
            "endpoint_url": endpoint_url,
            "region_name": "us-east-1",
            # Whether and when to try again is the queue's to decide.
            "config": AioConfig(connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 1}),
        }

    async def __aenter__(self) -> Self:
        client = get_session().create_client("cloudfront", **self._options)
        self._client = await self._resources.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    @property
    def batch_size(self) -> int:
        """How many deletions fit into one request, or by path into two."""
        return ITEMS_PER_REQUEST if self._by_tag else WILDCARDS_PER_REQUEST // 2

    async def purge(self, batch: Sequence[PurgeItem]) -> None:
        """Create invalidations; see `Purger.purge`.

        The reference of each is made of what it is for: AWS takes the same one twice for one.
        """
        deletions = sorted(f"{item.deleted_at.isoformat()} {item.message_id}" for item in batch)
        for items in self._requests(batch):
            reference = sha256(json.dumps([deletions, items]).encode()).hexdigest()
            await self._invalidate(items, reference)

    def _requests(self, batch: Sequence[PurgeItem]) -> Iterator[list[str]]:
        if self._by_tag:
            yield from chunks({f"#{item.tag}" for item in batch}, ITEMS_PER_REQUEST)
            return
        yield from chunks({item.path for item in batch}, ITEMS_PER_REQUEST)
        # A bare `path*` would cost less, and purge every message whose ID begins with this one.
        wildcards = {f"{item.path}{rest}" for item in batch for rest in ("?*", "/*")}
        yield from chunks(wildcards, WILDCARDS_PER_REQUEST)

    async def _invalidate(self, items: list[str], reference: str) -> None:
        batch = {"Paths": {"Quantity": len(items), "Items": items}, "CallerReference": reference}
        with _translated():
            async with asyncio.timeout(self._timeout):
                await self._client.create_invalidation(DistributionId=self._distribution_id, InvalidationBatch=batch)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise botocore's errors as ours; unchained, as AWS quotes our headers, a session token's among them."""
    try:
        yield
    except ClientError as error:
        answer, code = error.response["ResponseMetadata"], str(error.response["Error"].get("Code"))
        status, headers = answer["HTTPStatusCode"], answer.get("HTTPHeaders", {})
        facts = f"HTTP {status}, {code}" if _CODE.fullmatch(code) else f"HTTP {status}"
        raise refusal(status, facts, headers.get("retry-after"), throttled=code in _THROTTLES) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise PurgeRefused("There are no credentials for the CDN.") from None
    except (BotoCoreError, ResponseParserError, OSError) as error:  # a TimeoutError is an OSError
        raise PurgeFailed(f"The CDN could not be asked to purge ({type(error).__name__}).") from None
