"""The memory cache: what an operation and a body cost, and how many reads hit, beside the least recently used."""

import heapq
import random
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import accumulate, count, islice
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from cachetools import LRUCache

from storage.bodies import BodyCache

BODY = bytes(8 * 1024)
CATALOGUE = 20_000
READS = 100_000
ROUNDS = 5
OPERATIONS = 50_000
HELD = 5_000


class Cache(Protocol):
    """What is compared."""

    def get(self, workspace_id: str, sha256: str) -> bytes | None:
        """Return a body."""

    def put(self, workspace_id: str, sha256: str, body: bytes) -> None:
        """Keep a body."""


class Lru:
    """The least recently used goes first."""

    def __init__(self, max_bytes: int) -> None:
        self._bodies: LRUCache[tuple[str, str], bytes] = LRUCache(max_bytes, getsizeof=len)

    def get(self, workspace_id: str, sha256: str) -> bytes | None:
        """Return a body."""
        return self._bodies.get((workspace_id, sha256))

    def put(self, workspace_id: str, sha256: str, body: bytes) -> None:
        """Keep a body."""
        self._bodies[workspace_id, sha256] = body


def ours(max_bytes: int) -> BodyCache:
    """Return what the gateway uses."""
    return BodyCache(max_bytes, max_item=max_bytes)


CACHES: dict[str, Callable[[int], Cache]] = {"lru": Lru, "ours": ours}


async def measure(_folder: Path) -> dict[str, Any]:
    """Measure everything; the numbers of one line are comparable, those of two machines are not."""
    return {
        "part": "cache",
        "microseconds": _costs(),
        "bytes_beside_a_body": {name: _overhead(make) for name, make in CACHES.items()},
        "hit_ratio": {
            trace: {
                f"{share:.0%}": {
                    name: _hit_ratio(make(int(CATALOGUE * share) * len(BODY)), reads) for name, make in CACHES.items()
                }
                for share in (0.01, 0.05, 0.2)
            }
            for trace, reads in _traces()
        },
    }


def _traces() -> Iterator[tuple[str, list[str]]]:
    for skew in (0.8, 1.0, 1.2):
        for scanned in (0.0, 0.3):
            yield f"zipf {skew}, {scanned:.0%} asked for once", list(islice(zipf(skew, scanned), READS))
    for seconds in (200, 2000, 20_000):
        yield f"chat, looked at after {seconds} other media", list(islice(chat(seconds), READS))


def zipf(skew: float, scanned: float) -> Iterator[str]:
    """Yield a fixed catalogue's media by Zipf's law, with a share among them that is asked for once."""
    chance, weights = random.Random(1), list(accumulate(rank**-skew for rank in range(1, CATALOGUE + 1)))
    for number in count():
        once = chance.random() < scanned
        yield f"once {number}" if once else str(chance.choices(range(CATALOGUE), cum_weights=weights)[0])


def chat(delay: float) -> Iterator[str]:
    """Yield media that come and go: nobody, one, or a group looks at each, after ``delay`` others on average.

    Every second arrival somebody scrolls back, to a medium whose age is as likely to be 10 to 100 as 100 to 1,000.
    """
    chance, looks = random.Random(1), list[tuple[float, int]]()
    for arrived in count(1):
        for _ in range(chance.choices([0, 1, 2, 5, 20, 50], [20, 40, 20, 12, 6, 2])[0]):
            heapq.heappush(looks, (arrived + chance.expovariate(1 / delay), arrived))
        while looks[:1] and looks[0][0] <= arrived:
            yield str(heapq.heappop(looks)[1])
        if chance.random() < 1 / 2:
            yield str(max(0, arrived - int(arrived ** chance.random())))


def _hit_ratio(cache: Cache, reads: Iterable[str]) -> float:
    hits = total = 0
    for name in reads:
        total += 1
        if cache.get("w", name) is not None:
            hits += 1
        else:
            cache.put("w", name, BODY)
    return round(hits / total, 3)


def _costs() -> dict[str, dict[str, float]]:
    """Return the median of CPU time by operation; the rounds of all caches are interleaved."""
    seconds: dict[str, dict[str, list[float]]] = {name: {"get": [], "put": []} for name in CACHES}
    for number in range(ROUNDS):
        for name, make in CACHES.items():
            cache, keys = make(HELD * len(BODY)), [f"{number}{each:063d}" for each in range(OPERATIONS)]
            seconds[name]["put"].append(_timed(partial(_put, cache), keys))
            held = [key for key in keys if cache.get("w", key) is not None][:1000] * (OPERATIONS // 1000)
            seconds[name]["get"].append(_timed(partial(cache.get, "w"), held))
    return {
        name: {operation: round(median(each) * 1e6, 2) for operation, each in found.items()}
        for name, found in seconds.items()
    }


def _put(cache: Cache, key: str) -> None:
    cache.put("w", key, BODY)


def _timed(operation: Callable[[str], object], keys: list[str]) -> float:
    """Return the CPU seconds of one call."""
    began = time.process_time()
    for key in keys:
        operation(key)
    return (time.process_time() - began) / len(keys)


def _overhead(make: Callable[[int], Cache]) -> int:
    """Return the bytes that a held body takes beside its own, its key included."""
    cache = make(HELD * len(BODY))
    tracemalloc.start()
    for number in range(HELD):
        cache.put("w", f"{number:064d}", bytes(len(BODY)))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken // HELD - len(BODY)
