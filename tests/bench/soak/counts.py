"""What is open, at work or lying about: counted before and after, and compared."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench import proc
from tests.bench.scrape import Metrics
from tests.bench.soak.gateway import Gateway

MEGABYTE = 1024**2
SHARE = 0.25  # of what a process had before, that its memory may have grown by for good
DATABASE = ("gateway.db", "gateway.db-wal", "gateway.db-shm")
POOLS = 3 * 10 + 4 + 5  # connections of one process at most: of records, their reader, the feed; the queue's, DBOS's
ALLOWED = {
    "sockets": 4,
    "database files": len(DATABASE) * POOLS,
    "files": 4,
    "others": 4,
    "threads": 12,
    "store connections": 16,
    "megabytes": 24,
}
"""By how much each may be more than before: pools that have filled. Everything else has to be as it was."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers by what they count."""

    values: Mapping[str, float]

    def more_than(self, before: "Counts") -> dict[str, tuple[float, float]]:
        """Return what has grown, with what it was and what it is."""
        return {
            name: (before.values.get(name, 0), value)
            for name, value in self.values.items()
            if value > _limit(name, before.values.get(name, 0))
        }


def _limit(name: str, before: float) -> float:
    what = name.rpartition(": ")[2]
    return before + ALLOWED.get(what, 0) + (SHARE * before if what == "megabytes" else 0)


async def count(gateway: Gateway) -> Counts:
    """Count everything."""
    answer = await gateway.ask("GET", "/metrics")
    metrics = Metrics.parse(answer.body.decode())
    values = {
        "flights": metrics.total("flights_open"),
        "jobs": metrics.total("queue_depth"),
        "messages that failed": metrics.total("media", status="failed"),
    }
    return Counts(values | dict(await asyncio.to_thread(lambda: list(_outside(gateway)))))


def _outside(gateway: Gateway) -> Iterator[tuple[str, float]]:
    """Yield what can be seen of the processes and their files from outside."""
    roles = _roles(gateway.pid)
    yield "processes", len(roles)
    yield "children that process", len(proc.descendants(gateway.pid)) + 1 - len(roles)
    for role, pid in roles.items():
        kinds, database = proc.descriptors(pid), sum(proc.times_open(pid, gateway.folder / name) for name in DATABASE)
        yield f"{role}: sockets", kinds["socket"]
        yield f"{role}: database files", database
        yield f"{role}: files", kinds["file"] - database
        yield f"{role}: others", kinds.total() - kinds["socket"] - kinds["file"]
        yield f"{role}: threads", proc.threads(pid)
        yield f"{role}: megabytes", round(proc.memory(pid) / MEGABYTE, 1)
        if gateway.store_port is not None:
            yield f"{role}: store connections", proc.connections(pid, gateway.store_port)
    yield "spool files", _files(gateway.folder / "spool") - 1  # that of the locks
    yield "scratch files", _files(gateway.folder / "scratch")


def _roles(pid: int) -> dict[str, int]:
    """Return our processes by what they do; those that decode media are left out."""
    servers: list[int] = []
    roles = {"serve": pid}
    for each in proc.descendants(pid):
        words = proc.command(each)
        if "worker" in words and "gateway.cli" in words:
            roles["worker"] = each
        elif any("spawn_main" in word for word in words):
            servers.append(each)
        elif any("resource_tracker" in word for word in words):
            roles["tracker"] = each
    return roles | {f"server {number}": each for number, each in enumerate(sorted(servers), 1)}


def _files(folder: Path) -> int:
    return sum(path.is_file() and path.suffix != ".lock" for path in folder.rglob("*"))
