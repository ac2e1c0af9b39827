"""Answers requests whose answer is known, at once and below ASGI: no task, no scope, no event for what is in memory.

All else goes through the application, which decides; here is only what it has decided before, for as long as nothing
that the decision was made of has changed: credential, record, variants, and whether the bytes are in memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from time import perf_counter, time

from starlette.types import Scope

from gateway.accesslog import AccessLog, Line
from gateway.auth import Grant
from gateway.forwarded import Fields, Networks, client_address, subscriber
from gateway.limits import RateExceeded
from gateway.metrics import Metrics
from gateway.prepared import MAX_ANSWERS, STATUS_LINES, Answers, Key, Prepared, encoded, key_of, target_of
from gateway.requestids import request_id
from gateway.responses import Decision
from gateway.throttle import Tolls
from storage.bodies import BodyCache
from storage.cache import RecordCache, VariantCache
from storage.record import MediaRecord, Variant
from storage.representation import Representation, Source
from storage.store import ByteRange

MAX_BODY = 256 * 1024  # bytes; more is for a client's own pace to take
HAND_OVER = 1.0  # seconds
_JOINED = 64 * 1024  # bytes of a body that go out in one piece with the head


@dataclass(frozen=True, slots=True)
class DecidedFrom:
    """What an answer was decided from, beside the medium's bytes."""

    scope: Scope
    record: MediaRecord
    """As the record cache gave it."""
    variants: Mapping[str, Variant] | None
    """The same of the variants, where they matter."""
    grant: Grant


class Express:
    """Remembers answers of the application, and gives them to requests that would get the same."""

    def __init__(
        self,
        *,
        records: RecordCache,
        variants: VariantCache,
        bodies: BodyCache,
        tolls: Tolls,
        barred: frozenset[bytes],
        metrics: Metrics,
        access_log: AccessLog,
    ) -> None:
        """Take what the application answers from; ``barred`` fields lead to it."""
        self._records = records
        self._variants = variants
        self._bodies = bodies
        self._addresses = tolls.addresses
        self._credentials = tolls.credentials
        self._trusted = tolls.trusted
        self._barred = barred
        self._metrics = metrics
        self._access_log = access_log
        self._answers: Answers = Answers(MAX_ANSWERS)

    def remember(
        self, decided_from: DecidedFrom, decision: Decision, shown: MediaRecord, representation: Representation
    ) -> None:
        """Keep what the application has answered with a stored medium, as far as it came from memory or has no body."""
        whole = ByteRange(0, representation.size) if representation.size else None
        body = decision.ranges[0] if decision.ranges else whole if decision.ranges is None else None
        self._keep(
            decided_from,
            decision,
            shown,
            body=body if decided_from.scope["method"] == "GET" else None,
            source=representation.source,
            in_memory=representation.source is Source.CACHE,
        )

    def remember_hand_over(self, decided_from: DecidedFrom, decision: Decision, shown: MediaRecord) -> None:
        """Keep by what answer the application lets somebody else send the bytes, for a moment: its URLs end."""
        self._keep(decided_from, decision, shown, until=time() + HAND_OVER, peer=_peer(decided_from.scope))

    def _keep(
        self,
        decided_from: DecidedFrom,
        decision: Decision,
        shown: MediaRecord,
        *,
        body: ByteRange | None = None,
        source: Source = Source.STORAGE,
        in_memory: bool | None = None,
        until: float = inf,
        peer: str | None = None,
    ) -> None:
        scope, grant = decided_from.scope, decided_from.grant
        method, target = scope["method"].encode(), target_of(scope)
        key = key_of(method, target, scope["headers"], barred=self._barred)
        if key is None or (body is not None and body.length > MAX_BODY):
            return
        route = scope["route"].name
        size = body.length if body is not None else 0
        self._answers[key.value] = Prepared(
            status=decision.status,
            head=encoded([field for field in decision.headers if field[0] != b"server-timing"]),
            body=body,
            source=source,
            in_memory=in_memory,
            record=decided_from.record,
            variants=decided_from.variants,
            shown=shown,
            credential=f"url:{grant.credential}" if grant.kind == "signed-url" else "",
            until=min(until, grant.until),
            peer=peer,
            line=Line.of(scope["method"], scope["path"], route=route, status=decision.status, source=source, size=size),
            route=route,
        )

    @property
    def remembered(self) -> int:
        """How many answers are kept."""
        return len(self._answers)

    def answer(
        self, method: bytes, target: bytes, fields: Fields, peer: str, server_fields: Sequence[tuple[bytes, bytes]]
    ) -> Sequence[bytes] | None:
        """Return what to write for a request without a body, or None: it is for the application.

        ``server_fields`` are those that the server adds to every answer, such as ``Date``.
        """
        began = perf_counter()
        key = key_of(method, target, fields, barred=self._barred)
        prepared = self._answers.get(key.value) if key is not None else None
        if key is None or prepared is None or not self._holds(prepared):
            return None
        body = self._body(prepared)
        if prepared.in_memory is not None and prepared.in_memory is not (body is not None):
            return None
        if prepared.peer is not None and prepared.peer != peer:
            return None
        if prepared.credential and not self._pays(prepared, peer, fields if key.has_hops else ()):
            return None
        return self._written(prepared, key, body, server_fields, began)

    def _holds(self, prepared: Prepared) -> bool:
        record = prepared.record
        if prepared.until <= time() or self._records.peek(record.message_id) is not record:
            return False
        stored = record.stored
        return prepared.variants is None or (stored is not None and self._variants.peek(stored.id) is prepared.variants)

    def _body(self, prepared: Prepared) -> bytes | None:
        stored = prepared.shown.stored
        if prepared.in_memory is None or stored is None:
            return None
        return self._bodies.get(stored.workspace_id, stored.sha256)

    def _pays(self, prepared: Prepared, peer: str, hops: Fields) -> bool:
        """Charge address and credential, as `gateway.throttle.Toll`; where one cannot pay, the application says so."""
        client = _subscriber(peer) if not hops else subscriber(client_address(peer, hops, self._trusted))
        size = prepared.size
        try:
            self._addresses.admit(client, size)
        except RateExceeded:
            return False
        try:
            self._credentials.admit(prepared.credential, size)
        except RateExceeded:
            self._addresses.excuse(client, size)
            return False
        return True

    def _written(
        self,
        prepared: Prepared,
        key: Key,
        body: bytes | None,
        server_fields: Sequence[tuple[bytes, bytes]],
        began: float,
    ) -> Sequence[bytes]:
        asked_as = request_id(key.request_id)
        seconds = perf_counter() - began
        head = b"%b%b%bserver-timing: %b;dur=%.1f\r\nx-request-id: %b\r\n\r\n" % (
            STATUS_LINES[prepared.status],
            encoded(server_fields),
            prepared.head,
            prepared.source.encode(),
            seconds * 1000,
            asked_as,
        )
        method = "GET" if key.value.startswith(b"GET") else "HEAD"
        self._metrics.answered(prepared.route, method, prepared.status, prepared.source, seconds)
        self._metrics.served(prepared.source, prepared.status, seconds, prepared.size)
        self._access_log.write(prepared.line, asked_as.decode("ascii"), seconds)
        if prepared.body is None or body is None:
            return (head,)
        start, stop = prepared.body.start, prepared.body.stop
        content = body if stop - start == len(body) else body[start:stop]
        return (head + content,) if len(content) <= _JOINED else (head, content)


def _peer(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


@lru_cache(1024)
def _subscriber(peer: str) -> str:
    return subscriber(client_address(peer, (), Networks()))
