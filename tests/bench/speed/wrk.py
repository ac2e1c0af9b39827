"""The load: wrk, for so many seconds over so many connections, and what came of it."""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.speed import heads
from tests.bench.speed.asks import Ask, write
from tests.bench.speed.processes import Server

CONNECTIONS = 32
LARGE = 256 * 1024  # bytes of a body
_SCRIPT = Path(__file__).with_name("cycle.lua")
_TIMEOUT = 60  # seconds, of one request
_SLACK = 90  # seconds that the generator may take besides


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a load generator has seen."""

    requests: int
    """Answered to the end."""
    bytes: int
    """With those of requests that the end of the load has cut off."""
    seconds: float
    failed: int
    """Answers of status 400 and more, and connections that broke."""
    p50: float
    """Seconds, of half of the requests at most."""
    p99: float
    cpu: float = 0.0
    """Seconds of a processor that the server took."""

    def answers(self, size: int) -> float:
        """Return how many answers with bodies of that size were sent, large ones by their parts: few end in time."""
        return self.bytes / size if size > LARGE else self.requests

    def rate(self, size: int) -> float:
        """Return answers a second."""
        return self.answers(size) / self.seconds

    def cpu_each(self, size: int) -> float:
        """Return the seconds of a processor that one answer took."""
        return self.cpu / max(1.0, self.answers(size))


async def load(server: Server, asks: Sequence[Ask], *, seconds: float, folder: Path) -> Load:
    """Send these requests, round and round.

    Raises:
        RuntimeError: The generator failed.
    """
    listed = folder / "requests.txt"
    await asyncio.to_thread(write, asks, listed)
    before = server.cpu_seconds()
    seen = json.loads(await run(_command(asks[0].method, server.url, seconds, listed), seconds + _SLACK))
    return Load(**seen, cpu=server.cpu_seconds() - before)


def _command(method: str, url: str, seconds: float, listed: Path) -> list[str]:
    if method == "HEAD":
        return [sys.executable, heads.__file__, urlsplit(url).netloc, str(CONNECTIONS), str(seconds), str(listed)]
    options = ["-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds:.0f}s", "--timeout", f"{_TIMEOUT}s"]
    return ["wrk", *options, "-s", str(_SCRIPT), url, "--", str(listed)]


async def run(command: Sequence[str], deadline: float) -> str:
    """Return the last line that a command prints."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(deadline):
            output, errors = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        raise
    if child.returncode or not output.strip():
        raise RuntimeError(f"{command[0]} failed: {errors.decode(errors='replace')[-500:]}")
    return output.decode().strip().splitlines()[-1]
