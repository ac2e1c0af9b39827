"""Writes to the sockets of clients: at once what the kernel takes, and what is small together with what follows."""

import asyncio
import os
from typing import Any


class Corked:
    """A transport that sends what is written in one turn of the event loop by one system call, as far as it is small.

    A head and the body that is there already would otherwise cost the kernel, and the client, two. And what the kernel
    takes is sent when it is written: the event loop would send it at the end of its turn, and for as long pause whoever
    writes, which costs one more turn for each piece of a body.
    """

    _LARGE = 64 * 1024  # bytes that are not worth being copied

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting = b""
        is_plain = transport.get_extra_info("sslcontext") is None
        self._socket: int | None = transport.get_extra_info("socket").fileno() if is_plain else None

    def write(self, data: bytes) -> None:
        """Send the data at the end of this turn at latest."""
        if len(self._waiting) + len(data) >= self._LARGE:
            self.flush()
            self.send(data)
        elif self._waiting:
            self._waiting += data
        elif data:
            self._waiting = data
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what waits."""
        if self._waiting:
            waiting, self._waiting = self._waiting, b""
            self.send(waiting)

    def send(self, data: bytes | memoryview) -> None:
        """Send now what the kernel takes, and leave the rest to the event loop."""
        transport = self._transport
        if transport.is_closing():  # the number of its socket may be another's by now
            return
        if self._socket is None or transport.get_write_buffer_size():
            transport.write(data)
            return
        try:
            taken = os.write(self._socket, data)
        except OSError:  # full, which is no error, or broken, which the event loop finds out and tells
            taken = 0
        if taken < len(data):
            transport.write(memoryview(data)[taken:])

    def close(self) -> None:
        """Close behind what waits."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
