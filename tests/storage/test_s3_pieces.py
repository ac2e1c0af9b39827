"""How the pieces of a body come from the socket of a store: what is there at once, and nobody to the cost of others."""

import fcntl
import os
import termios
from collections.abc import AsyncIterator
from struct import unpack

import pytest

from storage.errors import StoreUnavailable
from storage.s3 import S3Store
from storage.s3 import connection as reading
from storage.s3.connection import PIECES_IN_A_ROW, Connection
from tests.running import turns_of_others, until
from tests.storage.scripted import always, response, scripted_store

PIECE = 1000
BODY = os.urandom(300 * PIECE)


@pytest.fixture
async def store(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Store]:
    """A store whose object is in the kernel's memory as a whole, from where it is read in many pieces."""
    monkeypatch.setattr(reading, "PIECE", PIECE)
    async with scripted_store(always(response(body=BODY))) as server, S3Store(server.config()) as opened:
        yield opened


def connection_of(store: S3Store) -> Connection:
    (connection,) = store._reads._pool._open
    return connection


def waiting(connection: Connection) -> int:
    """Return how many bytes the kernel has that have not been read."""
    assert connection._socket is not None
    return int(unpack("i", fcntl.ioctl(connection._socket, termios.FIONREAD, bytes(4)))[0])


async def test_what_is_there_is_read_at_once_but_others_have_their_turn(store: S3Store) -> None:
    async with store.open("k") as reader:
        first = await anext(reader.chunks)
        await until(lambda: len(first) + waiting(connection_of(store)) == len(BODY))
        async with turns_of_others() as turns:
            rest = [piece async for piece in reader.chunks]

    assert first + b"".join(rest) == BODY
    assert len(rest) // PIECES_IN_A_ROW - 1 <= turns.taken <= len(rest) // PIECES_IN_A_ROW + 1
    assert turns.taken > 0


async def test_the_last_piece_ends_where_the_body_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PIECE", PIECE)
    unasked = response(body=b"another's")

    async def read(store: S3Store) -> bytes:
        async with store.open("k") as reader:
            first = await anext(reader.chunks)
            await until(lambda: len(first) + waiting(connection_of(store)) == len(BODY + unasked))
            return first + b"".join([piece async for piece in reader.chunks])

    async with scripted_store(always(response(body=BODY) + unasked)) as server, S3Store(server.config()) as store:
        assert [await read(store) for _ in range(2)] == [BODY, BODY]
    assert server.opened == 2  # for nobody has asked for what follows


async def test_nothing_is_read_from_the_number_of_a_socket_that_closes(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store.open("k") as reader:
        await anext(reader.chunks)
        connection = connection_of(store)
        assert connection._transport is not None
        number, read = connection._socket, os.read
        connection._transport.close()  # by whatever breaks it: the event loop tells us a turn later

        def read_another(descriptor: int, size: int) -> bytes:
            assert descriptor != number, "it may be another socket's by now"
            return read(descriptor, size)

        monkeypatch.setattr(os, "read", read_another)
        with pytest.raises(StoreUnavailable, match="broke off"):
            await anext(reader.chunks)
