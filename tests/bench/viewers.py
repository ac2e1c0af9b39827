"""``python -m tests.bench.viewers``: a thousand viewers over a mixed catalogue, at the gateway and at nginx in turn.

Most look at thumbnails, some at photographs, a few watch films by range, and all of them mostly at what is popular.
Each looks at what has come before asking again. Without that pause (``--pause 0``) the load is as much as the servers
can take, but times say little: the generator reads 8 KiB of a connection before it turns to the other 999, so that a
photograph takes sixty turns of it, and some viewers of nginx wait for seconds as well.
"""

import argparse
import asyncio
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from gateway.serving import raise_file_limit
from tests.bench.speed import check, nginx
from tests.bench.speed.asks import Ask
from tests.bench.speed.catalogue import BUCKET, Catalogue, Medium, stock
from tests.bench.speed.check import Expected
from tests.bench.speed.processes import Server
from tests.bench.speed.scenarios import KB, MB
from tests.bench.speed.targets import TARGETS, Site
from tests.bench.speed.wrk import run
from tests.running import NO_TLS

RIVAL = "nginx"
WARM = 5  # seconds, before anything is counted
SAMPLE = 24  # answers that are checked before and after each load
RANGE = 1 * MB
_SCRIPT = Path(__file__).with_suffix(".lua")
_TIMEOUT = 20  # seconds, of one request
_SLACK = 90  # seconds that the generator may take besides


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of media of the catalogue."""

    share: float
    """Of all requests."""
    sizes: tuple[int, ...]
    """In bytes; as many media have one as another."""
    each: int
    """Media of one size."""


KINDS = {
    "thumbnails": Kind(0.80, tuple(size * KB for size in (6, 7, 8, 9, 10)), 400),
    "photographs": Kind(0.15, tuple(size * KB for size in (300, 350, 400, 450, 500)), 80),
    "films": Kind(0.05, (16 * MB,), 16),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who is asked, by how many, and for how long."""

    seconds: int = 60
    """Of each load."""
    rounds: int = 2
    viewers: int = 1000
    pause: float = 1.0
    """Seconds for which a viewer looks at what has come, in the middle."""
    exponent: float = 1.0
    """Of Zipf's law: the medium at rank r is asked for in proportion to r to the minus that."""
    targets: tuple[str, ...] = (RIVAL, "tuned", "cached")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the load generator has seen."""

    requests: int
    bytes: int
    seconds: float
    p50: float
    """Seconds, of half of the requests at most."""
    p99: float
    longest: float
    errors: Mapping[str, int]
    cpu: float
    """Seconds of a processor that the server took."""

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def traffic(self) -> float:
        """Megabytes a second."""
        return self.bytes / self.seconds / 1e6

    @property
    def cost(self) -> float:
        """Seconds of a processor for one request."""
        return self.cpu / max(1, self.requests)


@dataclass(frozen=True, slots=True)
class Contender:
    """One server, what it is asked how often, and what came of it."""

    name: str
    server: Server
    weighted: list[tuple[float, Ask]]
    expected: Expected
    loads: list[Load] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return medians over the rounds, and all errors."""
        return {
            "requests_per_second": round(self.median("rate"), 1),
            "megabytes_per_second": round(self.median("traffic"), 1),
            "p50_ms": round(self.median("p50") * 1e3, 1),
            "p99_ms": round(self.median("p99") * 1e3, 1),
            "longest_ms": round(max(load.longest for load in self.loads) * 1e3, 1),
            "cpu_seconds": round(self.median("cpu"), 1),
            "cpu_us_per_request": round(self.median("cost") * 1e6, 1),
            "errors": {name: sum(load.errors[name] for load in self.loads) for name in self.loads[0].errors},
            "wrong": self.faults,
        }

    def median(self, figure: str) -> float:
        """Return the median of a figure of the loads, by its name."""
        return median(float(getattr(load, figure)) for load in self.loads)


async def measure(folder: Path) -> dict[str, Any]:
    """Run the whole of it."""
    return await run_plan(Plan(), folder)


async def run_plan(plan: Plan, folder: Path) -> dict[str, Any]:
    """Start every server over one catalogue, load one after the other, and tell what came of it."""
    raise_file_limit()
    counts = {size: kind.each for kind in KINDS.values() for size in kind.sizes}
    catalogue = await stock(folder, folder / "objects", counts)
    async with AsyncExitStack() as stack:
        site = Site(folder, await stack.enter_async_context(nginx.origin(folder / "origin", folder / "objects")))
        client = httpx.AsyncClient(verify=NO_TLS, trust_env=False, timeout=check.PATIENCE)
        viewing = _Viewing(plan, site, await stack.enter_async_context(client))
        contenders = [
            Contender(
                name, await stack.enter_async_context(TARGETS[name].start(name, site)), *_asked(name, plan, catalogue)
            )
            for name in plan.targets
        ]
        for each in contenders:
            await viewing.load(each, WARM)
        for _ in range(plan.rounds):
            for each in contenders:
                await viewing.round(each)
    return _report(plan, contenders)


def _report(plan: Plan, contenders: Sequence[Contender]) -> dict[str, Any]:
    by_name = {each.name: each for each in contenders}
    report: dict[str, Any] = {"part": "viewers", **asdict(plan)}
    report |= {each.name: each.as_json() for each in contenders}
    if RIVAL in by_name:
        report["ratios"] = {each.name: _ratios(each, by_name[RIVAL]) for each in contenders if each.name != RIVAL}
    return report


