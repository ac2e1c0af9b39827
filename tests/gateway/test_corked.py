"""How answers are written to the sockets of clients."""

import asyncio
import socket

import pytest

from gateway.corked import Corked


async def test_what_nobody_takes_any_more_is_dropped_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    ours, client = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    corked = Corked(transport, loop)

    client.close()
    for _ in range(20):  # in one turn: whoever writes is told that the client is gone in the next one
        corked.send(bytes(100_000))

    assert transport.is_closing()
    assert caplog.records == []
