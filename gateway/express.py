"""Answers requests below ASGI whose answer is known and in memory: no task, no scope, no event for each of them."""

from time import perf_counter

from gateway.accesslog import AccessLog
from gateway.answers import Answers, Found
from gateway.forwarded import Fields
from gateway.metrics import Metrics
from gateway.prepared import STATUS_LINES, encoded
from gateway.requestids import request_id

MAX_BODY = 1024 * 1024  # bytes; of a larger one clients often take only the beginning, and all of it would be counted
_JOINED = 64 * 1024  # bytes of a body that go out in one piece with the head


class Express:
    """What the server's protocol asks before it begins a request; see `gateway.protocol.Express`."""

    def __init__(self, answers: Answers, *, metrics: Metrics, access_log: AccessLog) -> None:
        self._answers = answers
        self._batch = metrics.batch
        self._access_log = access_log
        self._server_fields: Fields = ()
        self._server_head = b""

    def answer(
        self, method: bytes, target: bytes, fields: Fields, peer: str, server_fields: Fields
    ) -> tuple[bytes | memoryview, ...] | None:
        """Return what to write for a request without a body, or None: it is for the application."""
        began = perf_counter()
        found = self._answers.find(method, target, fields, peer)
        if found is None or (found.prepared.body is not None and not found.prepared.in_memory):
            return None
        prepared = found.prepared
        if prepared.size > MAX_BODY or not self._answers.charge(found, prepared.size + prepared.elsewhere):
            return None
        body = self._answers.body(prepared)
        head = self._head(found, server_fields, perf_counter() - began)
        if prepared.body is None or body is None:
            return (head,)
        # Not copied: who reads slowly holds what all others read.
        content = memoryview(body)[prepared.body.start : prepared.body.stop]
        return (head + content,) if len(content) <= _JOINED else (head, content)

    def _head(self, found: Found, server_fields: Fields, seconds: float) -> bytes:
        prepared, asked_as = found.prepared, request_id(found.request_id)
        if server_fields is not self._server_fields:  # the server makes new ones once a second
            self._server_fields, self._server_head = server_fields, encoded(server_fields)
        self._batch.add(prepared.counted, seconds)
        self._access_log.write(prepared.line, asked_as.decode("ascii"), seconds)
        return b"%b%b%bserver-timing: %b;dur=%.1f\r\nx-request-id: %b\r\n\r\n" % (
            STATUS_LINES[prepared.status],
            self._server_head,
            prepared.head,
            prepared.source.encode(),
            seconds * 1000,
            asked_as,
        )
