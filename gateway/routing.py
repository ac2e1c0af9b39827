"""Resources and their methods, matched on the raw path: a message id may hold slashes, dots and percent signs."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.datastructures import URLPath
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import MethodNotAllowed, NotFound
from storage.record import valid_message_id

_PARAMETER = re.compile(r"\\{(\w+)\\}")


class Resource(BaseRoute):
    """One path of the route table, with a handler for each of its methods.

    ``HEAD`` is answered like ``GET`` unless it has a handler of its own, ``OPTIONS`` by the resource itself.
    """

    def __init__(self, path: str, name: str, handlers: Mapping[str, ASGIApp]) -> None:
        """Take the path, whose ``{parameters}`` are one segment each, a name for metrics and logs, and the handlers."""
        self.path = path
        self.name = name
        self.methods = frozenset(handlers)
        self._handlers = {"HEAD": handlers["GET"], **handlers} if "GET" in handlers else dict(handlers)
        self._allow = ", ".join(sorted({*self._handlers, "OPTIONS"}))
        self._pattern = re.compile(_PARAMETER.sub(r"(?P<\1>[^/]+)", re.escape(path)).encode())

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match by the path as the client sent it."""
        if scope["type"] != "http" or (found := self._pattern.fullmatch(_raw_path(scope))) is None:
            return Match.NONE, {}
        return Match.FULL, {"endpoint": self.handle, "raw_params": found.groupdict()}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the method's handler.

        Raises:
            MethodNotAllowed: There is none.
            NotFound: An id in the path cannot be one.
        """
        if scope["method"] == "OPTIONS":
            await Response(status_code=204, headers={"Allow": self._allow})(scope, receive, send)
            return
        handler = self._handlers.get(scope["method"])
        if handler is None:
            raise MethodNotAllowed(headers={"Allow": self._allow})
        scope["path_params"] = {name: decode_id(raw) for name, raw in scope["raw_params"].items()}
        await handler(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """Find nothing: URLs of media are minted, see `gateway.signing`."""
        raise NoMatchFound(name, path_params)


def _raw_path(scope: Scope) -> bytes:
    raw: bytes | None = scope.get("raw_path")
    return raw.partition(b"?")[0] if raw is not None else scope["path"].encode()


def decode_id(raw: bytes) -> str:
    """Return the id in one segment of a raw path: percent-encoded UTF-8.

    Raises:
        NotFound: Nothing can have this id.
    """
    try:
        text = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise NotFound("An id is UTF-8, percent-encoded.") from None
    if not valid_message_id(text):
        raise NotFound("An id has 1 to 255 characters, none of them a control character.")
    return text
