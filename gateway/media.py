"""``GET`` and ``HEAD`` on a message's medium: pure ASGI, from the request's line to the last byte."""

from collections.abc import Iterable
from time import perf_counter
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from gateway.auth import Gatekeeper
from gateway.errors import BadRequest, Deleted, NotFound
from gateway.metrics import Metrics
from gateway.responses import Asked, Decision, decide, send_body, send_bodyless
from gateway.variants import ORIGINAL, VARIANTS
from storage.cache import RecordCache
from storage.errors import OriginGone
from storage.layers import EXPIRED
from storage.record import MediaRecord, Status
from storage.representation import Representation
from storage.retrieval import Retrieval
from storage.store import ByteRange

_MAX_QUERY = 4096  # bytes
_MAX_PARAMETERS = 100


class MediaReader:
    """Serves originals; an ASGI application for ``/media/messages/{message_id}``."""

    def __init__(self, *, gatekeeper: Gatekeeper, records: RecordCache, retrieval: Retrieval, metrics: Metrics) -> None:
        self._gatekeeper = gatekeeper
        self._records = records
        self._retrieval = retrieval
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = perf_counter()
        message_id = scope["path_params"]["message_id"]
        query = parse_query(scope["query_string"])
        variant, download = query.get("variant", ORIGINAL), query.get("download") == "1"
        headers = joined_headers(scope["headers"])
        self._gatekeeper.admit_reader(
            message_id, variant, download=download, query=query, api_key=headers.get("x-api-key")
        )
        if variant not in VARIANTS:
            raise BadRequest("There is no such variant.")
        record = await self._record(message_id)
        asked = Asked(
            method=scope["method"], headers=headers, variant=variant, download=download, filename=record.filename
        )
        await self._serve(asked, record, began, receive, send)

    async def _record(self, message_id: str) -> MediaRecord:
        record = await self._records.get(message_id)
        if record is None:
            raise NotFound
        if record.deleted_at is not None:
            raise Deleted
        if record.stored is None and record.ref is None:
            raise OriginGone if record.error else NotFound("The message has no medium.")
        return record

    async def _serve(self, asked: Asked, record: MediaRecord, began: float, receive: Receive, send: Send) -> None:
        if asked.method == "HEAD" or self._retrieval.readable(record) is not None:
            known = await self._retrieval.describe(record)
            if not known.verified and record.status is Status.FAILED and record.error == EXPIRED:
                raise OriginGone
            decision = decide(asked, known)
            if asked.method == "HEAD" or decision.status == 304:  # noqa: PLR2004 Not Modified
                await send_bodyless(_timed(decision, known, began), send)
                self._metrics.served(known.source, decision.status, perf_counter() - began, 0)
                return
        await self._stream(asked, record, began, receive, send)

    async def _stream(self, asked: Asked, record: MediaRecord, began: float, receive: Receive, send: Send) -> None:
        def want(representation: Representation) -> tuple[ByteRange, ...] | None:
            return decide(asked, representation).ranges

        async with self._retrieval.open(record, want) as opened:
            representation = opened.representation
            decision = decide(asked, representation)
            first_byte = perf_counter() - began
            answer = _timed(decision, representation, began)
            sent = await send_body(answer, opened, receive, send) if decision.status != 304 else 0  # noqa: PLR2004
            if decision.status == 304:  # noqa: PLR2004 Not Modified
                await send_bodyless(answer, send)
        self._metrics.served(representation.source, decision.status, first_byte, sent)


def _timed(decision: Decision, representation: Representation, began: float) -> Decision:
    """Add how long the layer took to be ready, as ``Server-Timing``."""
    timing = f"{representation.source};dur={(perf_counter() - began) * 1000:.1f}".encode()
    return Decision(decision.status, [*decision.headers, (b"server-timing", timing)], decision.ranges, decision.parts)


def joined_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the request's fields by lower-case name, repeated ones joined (RFC 9110 section 5.3)."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def parse_query(raw: bytes) -> dict[str, str]:
    """Return the query's parameters; the first one counts where one is repeated."""
    if len(raw) > _MAX_QUERY:
        raise BadRequest("The query is too long.")
    try:
        parameters = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        raise BadRequest("The query has too many parameters.") from None
    return dict(reversed(parameters))
