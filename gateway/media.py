"""``GET`` and ``HEAD`` on a message's medium: pure ASGI, from the request's line to the last byte."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from urllib.parse import parse_qsl

import structlog
from starlette.types import Receive, Scope, Send

from gateway.admission import Admission
from gateway.answers import Answers, DecidedFrom
from gateway.audit import Action
from gateway.delivery import Delivery
from gateway.disposition import variant_filename
from gateway.errors import BadRequest, Deleted, NotFound, Quarantined
from gateway.forwarded import peer_of
from gateway.metrics import Metrics
from gateway.playlists import credential_of, readdressed
from gateway.prepared import negotiates, target_of
from gateway.responses import Asked, Decision, decide, send_body, send_bodyless, server_timing
from gateway.showing import Showing, Shown
from gateway.throttle import Toll, toll_of
from gateway.variants import AUTO, HLS, MASTER, ORIGINAL, PLAYLIST_TYPE, VARIANTS
from ingest.cdn.purge import path_segment, tags_for
from storage.cache import RecordCache
from storage.errors import MediaError, OriginGone
from storage.layers import EXPIRED
from storage.record import MediaRecord, Processing, Status
from storage.representation import Representation, Source
from storage.retrieval import Retrieval
from storage.store import ByteRange

_MAX_QUERY = 4096  # bytes
_MAX_PARAMETERS = 100

log = structlog.get_logger()


class MediaReader:
    """Serves media; an ASGI application for ``/media/messages/{message_id}`` and the files of a stream below it."""

    def __init__(
        self,
        *,
        admission: Admission,
        records: RecordCache,
        retrieval: Retrieval,
        showing: Showing,
        delivery: Delivery,
        metrics: Metrics,
        answers: Answers,
    ) -> None:
        self._admission = admission
        self._records = records
        self._retrieval = retrieval
        self._showing = showing
        self._delivery = delivery
        self._metrics = metrics
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = await self._begun(scope, perf_counter())
        try:
            await self._serve(answer, receive, send)
        except MediaError as error:
            stored = answer.original.stored
            if answer.record is answer.original or stored is None:
                raise
            # Such as one that has been made anew since we looked; the original is still there.
            log.warning("variant could not be read", variant=answer.asked.shown, error=type(error).__name__)
            self._showing.forget(stored)
            if answer.is_file:
                raise
            await self._serve(answer.of_the_original(), receive, send)

    async def _begun(self, scope: Scope, began: float) -> "_Answer":
        """Let the request in, and find what is to be served."""
        message_id, file = scope["path_params"]["message_id"], scope["path_params"].get("file")
        query, headers = parse_query(scope["query_string"]), joined_headers(scope["headers"])
        variant = HLS if file is not None else query.get("variant", ORIGINAL)
        download = query.get("download") == "1"
        grant = await self._admission.reader(scope, message_id, variant, download=download, query=query)
        if variant not in VARIANTS:
            raise BadRequest("There is no such variant.")
        record = await self._record(message_id, partial(self._admission.check, scope, grant, variant=variant))
        shown = await self._shown(record, variant, file, headers.get("accept"))
        self._admission.done(Action.READ, scope, grant, record, variant=shown.name)
        asked = Asked(
            method=scope["method"],
            headers=headers,
            variant=variant,
            shown=shown.name,
            final=shown.final,
            cache_tags=tags_for(record) if grant.kind == "cdn" else None,
            download=download,
            filename=_filename(record, shown),
        )
        told_apart = variant != AUTO or negotiates(target_of(scope))
        repeats = shown.final and told_apart and self._admission.may_repeat(grant, record)
        return _Answer(
            asked=asked,
            record=shown.record,
            original=record,
            is_file=file is not None,
            folder="" if file is not None else f"{path_segment(message_id)}/{HLS}/",
            credential=credential_of(query),
            began=began,
            peer=peer_of(scope),
            toll=toll_of(scope),
            decided_from=DecidedFrom(scope, record, shown.variants, grant) if repeats else None,
        )

    async def _record(self, message_id: str, check: Callable[[MediaRecord], None]) -> MediaRecord:
        record = await self._records.get(message_id)
        if record is None:
            raise NotFound
        check(record)
        if record.deleted_at is not None:
            raise Deleted
        if record.stored is not None and record.stored.processing_status == Processing.QUARANTINED:
            raise Quarantined
        if record.stored is None and record.ref is None:
            raise OriginGone if record.error else NotFound("The message has no medium.")
        return record

    async def _shown(self, record: MediaRecord, variant: str, file: str | None, accept: str | None) -> Shown:
        if file is None:
            return await self._showing.choose(record, variant, accept)
        shown = await self._showing.exactly(record, HLS if file == MASTER else f"{HLS}/{file}")
        if shown is None:
            raise NotFound("There is no such stream, or not yet.")
        return shown

    async def _serve(self, answer: "_Answer", receive: Receive, send: Send) -> None:
        asked, record = answer.asked, answer.record
        # What a playlist looks like depends on the request, so it has to be read to be described.
        if not answer.is_playlist and (asked.method == "HEAD" or self._retrieval.readable(record) is not None):
            known = await self._retrieval.describe(record)
            if not known.verified and record.status is Status.FAILED and record.error == EXPIRED:
                raise OriginGone
            decision = answer.decide(known)
            if asked.method == "HEAD" or decision.status == 304:  # noqa: PLR2004 Not Modified
                await send_bodyless(_timed(decision, known, answer.began), send)
                self._metrics.served(known.source, decision.status, perf_counter() - answer.began, 0)
                self._remember(answer, decision, known)
                return
            if await self._handed_over(answer, _timed(decision, known, answer.began), send):
                return
        await self._stream(answer, receive, send)

    async def _handed_over(self, answer: "_Answer", decision: Decision, send: Send) -> bool:
        """Let somebody else send the bytes, if they can be had without us."""
        asked, record = answer.asked, answer.record
        stored = self._retrieval.readable(record)
        handed_over = await self._delivery.hand_over(
            asked,
            decision,
            record.message_id,
            stored.key if stored is not None else None,
            tier=stored.tier if stored is not None else "",
            is_playlist=answer.is_playlist,
            peer=answer.peer,
        )
        if handed_over is None:
            return False
        sent = Decision(handed_over.status, handed_over.headers, ())
        await send_bodyless(sent, send)
        by_our_server = decision.length or 0 if handed_over.status == decision.status else 0
        answer.toll.sent(by_our_server)
        self._metrics.served(Source.STORAGE, handed_over.status, perf_counter() - answer.began, 0)
        if answer.decided_from is not None:
            self._answers.remember_hand_over(answer.decided_from, sent, record, size=by_our_server)
        return True

    def _remember(self, answer: "_Answer", decision: Decision, representation: Representation) -> None:
        """Let the next such request be answered at once; not what is on its way, nor what has to be read."""
        lies_still = representation.verified and representation.source is not Source.PROVIDER
        if answer.decided_from is not None and lies_still and not answer.is_playlist:
            self._answers.remember(answer.decided_from, decision, answer.record, representation)

    async def _stream(self, answer: "_Answer", receive: Receive, send: Send) -> None:
        def want(representation: Representation) -> tuple[ByteRange, ...] | None:
            return None if answer.is_playlist else answer.decide(representation).ranges

        async with self._retrieval.open(answer.record, want) as opened:
            if answer.is_playlist:
                opened = await readdressed(opened, folder=answer.folder, credential=answer.credential)  # noqa: PLW2901 the same, as served
            representation = opened.representation
            decision = answer.decide(representation)
            first_byte = perf_counter() - answer.began
            timed = _timed(decision, representation, answer.began)
            bodyless = decision.status == 304 or answer.asked.method == "HEAD"  # noqa: PLR2004 Not Modified
            sent = 0 if bodyless else await send_body(timed, opened, receive, send)
            if bodyless:
                await send_bodyless(timed, send)
        self._metrics.served(representation.source, decision.status, first_byte, sent)
        if decision.parts is None:
            self._remember(answer, decision, representation)


@dataclass(slots=True, kw_only=True)
class _Answer:
    """One request on its way to its answer."""

    asked: Asked
    record: MediaRecord
    """With the variant that is served in place of the original."""
    original: MediaRecord
    """As the record cache has it."""
    is_file: bool
    """Whether a file of a stream is asked for, which nothing else can stand in for."""
    folder: str
    """Where the files of a stream lie, relative to the request."""
    credential: str
    """What their URIs carry."""
    began: float
    peer: str
    """The address at the other end of the connection."""
    toll: Toll
    decided_from: DecidedFrom | None
    """Where the same request gets the same again until one of these changes."""
    _decided: tuple[Representation, Decision] | None = None

    def of_the_original(self) -> "_Answer":
        """Return the answer by which the original stands in for a variant."""
        asked = replace(self.asked, shown=ORIGINAL, final=False, filename=self.original.filename)
        return replace(self, asked=asked, record=self.original, decided_from=None, _decided=None)

    @property
    def is_playlist(self) -> bool:
        return self.asked.shown.startswith(HLS) and self.record.content_type == PLAYLIST_TYPE

    def decide(self, representation: Representation) -> Decision:
        """Decide, once for each representation; raises as `gateway.responses.decide`."""
        if self._decided is None or self._decided[0] != representation:
            self._decided = representation, decide(self.asked, representation)
        return self._decided[1]


def _filename(record: MediaRecord, shown: Shown) -> str | None:
    if shown.name == ORIGINAL:
        return record.filename
    return variant_filename(record.filename, shown.record.content_type or "")


def _timed(decision: Decision, representation: Representation, began: float) -> Decision:
    return replace(decision, headers=[*decision.headers, server_timing(representation.source, began)])


def joined_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the request's fields by lower-case name, without whitespace around them, repeated ones joined.

    RFC 9110 sections 5.3 and 5.5.
    """
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1"), value.decode("latin-1").strip(" \t")
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
