"""Routes below a message id, matched on the raw path: the id may hold slashes, dots and percent signs of its own."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import MethodNotAllowed, NotFound
from storage.record import valid_message_id


class MessageRoute(BaseRoute):
    """``/media/messages/{message_id}`` and what lies below it, by method."""

    def __init__(self, below: str, name: str, handlers: Mapping[str, ASGIApp]) -> None:
        """Match the message's path followed by ``below``; ``handlers`` by method."""
        self.name = name
        self._handlers = dict(handlers)
        self._path = re.compile(rb"/media/messages/([^/]+)" + re.escape(below.encode()))

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match by the path as the client sent it."""
        if scope["type"] != "http" or (found := self._path.fullmatch(_raw_path(scope))) is None:
            return Match.NONE, {}
        return Match.FULL, {"endpoint": self.handle, "raw_message_id": found[1]}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the method's handler."""
        scope["route_name"] = self.name
        handler = self._handlers.get(scope["method"])
        if handler is None:
            raise MethodNotAllowed(headers={"Allow": ", ".join(sorted(self._handlers))})
        scope["path_params"] = {"message_id": decode_message_id(scope["raw_message_id"])}
        await handler(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """Find nothing: URLs of media are minted, see `gateway.auth`."""
        raise NoMatchFound(name, path_params)


def _raw_path(scope: Scope) -> bytes:
    raw: bytes | None = scope.get("raw_path")
    return raw.partition(b"?")[0] if raw is not None else scope["path"].encode()


def decode_message_id(raw: bytes) -> str:
    """Return the message id of one segment of a raw path: percent-encoded UTF-8.

    Raises:
        NotFound: No message can have this id.
    """
    try:
        message_id = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise NotFound("A message id is UTF-8, percent-encoded.") from None
    if not valid_message_id(message_id):
        raise NotFound("A message id has 1 to 255 characters, none of them a control character.")
    return message_id
