"""The servers of a measurement as processes of their own: started, awaited, watched and ended."""

import os
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.running import NO_TLS, eventually

PATIENCE = 20.0  # seconds for a server to end when it is told to
_TICK = os.sysconf("SC_CLK_TCK")  # a second


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers, and the process that it consists of, with its children."""

    url: str
    pid: int
    behind: tuple[int, ...] = ()
    """Other processes that the answers take."""

    def cpu_seconds(self) -> float:
        """Return the processor time that it has taken so far."""
        return sum(_cpu_seconds(each) for root in (self.pid, *self.behind) for each in _tree(root))


@asynccontextmanager
async def server(command: Sequence[str], url: str, log: Path) -> AsyncIterator[Server]:
    """Run a server that is to answer at ``url``; what it says goes into the file ``log``."""
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: ASYNC220, S603 our own command
    try:
        await answering(url, child)
        yield Server(url, child.pid)
    finally:
        child.terminate()
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


async def answering(url: str, child: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers, whatever it says.

    Raises:
        RuntimeError: It has ended instead.
    """
    async with httpx.AsyncClient(verify=NO_TLS, trust_env=False) as client:

        async def answers() -> bool:
            if child.poll() is not None:
                raise RuntimeError(f"the server of {urlsplit(url).netloc} has ended with status {child.returncode}")
            try:
                await client.get(url)
            except httpx.TransportError:
                return False
            return True

        await eventually(answers)


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _tree(int(child)))]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK  # proc(5): utime and stime
