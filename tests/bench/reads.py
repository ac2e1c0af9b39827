"""One read of a stored object: processor time in our process, by what reads it, and memory while readers pause."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import aiohttp
import uvloop
from aiobotocore.session import get_session

from storage.local import LocalStore
from storage.middleware import MeteredStore, RetryingStore
from storage.s3 import S3Config, S3Store
from storage.store import ObjectStore
from tests.bench.speed.nginx import origin

SIZES = {"8 KB": 8 * 1024, "500 KB": 500_000, "16 MB": 16 * 1024**2}
READS = {"8 KB": 2000, "500 KB": 400, "16 MB": 24}  # in a round
ROUNDS = 5
AT_ONCE = 16
BUCKET = "bucket"

Reader = Callable[[str], Awaitable[int]]


async def measure(folder: Path) -> dict[str, Any]:
    """Let each reader in turn read the same objects from one nginx, on the loop of production."""
    return await asyncio.to_thread(lambda: uvloop.run(_measure(folder)))


async def _measure(folder: Path) -> dict[str, Any]:
    root = folder / "objects"
    (root / BUCKET).mkdir(parents=True)
    for size in SIZES.values():
        (root / BUCKET / f"{size}").write_bytes(bytes(size))
    async with origin(folder / "nginx", root) as server, _readers(server.url, root) as readers:
        found = {name: await _by_reader(readers, name, size) for name, size in SIZES.items()}
    return {"part": "reads", "cpu_microseconds": found}


async def _by_reader(readers: dict[str, Reader], name: str, size: int) -> dict[str, float]:
    rounds: dict[str, list[float]] = {each: [] for each in readers}
    for _ in range(ROUNDS):
        for each, read in readers.items():
            rounds[each].append(await _round(read, size, READS[name]))
    return {each: round(median(spent) * 1e6, 1) for each, spent in rounds.items()}


async def _round(read: Reader, size: int, reads: int) -> float:
    """Return the processor time of one read in seconds, several of them under way at once."""
    left = iter(range(reads))

    async def some() -> None:
        for _ in left:
            if await read(str(size)) != size:
                raise RuntimeError("another size")

    await read(str(size))
    began = process_time()
    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return (process_time() - began) / reads


@asynccontextmanager
async def _readers(url: str, root: Path) -> AsyncIterator[dict[str, Reader]]:
    config = S3Config(bucket=BUCKET, endpoint_url=url, access_key_id="bench", secret_access_key="bench")
    async with AsyncExitStack() as stack:
        session = get_session()
        session.set_credentials("bench", "bench")
        client = await stack.enter_async_context(session.create_client("s3", region_name="us-east-1", endpoint_url=url))
        http = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        store = await stack.enter_async_context(S3Store(config))
        yield {
            "aiobotocore": lambda key: _aiobotocore(client, key),
            "aiohttp, unsigned": lambda key: _aiohttp(http, f"{url}/{BUCKET}/{key}"),
            "store": lambda key: _store(store, key),
            "store behind its policy": _policy(store),
            "local": lambda key: _store(LocalStore(root), f"{BUCKET}/{key}"),
        }


def _policy(store: ObjectStore) -> Reader:
    wrapped = MeteredStore(RetryingStore(store), lambda *_: None)
    return lambda key: _store(wrapped, key)


async def _store(store: ObjectStore, key: str) -> int:
    async with store.open(key) as reader:
        return sum([len(chunk) async for chunk in reader.chunks])


async def _aiobotocore(client: Any, key: str) -> int:
    found = await client.get_object(Bucket=BUCKET, Key=key)
    async with found["Body"] as body:
        return sum([len(chunk) async for chunk in body.iter_chunks(64 * 1024)])


async def _aiohttp(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(url) as response:
        return sum([len(chunk) async for chunk in response.content.iter_any()])
