"""The page about speed: on which machine, with which versions, and the tables."""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.speed.outcomes import Outcome
from tests.bench.speed.wrk import CONNECTIONS

ROOT = Path(__file__).parents[3]
PATH = ROOT / "docs" / "benchmarks.md"
PACKAGES = ("uvicorn", "uvloop", "httptools", "starlette", "aiohttp", "aiobotocore", "SQLAlchemy")
RIVALS = ("naive", "nginx")
OTHERS = (*RIVALS, "tuned")
QUIET = 0.5  # of a processor that somebody else may use
_BUSY = "\n**The machine had other work to do: neither numbers nor ratios are to be relied on.**"
_PAGE = """# Benchmarks

Written by `make bench`, or by `python -m tests.bench speed` alone; do not edit.
Everything runs on one machine, so that the servers, the origin and the clients share its processors:
the ratios count, not the numbers.

## Speed

{date}, {machine}; load average before the run {load}.{busy}
{versions}.

{rounds} rounds of {seconds} s for each target, interleaved; medians, and medians of the rounds' ratios.
Each server is one process, `wrk` has {connections} connections, the objects are files of an nginx origin.
*naive* is `tests/bench/speed/naive.py`, *nginx* is `proxy_pass` over kept connections, as it comes and with buffers
for large bodies.
The gateway checks signed URLs, its limits, metrics and logs are on, and clients of another kind hold its answers
against what is known of the media before and after every round: status, length, SHA-256, validators and fields.

| | naive | nginx | nginx, tuned | gateway | of naive | of nginx |
|---|---|---|---|---|---|---|
{rates}

Answers a second. Behind a ratio stands the goal, and whether it is reached.

| | naive | nginx | nginx, tuned | gateway |
|---|---|---|---|---|
{costs}

Microseconds of a processor for one answer, and milliseconds that 99 of 100 answers took at most.
{faults}"""


def setting(began: datetime, *, rounds: int, seconds: int) -> dict[str, Any]:
    """Return where, when and with what it is measured."""
    return {
        "date": began.date().isoformat(),
        "machine": _machine(),
        "load": [round(each, 2) for each in os.getloadavg()],
        "versions": _versions(),
        "rounds": rounds,
        "seconds": seconds,
    }


def write(path: Path, setting: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Write the page."""
    faults = [f"- {outcome.scenario.name}: {fault}" for outcome in outcomes for fault in outcome.faults[:3]]
    page = _PAGE.format(
        **setting | {"load": setting["load"][0], "versions": ", ".join(map(" ".join, setting["versions"].items()))},
        connections=CONNECTIONS,
        busy=_BUSY if setting["load"][0] > QUIET else "",
        rates="\n".join(map(_rates, outcomes)),
        costs="\n".join(_costs(outcome) for outcome in outcomes if outcome.loads),
        faults="\n".join(["", "Wrong answers, which count as missed goals:", "", *faults, ""]) if faults else "",
    )
    path.write_text(page)


def _rates(outcome: Outcome) -> str:
    rates = [_rate(outcome, name) for name in (*OTHERS, outcome.scenario.subject)]
    return _row(outcome.scenario.name, *rates, *(_ratio(outcome, name) for name in RIVALS))


def _rate(outcome: Outcome, name: str) -> str:
    return f"{outcome.rate(name):,.0f}" if name in outcome.loads else ""


def _ratio(outcome: Outcome, rival: str) -> str:
    goal = outcome.scenario.goals.get(rival)
    if goal is None:
        return ""
    if not outcome.loads:
        return f"none ({goal:g}: missed)"
    return f"{outcome.ratio(rival):.2f} ({goal:g}: {'ok' if outcome.is_met(rival) else 'missed'})"


def _costs(outcome: Outcome) -> str:
    cells = (_cost(outcome, name) for name in (*OTHERS, outcome.scenario.subject))
    return _row(outcome.scenario.name, *cells)


def _cost(outcome: Outcome, name: str) -> str:
    if name not in outcome.loads:
        return ""
    ended = outcome.p99(name)  # of a short load of large bodies, none may
    return f"{outcome.cpu(name) * 1e6:,.0f} µs" + (f", {ended * 1e3:,.1f} ms" if ended else "")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} processors ({model}), {platform.system()} {platform.release()}"


def _versions() -> dict[str, str]:
    programs = {"nginx": _output("nginx", "-v").rpartition("/")[2], "wrk": _output("wrk", "-v").split()[1]}
    revision = {"revision": _output("git", "-C", str(ROOT), "describe", "--always", "--dirty")}
    packages = {name: version(name) for name in PACKAGES}
    return {"Python": platform.python_version(), **packages, **programs, **revision}


def _output(program: str, *arguments: str) -> str:
    """Return the first line that a program prints about itself."""
    path = shutil.which(program)
    if path is None:
        return "unknown"
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)  # noqa: S603 as above
    return (done.stdout or done.stderr).partition("\n")[0].strip() or "unknown"
