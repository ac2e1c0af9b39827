"""``python -m tests.bench.speed.hot_path [SCENARIO…]``: where the time of one answer goes, sampled by py-spy.

Three tables for each scenario, in microseconds of a processor for one answer: by the part of the program that spent
them, by the function that did, and by function with all that it called. A part's time has that of C code it called:
writing to a socket counts for whoever did it.
"""

import argparse
import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.speed.measurement import Bench, Plan
from tests.bench.speed.scenarios import SCENARIOS, Scenario

PY_SPY = "0.4.3"
SAMPLES = 400  # a second
LONGEST = 35  # rows of a table
OURS = ("gateway", "storage", "ingest")
WAITING = ("_connection_worker_thread (", "_worker (")  # threads without work, which py-spy takes for busy
LOOP = "Runner.run ("  # what is outside of it is around all answers


@dataclass(frozen=True, slots=True)
class Profile:
    """Samples of a program's stacks, each a tuple of functions from the outermost one."""

    stacks: Counter[tuple[str, ...]]
    cost: float
    """Of one answer, in microseconds."""

    def by_part(self) -> Counter[str]:
        """Return samples by the module of ours, or the package, that spent them itself."""
        return self._counted((_part(stack[-1]),) for stack in self.stacks)

    def by_function(self) -> Counter[str]:
        """Return samples by the function that spent them itself."""
        return self._counted((stack[-1],) for stack in self.stacks)

    def with_callees(self) -> Counter[str]:
        """Return samples by function, with those of all that it called."""
        return self._counted(set(stack) for stack in self.stacks)

    def rows(self, samples: Counter[str]) -> Iterator[str]:
        """Yield the longest rows of a table."""
        each = self.cost / self.stacks.total()
        for name, count in samples.most_common(LONGEST):
            yield f"{count * each:8.1f}  {name}"

    def _counted(self, names: Iterable[Iterable[str]]) -> Counter[str]:
        counted: Counter[str] = Counter()
        for owners, count in zip(names, self.stacks.values(), strict=True):
            counted.update(dict.fromkeys(owners, count))
        return counted


def _part(function: str) -> str:
    path = function.rpartition(" (")[2].rstrip(")").rpartition(":")[0]
    package = path.partition("/")[0]
    return path if package in OURS else package


async def profiled(scenario: Scenario, folder: Path, *, py_spy: Path, seconds: int) -> Profile:
    """Load the subject of a scenario, and watch it."""
    async with AsyncExitStack() as stack:
        bench = await Bench.open(Plan(scenarios=[scenario]), folder, stack)
        subject = await bench.contender(scenario, scenario.subject)
        await bench.load(subject, 1)
        alone = await bench.load(subject, seconds)  # what it costs when nobody watches
        watching = asyncio.create_task(_watch(py_spy, subject.server.pid, seconds, folder / "stacks.txt"))
        await bench.load(subject, seconds + 1)
        stacks = await watching
    return Profile(stacks, alone.cpu_each(scenario.size) * 1e6)


async def _watch(py_spy: Path, pid: int, seconds: int, output: Path) -> Counter[tuple[str, ...]]:
    options = ["--pid", str(pid), "--duration", str(seconds), "--rate", str(SAMPLES), "--format", "raw", "--function"]
    child = await asyncio.create_subprocess_exec(py_spy, "record", *options, "-o", output, stdout=sys.stderr)
    if await child.wait():
        raise RuntimeError("py-spy failed")
    lines = (line.rpartition(" ") for line in (await asyncio.to_thread(output.read_text)).splitlines())
    stacks = [(stack.split(";"), int(count)) for stack, _, count in lines]
    return Counter({_inside(stack): count for stack, count in stacks if not stack[-1].startswith(WAITING)})


def _inside(stack: list[str]) -> tuple[str, ...]:
    start = next((place for place, name in enumerate(stack) if name.startswith(LOOP)), 0)
    return tuple(stack[start:])


def install() -> Path:
    """Return py-spy, installed into a cache folder outside of the project that ``BENCH_CACHE`` names."""
    folder = Path(os.environ.get("BENCH_CACHE") or Path.home() / ".cache/media-gateway-bench") / "py-spy"
    program = folder / "bin/py-spy"
    if not program.is_file():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)  # noqa: S603 our own command, as below
        subprocess.run([folder / "bin/pip", "install", "--quiet", f"py-spy=={PY_SPY}"], check=True)  # noqa: S603
    return program


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.speed.hot_path", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    py_spy = install()
    for scenario in SCENARIOS:
        if options.scenarios and scenario.name not in options.scenarios:
            continue
        with TemporaryDirectory(prefix="media-gateway-bench-") as folder:
            watched = profiled(
                replace(scenario, goals={}, beside=()), Path(folder), py_spy=py_spy, seconds=options.seconds
            )
            profile = asyncio.run(watched)
        print(f"\n# {scenario.name}: {profile.cost:.0f} µs an answer")  # noqa: T201 its report, as below
        for table in (profile.by_part(), profile.by_function(), profile.with_callees()):
            print("\n".join(["", *profile.rows(table)]))  # noqa: T201


if __name__ == "__main__":
    main()
