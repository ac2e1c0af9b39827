"""Starts everything, sends every scenario to its targets in interleaved rounds, and reports what came of it."""

import asyncio
import random
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.bench.speed import check, nginx, report
from tests.bench.speed.asks import Ask
from tests.bench.speed.catalogue import Catalogue, stock
from tests.bench.speed.check import Expected
from tests.bench.speed.outcomes import Outcome
from tests.bench.speed.processes import Server
from tests.bench.speed.scenarios import OBJECTS, SCENARIOS, Scenario
from tests.bench.speed.targets import TARGETS, Site
from tests.bench.speed.wrk import Load, load
from tests.running import NO_TLS

ROUNDS = 5
SECONDS = 3
SAMPLE = 8  # answers that are checked before and after each load
PROGRAMS = {"nginx": "nginx", "wrk": "wrk"}  # and the packages of Debian and Ubuntu that have them


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run, and for how long."""

    scenarios: Sequence[Scenario] = SCENARIOS
    rounds: int = ROUNDS
    seconds: int = SECONDS
    """Of each load."""
    report: Path | None = report.PATH
    """Where the tables go."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One target of a scenario, and what it is asked."""

    name: str
    server: Server
    asks: list[Ask]
    expected: Expected


async def measure(folder: Path) -> dict[str, Any]:
    """Run everything, and write the page."""
    return await run(Plan(), folder)


async def run(plan: Plan, folder: Path) -> dict[str, Any]:
    """Run a plan, and return what came of it."""
    _require_programs()
    setting = report.setting(datetime.now(UTC), rounds=plan.rounds, seconds=plan.seconds)
    async with AsyncExitStack() as stack:
        bench = await Bench.open(plan, folder, stack)
        outcomes = [await bench.outcome(scenario) for scenario in plan.scenarios]
    if plan.report is not None:
        await asyncio.to_thread(report.write, plan.report, setting, outcomes)
    return {"part": "speed", **setting, "scenarios": [outcome.as_json() for outcome in outcomes]}


def _require_programs() -> None:
    missing = sorted(package for program, package in PROGRAMS.items() if shutil.which(program) is None)
    if missing:
        raise SystemExit(f"The speed bench needs {' and '.join(missing)}: apt-get install {' '.join(missing)}")


class Bench:
    """All targets, started, over one catalogue."""

    def __init__(
        self, plan: Plan, site: Site, catalogue: Catalogue, servers: Mapping[str, Server], client: httpx.AsyncClient
    ) -> None:
        self._plan = plan
        self._site = site
        self._catalogue = catalogue
        self._servers = servers
        self._client = client

    @classmethod
    async def open(cls, plan: Plan, folder: Path, stack: AsyncExitStack) -> "Bench":
        """Make the media, and start the origin and every target that the plan needs."""
        sizes = {scenario.size for scenario in plan.scenarios}
        catalogue = await stock(folder, folder / "objects", {size: OBJECTS[size] for size in sorted(sizes)})
        origin = await stack.enter_async_context(nginx.origin(folder / "origin", folder / "objects"))
        site = Site(folder, origin)
        needed = {name: None for scenario in plan.scenarios for name in scenario.targets}
        servers = {name: await stack.enter_async_context(TARGETS[name].start(name, site)) for name in needed}
        client = httpx.AsyncClient(verify=NO_TLS, trust_env=False, timeout=check.PATIENCE)
        return cls(plan, site, catalogue, servers, await stack.enter_async_context(client))

    async def outcome(self, scenario: Scenario) -> Outcome:
        """Run one scenario; one that is answered wrongly at the outset is not measured."""
        contenders = [await self.contender(scenario, name) for name in scenario.targets]
        for each in contenders:
            await self.load(each, 1)  # connections, caches, code that is loaded when it is needed first
        faults = [fault for each in contenders for fault in await self._faults(each, each.asks)]
        outcome = Outcome(scenario, {each.name: [] for each in contenders}, faults)
        for _ in range(self._plan.rounds if not faults else 0):
            for each in contenders:
                await self._round(each, outcome)
        return outcome if not faults else Outcome(scenario, faults=faults)

    async def contender(self, scenario: Scenario, name: str) -> Contender:
        """Prepare the requests for one target, and let it see each medium once."""
        target, server = TARGETS[name], self._servers[name]
        asks = [Ask(medium, scenario.method, target.path(medium)) for medium in self._catalogue[scenario.size]]
        etags = [await self._etag(server, ask) for ask in asks]
        if scenario.conditional:
            pairs = zip(asks, etags, strict=True)
            asks = [replace(ask, headers={"If-None-Match": etag}) for ask, etag in pairs]
        status = scenario.status if name == scenario.subject or scenario.conditional else 200
        return Contender(name, server, asks, Expected(status, scenario.source if target.is_ours else None))

    async def load(self, contender: Contender, seconds: int) -> Load:
        """Load one target."""
        return await load(contender.server, contender.asks, seconds=seconds, folder=self._site.folder)

    async def _etag(self, server: Server, ask: Ask) -> str:
        answer = await self._client.get(server.url + ask.path)
        etag: str = answer.headers.get("etag", "")
        return etag

    async def _round(self, contender: Contender, outcome: Outcome) -> None:
        sample = random.sample(contender.asks, min(SAMPLE, len(contender.asks)))
        outcome.faults.extend(await self._faults(contender, sample))
        seen = await self.load(contender, self._plan.seconds)
        if seen.failed or not seen.bytes:
            outcome.faults.append(f"{contender.name}: {seen.failed} of {seen.requests} requests failed under load")
        outcome.loads[contender.name].append(seen)
        outcome.faults.extend(await self._faults(contender, sample))

    async def _faults(self, contender: Contender, asks: Sequence[Ask]) -> list[str]:
        found = await check.faults(self._client, contender.server.url, asks, contender.expected)
        return [f"{contender.name}: {fault}" for fault in found]
