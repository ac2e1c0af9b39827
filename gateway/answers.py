"""Remembers how requests were answered, and finds the answer again for as long as nothing of what it rests on changed.

An answer rests on the credential, the record, its variants, and on whether the bytes are in memory: the application has
looked at them all, and whoever finds the answer here need not.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from math import inf
from time import time
from typing import NamedTuple

from starlette.types import Scope

from gateway.auth import Grant
from gateway.forwarded import Fields, Networks, client_address, peer_of, subscriber
from gateway.limits import RateExceeded
from gateway.prepared import Prepared, key_of, target_of
from gateway.responses import Decision
from gateway.throttle import MAX_FIELDS, Tolls
from storage.bodies import BodyCache
from storage.cache import RecordCache, VariantCache
from storage.record import MediaRecord, Variant
from storage.representation import Representation, Source
from storage.store import ByteRange

MAX_ANSWERS = 4096  # of some 2 KB each
MAX_CLIENTS = 1024
HAND_OVER = 10.0  # seconds that an answer is repeated by which somebody else sends the bytes; its URL lives for longer


@dataclass(frozen=True, slots=True)
class DecidedFrom:
    """What an answer was decided from, beside the medium's bytes."""

    scope: Scope
    record: MediaRecord
    """As the record cache gave it."""
    variants: Mapping[str, Variant] | None
    """The same of the variants, where they matter."""
    grant: Grant


class Found(NamedTuple):
    """An answer that holds, and what is particular to the request."""

    prepared: Prepared
    request_id: bytes
    """As the client named it; may be empty, or nonsense."""
    key: bytes
    """By which it is remembered."""
    client: str
    """Who pays for the request by its address."""


class Answers:
    """Answers to requests, by all that they depend on."""

    def __init__(
        self,
        *,
        records: RecordCache,
        variants: VariantCache,
        bodies: BodyCache,
        tolls: Tolls,
        barred: frozenset[bytes] = frozenset(),
        clock: Callable[[], float] = time,
    ) -> None:
        """Take what the application answers from, fields that lead to it in any case, and a clock in Unix seconds."""
        self._records = records
        self._variants = variants
        self._bodies = bodies
        self._addresses = tolls.addresses
        self._credentials = tolls.credentials
        self._barred = barred
        self._clock = clock
        # Behind a proxy its clients come again and again: to parse their hops costs more than all else here.
        self._subscriber = lru_cache(MAX_CLIENTS)(partial(_subscriber, tolls.trusted))
        self._known: OrderedDict[bytes, Prepared] = OrderedDict()  # in the order in which they were given last

    def __len__(self) -> int:
        """Return how many answers are remembered."""
        return len(self._known)

    def remember(
        self, decided_from: DecidedFrom, decision: Decision, shown: MediaRecord, representation: Representation
    ) -> None:
        """Remember how a request for a stored medium was answered; not one with several parts."""
        body = None
        if decided_from.scope["method"] == "GET" and decision.length:
            body = decision.ranges[0] if decision.ranges else ByteRange(0, decision.length)
        in_memory = representation.source is Source.CACHE
        self._keep(decided_from, decision, shown, body=body, source=representation.source, in_memory=in_memory)

    def remember_hand_over(
        self, decided_from: DecidedFrom, decision: Decision, shown: MediaRecord, *, size: int
    ) -> None:
        """Remember by which answer somebody else sends the bytes, for a moment: its URL ends.

        ``size`` is how many of them our own server in front sends, which are charged as if we did.
        """
        peer = peer_of(decided_from.scope)
        self._keep(decided_from, decision, shown, until=self._clock() + HAND_OVER, peer=peer, elsewhere=size)

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
        elsewhere: int = 0,
    ) -> None:
        scope, grant = decided_from.scope, decided_from.grant
        key = key_of(scope["method"].encode(), target_of(scope), scope["headers"], barred=self._barred)
        if key is not None and shown.stored is not None:
            self._known[key.value] = Prepared.of(
                scope,
                decision,
                body=body,
                source=source,
                in_memory=in_memory,
                record=decided_from.record,
                variants=decided_from.variants,
                shown=shown,
                credential=f"url:{grant.credential}" if grant.kind == "signed-url" else "",
                until=min(until, grant.until),
                peer=peer,
                elsewhere=elsewhere,
            )
            if len(self._known) > MAX_ANSWERS:
                self._known.popitem(last=False)

    def find(self, method: bytes, target: bytes, fields: Fields, peer: str) -> Found | None:
        """Return the answer to a request without a body, if it is remembered and still holds.

        Args:
            method: As in the request's line, like ``target``: the path and the query.
            target: Of the request.
            fields: With names in lower case.
            peer: The address at the other end of the connection.
        """
        if len(fields) > MAX_FIELDS:
            return None
        key = key_of(method, target, fields, barred=self._barred)
        prepared = self._known.get(key.value) if key is not None else None
        if key is None or prepared is None or not self._holds(prepared, peer):
            return None
        self._known.move_to_end(key.value)
        return Found(prepared, key.request_id, key.value, self._subscriber(peer, key.hops))

    def _holds(self, prepared: Prepared, peer: str) -> bool:
        record = prepared.record
        if prepared.until <= self._clock() or self._records.peek(record.message_id) is not record:
            return False
        if prepared.peer is not None and prepared.peer != peer:
            return False
        if prepared.in_memory is not None and prepared.in_memory is not self._bodies.holds(*prepared.address):
            return False
        stored = record.stored
        return prepared.variants is None or (stored is not None and self._variants.peek(stored.id) is prepared.variants)

    def forget(self, found: Found) -> None:
        """Do not give an answer again."""
        self._known.pop(found.key, None)

    def body(self, prepared: Prepared) -> bytes | None:
        """Return the bytes of an answer that is sent from memory, and count them as read."""
        return self._bodies.get(*prepared.address) if prepared.body is not None else None

    def charge(self, found: Found, size: int = 0) -> bool:
        """Charge address and credential for a request and its bytes, as `gateway.throttle.Toll` does.

        Returns:
            Whether both could pay; where one could not nothing is charged, and the application says so.
        """
        if not found.prepared.credential:
            return True
        try:
            self._addresses.admit(found.client, size)
        except RateExceeded:
            return False
        try:
            self._credentials.admit(found.prepared.credential, size)
        except RateExceeded:
            self._addresses.excuse(found.client, size)
            return False
        return True

    def excuse(self, found: Found) -> None:
        """Take back what was charged for a request: the application answers it."""
        if found.prepared.credential:
            self._addresses.excuse(found.client)
            self._credentials.excuse(found.prepared.credential)

    def sent(self, found: Found, size: int) -> None:
        """Charge bytes that were sent."""
        if found.prepared.credential:
            self._addresses.sent(found.client, size)
            self._credentials.sent(found.prepared.credential, size)


def _subscriber(trusted: Networks, peer: str, hops: Fields) -> str:
    return subscriber(client_address(peer, hops, trusted))
