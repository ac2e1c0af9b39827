"""One process of a node that has several: its readers, told by arguments, tell in lines of JSON how they fare.

It ends when its standard input does, or when somebody kills it.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from storage import errors
from storage.errors import MediaError
from storage.flight import Flight
from storage.flights import Flights
from storage.origin import Download, MediaRef
from storage.spool import Spools
from storage.store import CHUNK_SIZE
from tests.storage.flying import NAME, ORDER, PATIENCE, never, sha256


class WiredOrigin:
    """An `Origin` that downloads from the test, through a socket."""

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def open(self, ref: MediaRef) -> AsyncIterator[Download]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(f"{os.getpid()}\n".encode())
            head = json.loads(await reader.readline())
            if error := head.get("error"):
                raise getattr(errors, error)
            yield Download(size=head["size"], content_type="image/jpeg", sha256=head["sha256"], chunks=_chunks(reader))
        finally:
            writer.close()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while chunk := await reader.read(CHUNK_SIZE):
        yield chunk


def say(event: str, value: object = None) -> None:
    print(json.dumps([event, value]), flush=True)  # noqa: T201 that is how it talks to the test


async def read(flights: Flights) -> None:
    """Read the whole medium as one client."""
    body = b""
    try:
        async with flights.join(NAME, ORDER, recheck=never, landed=landed) as flight:
            state = await flight.declared(PATIENCE)
            async for chunk in flight.read(0, state.size, stall=PATIENCE):
                body += chunk
                say("received", len(body))
        say("read", sha256(body))
    except MediaError as error:
        say("broke off", [type(error).__name__, len(body)])


async def landed(flight: Flight) -> None:
    say("landed")


async def main(folder: Path, port: int, readers: int) -> None:
    spools = Spools(folder)
    flights = Flights(spools, WiredOrigin(port))
    tasks = [asyncio.create_task(read(flights)) for _ in range(readers)]
    say("follows" if await follows(flights, spools) else "leads")
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stopped.set)
    await stopped.wait()
    await flights.drain(0)
    await asyncio.gather(*tasks)
    spools.close()


async def follows(flights: Flights, spools: Spools) -> bool:
    """Tell, as soon as it is decided, whether another process downloads."""
    while True:
        await asyncio.sleep(0)  # the readers' turn
        flight = flights._flights.get(NAME)
        if flight is None or flight.followed or spools._held:
            return flight is not None and flight.followed


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