def _ratios(ours: Contender, theirs: Contender) -> dict[str, float]:
    return {name: round(ours.median(name) / theirs.median(name), 2) for name in ("rate", "p50", "p99", "cost")}


def _asked(name: str, plan: Plan, catalogue: Catalogue) -> tuple[list[tuple[float, Ask]], Expected]:
    """Return the requests that a target gets, with their weights, and what it is to answer to the whole media."""
    target = TARGETS[name]
    weighted = [
        (weight, replace(ask, path=target.path(ask.medium)))
        for kind in KINDS.values()
        for weight, ask in _weighted(kind, [medium for size in kind.sizes for medium in catalogue[size]], plan.exponent)
    ]
    return weighted, Expected(200, "*" if target.is_ours else None)


def _weighted(kind: Kind, media: list[Medium], exponent: float) -> Iterator[tuple[float, Ask]]:
    """Yield a kind's requests; a film is asked for in parts, the others as they are."""
    ranked = random.Random(len(media)).sample(media, len(media))
    weights = [rank**-exponent for rank in range(1, len(ranked) + 1)]
    for medium, weight in zip(ranked, weights, strict=True):
        part = kind.share * weight / sum(weights)
        if medium.size <= RANGE:
            yield part, Ask(medium, "GET", "")
        else:
            starts = range(0, medium.size, RANGE)
            for start in starts:
                yield part / len(starts), Ask(medium, "GET", "", {"Range": f"bytes={start}-{start + RANGE - 1}"})


@dataclass(frozen=True, slots=True)
class _Viewing:
    plan: Plan
    site: Site
    client: httpx.AsyncClient

    async def round(self, contender: Contender) -> None:
        """Load one server, and hold some of its answers against what is known, before and after."""
        sample = random.sample([ask for _, ask in contender.weighted], SAMPLE)
        contender.faults.extend(await self._faults(contender, sample))
        contender.loads.append(await self.load(contender, self.plan.seconds))
        contender.faults.extend(await self._faults(contender, sample))

    async def load(self, contender: Contender, seconds: int) -> Load:
        """Let all viewers look for so many seconds."""
        listed = self.site.folder / "weighted.txt"
        await asyncio.to_thread(_write, contender.weighted, listed)
        options = ["-t", "2", "-c", str(self.plan.viewers), "-d", f"{seconds}s", "--timeout", f"{_TIMEOUT}s"]
        command = [
            "wrk",
            *options,
            "-s",
            str(_SCRIPT),
            contender.server.url,
            "--",
            str(listed),
            str(len(contender.loads)),
            str(round(self.plan.pause * 1000)),
        ]
        before = contender.server.cpu_seconds()
        seen = json.loads(await run(command, seconds + _SLACK))
        return Load(**seen, cpu=contender.server.cpu_seconds() - before)

    async def _faults(self, contender: Contender, asks: Sequence[Ask]) -> list[str]:
        whole = [ask for ask in asks if not ask.headers]
        found = await check.faults(self.client, contender.server.url, whole, contender.expected)
        for ask in asks:
            if ask.headers:
                found += await self._faults_of_part(contender.server.url, ask)
        return found

    async def _faults_of_part(self, base: str, ask: Ask) -> list[str]:
        asked = ask.headers["Range"].removeprefix("bytes=")
        answer = await self.client.get(base + ask.path, headers=ask.headers)
        expected = await asyncio.to_thread(_part, self.site.folder / "objects" / BUCKET / ask.medium.key, asked)
        facts = {
            "status": (answer.status_code, 206),
            "Content-Range": (answer.headers.get("content-range"), f"bytes {asked}/{ask.medium.size}"),
            "body": (answer.content == expected, True),
        }
        return [
            f"bytes {asked}: {name} is {got}, not {wanted}" for name, (got, wanted) in facts.items() if got != wanted
        ]


def _write(weighted: Sequence[tuple[float, Ask]], path: Path) -> None:
    lines = (
        "\t".join(
            (f"{weight:.9g}", f"{ask.method} {ask.path}", *(f"{name}: {value}" for name, value in ask.headers.items()))
        )
        for weight, ask in weighted
    )
    path.write_text("\n".join(lines) + "\n")


def _part(path: Path, asked: str) -> bytes:
    first, last = map(int, asked.split("-"))
    with path.open("rb") as file:
        file.seek(first)
        return file.read(last + 1 - first)


def main() -> None:
    """Run what is asked for, and print one JSON line; exit status 1 for any error or wrong answer of the gateway."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.viewers", description=__doc__)
    plan = Plan()
    parser.add_argument("--seconds", type=int, default=plan.seconds, help="of each load")
    parser.add_argument("--rounds", type=int, default=plan.rounds)
    parser.add_argument("--viewers", type=int, default=plan.viewers)
    parser.add_argument("--pause", type=float, default=plan.pause, help="seconds between two requests of a viewer")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{' and '.join(plan.targets)}, or others")
    options = parser.parse_args()
    plan = replace(plan, seconds=options.seconds, rounds=options.rounds)
    plan = replace(plan, viewers=options.viewers, pause=options.pause)
    plan = replace(plan, targets=tuple(options.targets) or plan.targets)
    with TemporaryDirectory(prefix="media-gateway-bench-") as folder:
        result = asyncio.run(run_plan(plan, Path(folder)))
    print(json.dumps(result))  # noqa: T201 its report
    ours = [result[name] for name in plan.targets if TARGETS[name].is_ours]
    raise SystemExit(any(each["wrong"] or any(each["errors"].values()) for each in ours))


if __name__ == "__main__":
    main()
