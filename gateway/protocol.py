"""The HTTP/1.1 protocol of the server, with less memory for each slow client."""

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class LeanProtocol(HttpToolsProtocol):
    """Holds no chunk in user space beyond the one that the kernel has not taken whole.

    The event loop would otherwise queue 64 KiB and more for every client that reads slowly; the kernel's own buffer
    keeps fast ones busy.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pause the application as soon as the kernel's buffer is full."""
        super().connection_made(transport)  # type: ignore[arg-type] # uvicorn narrows the type
        cast("asyncio.WriteTransport", transport).set_write_buffer_limits(high=0)
