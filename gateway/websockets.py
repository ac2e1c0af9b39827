"""Lets uvicorn answer those who want a WebSocket, of which there is none here, without loading what it does so by."""

import asyncio
from typing import Any


def websocket(**arguments: Any) -> asyncio.Protocol:
    """Return uvicorn's own protocol for a connection that is to become a WebSocket; the application refuses it."""
    # Not above: the library behind it takes a thirtieth of a start, for what nobody asks.
    from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol  # noqa: PLC0415 see above

    if AutoWebSocketsProtocol is None:
        raise RuntimeError("uvicorn has no WebSockets")
    return AutoWebSocketsProtocol(**arguments)
