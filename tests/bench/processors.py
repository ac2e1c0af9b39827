"""What makes renditions of pictures, each as a running process whose CPU time is read from outside, by one clock."""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx

from ingest.processing.limits import Limits
from ingest.processing.pictures import SQUARES
from ingest.processing.pool import Failed, Pool
from ingest.processing.steps import Ceilings, Source
from tests.running import eventually, free_port

_HERE = Path(__file__).parent
_PATIENCE = 120.0  # seconds for one part
_CPUCLOCK_SCHED = 2  # the kernel's clock of a process by its id, see clock_getcpuclockid(3)

# As it comes, but from local files, kept nowhere, upright, and not progressive: the others' files are not either.
_THUMBOR = """
LOADER = "thumbor.loaders.file_loader"
FILE_LOADER_ROOT_PATH = {root!r}
STORAGE = "thumbor.storages.no_storage"
RESULT_STORAGE = None
ALLOW_UNSAFE_URL = True
RESPECT_ORIENTATION = True
PROGRESSIVE_JPEG = False
"""
_THUMBOR_VERSIONS = (
    "import json, PIL, thumbor; print(json.dumps({'thumbor': thumbor.__version__, 'pillow': PIL.__version__}))"
)
_THUMBOR_URLS = {
    "squares": [f"/unsafe/{side}x{side}/filters:format(jpeg):quality(80)/" for side in SQUARES.values()],
    "compressed": ["/unsafe/filters:format(jpeg):quality(75)/"],
    "webp": ["/unsafe/filters:format(webp):quality(80)/"],
}


@dataclass(frozen=True, slots=True)
class Processor:
    """A process that is asked for one part of a picture's renditions after the other."""

    pid: int
    make: Callable[[str, Path], Awaitable[None]]
    parts: tuple[str, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    served: bool = False
    """Whether this process works for it too, as a parent."""

    def cpu(self) -> float:
        """Return the seconds of CPU time used so far, by all threads."""
        own = cpu_seconds(self.pid)
        return own + time.process_time() if self.served else own

    def memory(self) -> tuple[int, int]:
        """Return the bytes that are resident now, and that were at most."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        facts = dict(line.split(":", 1) for line in lines)
        return int(facts["VmRSS"].split()[0]) * 1024, int(facts["VmHWM"].split()[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """Return what a process has used in user and system mode, with all of its threads."""
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)


@asynccontextmanager
async def ours(folder: Path) -> AsyncIterator[Processor]:
    """Run our recipe in one process, without a pool."""
    command = [sys.executable, "-m", "tests.bench.processing_ours"]
    async with _asked_by_lines(command, folder, ("squares", "recipe")) as processor:
        yield processor


@asynccontextmanager
async def sharp(folder: Path, installed: Path) -> AsyncIterator[Processor]:
    """Run sharp, installed in a folder."""
    command = ["node", str(_HERE / "processing_sharp.js")]
    parts = ("squares", "compressed", "webp", "webp_effort_2")
    async with _asked_by_lines(command, folder, parts, NODE_PATH=str(installed / "node_modules")) as processor:
        yield processor


@asynccontextmanager
async def thumbor(folder: Path, program: Path, pictures: Path) -> AsyncIterator[Processor]:
    """Run thumbor's server; it serves the pictures of one folder."""
    configuration, port = folder / "thumbor.conf", free_port()
    configuration.write_text(_THUMBOR.format(root=str(pictures)))
    python = program.with_name("python")
    found = await asyncio.create_subprocess_exec(python, "-c", _THUMBOR_VERSIONS, stdout=asyncio.subprocess.PIPE)
    versions, _ = await found.communicate()
    arguments = ["--ip", "127.0.0.1", "--port", str(port), "--conf", str(configuration), "--log-level", "error"]
    async with _process([str(program), *arguments]) as process, httpx.AsyncClient(timeout=_PATIENCE) as client:

        async def get(path: str) -> bytes:
            return (await client.get(f"http://127.0.0.1:{port}{path}")).raise_for_status().content

        async def make(part: str, picture: Path) -> None:
            bodies = [await get(url + quote(picture.name)) for url in _THUMBOR_URLS[part]]
            (folder / part).write_bytes(b"".join(bodies))

        await eventually(lambda: _answers(client, port))
        yield Processor(process.pid, make, tuple(_THUMBOR_URLS), json.loads(versions))


@asynccontextmanager
async def pooled(folder: Path, first: Path) -> AsyncIterator[Processor]:
    """Run our recipe in a child of a real pool, which has done the first picture before anything is measured."""
    pool = Pool(
        scratch=folder / "scratch",
        children=1,
        limits=Limits(jobs=10_000, idle=3600.0),  # always the same child, however long the others take
        ceilings=Ceilings(),
        observer=_Nobody(),
    )

    async def make(_part: str, picture: Path) -> None:
        made = folder / "made"
        made.mkdir()
        async with aclosing(pool.process(_source(picture), made)) as events:
            failures = [event async for event in events if isinstance(event, Failed)]
        shutil.rmtree(made)
        if failures:
            raise RuntimeError(f"steps failed: {failures}")

    try:
        await make("recipe", first)
        (child,) = pool._children._alive
        yield Processor(child.pid, make, ("recipe",), served=True)
    finally:
        await pool.aclose()


def _source(picture: Path) -> Source:
    return Source(path=picture, content_type="image/jpeg", size=picture.stat().st_size)


class _Nobody:
    def step_ended(self, step: str, outcome: str, seconds: float) -> None:
        pass

    def child_ended(self, reason: str) -> None:
        pass


@asynccontextmanager
async def _asked_by_lines(
    command: list[str], folder: Path, parts: tuple[str, ...], **variables: str
) -> AsyncIterator[Processor]:
    """Run a program that says its versions, and then answers line by line."""
    async with _process(command, **variables) as process:
        lines, answers = process.stdin, process.stdout
        assert lines is not None
        assert answers is not None

        async def answer() -> dict[str, str]:
            async with asyncio.timeout(_PATIENCE):
                said: dict[str, str] = json.loads(await answers.readline())
            return said

        async def make(part: str, picture: Path) -> None:
            lines.write(json.dumps({"part": part, "picture": str(picture), "folder": str(folder)}).encode() + b"\n")
            await answer()

        yield Processor(process.pid, make, parts, await answer())


@asynccontextmanager
async def _process(command: list[str], **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env={**os.environ, **variables})
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


async def _answers(client: httpx.AsyncClient, port: int) -> bool:
    try:
        return (await client.get(f"http://127.0.0.1:{port}/healthcheck")).is_success
    except httpx.TransportError:
        return False
