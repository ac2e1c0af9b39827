"""``python -m tests.bench.soak --minutes 60 --rate 6``: exit status 1 for a leak or a wrong answer."""

import argparse
import asyncio
import json
import os
import random
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from gateway.serving import exit_on_signals
from tests.bench import proc
from tests.bench.soak.counts import Counts, count
from tests.bench.soak.gateway import Gateway, Plan, open_gateway
from tests.bench.soak.load import Load
from tests.bench.soak.provider import Provider, open_provider
from tests.bench.soak.truth import Ledger, Message
from tests.running import eventually

WARM = 1.5  # minutes of the same load before anything is counted: pools and caches fill
AT_ONCE = 300  # actions
DRAIN = 150.0  # seconds for the last of them to end
CALM = 240.0  # seconds for everything to be as it was before: idle children and connections go after a minute
MINUTE = 60.0


async def soak(plan: Plan, folder: Path) -> dict[str, Any]:
    """Run a plan, and tell what came of it."""
    random.seed(plan.seed)
    ledger = Ledger()
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(open_provider(folder))
        gateway = await stack.enter_async_context(open_gateway(folder, plan, provider))
        load = _load(gateway, provider, ledger)
        await load.prepare()
        await _shake(load, plan, WARM * MINUTE)
        await _mend(load)
        before = await _calm(gateway, None)
        _say(event="begins", counts=before.values)
        began, cpu = monotonic(), proc.cpu(gateway.pid)
        memory = await _shake(load, plan, plan.minutes * MINUTE)
        seconds, taken = monotonic() - began, (proc.cpu(gateway.pid) - cpu).total
        await _mend(load)
        after = await _calm(gateway, before)
    logged = await asyncio.to_thread(_logged, folder / "gateway.log")
    return {
        "part": "soak",
        **asdict(plan),
        "seconds": round(seconds),
        "requests": ledger.answers.total(),
        "cpu_share": round(taken / seconds, 3),
        "answers": dict(sorted(ledger.answers.items())),
        "excused": dict(ledger.excused),
        "troubles": provider.caused,
        "stalest_seconds": round(ledger.stalest, 2),
        "before": before.values,
        "after": after.values,
        "memory": memory,
        "leaked": after.more_than(before),
        "logged": logged,
        "wrong": ledger.wrong,
        "faults": ledger.faults,
    }


def _load(gateway: Gateway, provider: Provider, ledger: Ledger) -> Load:
    def messages(what: str, number: int) -> list[Message]:
        return [Message(f"{what}-{each}/ä") for each in range(number)]

    cold = zip(messages("cold", len(provider.shelf.cold)), provider.shelf.cold, strict=True)
    return Load(
        gateway,
        provider,
        ledger,
        hot=messages("hot", 120),
        photographs=messages("photograph", 20),
        films=messages("film", 2),
        large=messages("large", 5),
        changing=messages("changing", 12),
        cold=dict(cold),
    )


async def _shake(load: Load, plan: Plan, seconds: float) -> list[float]:
    """Load the gateway for so long, and let all actions end; return its memory of each minute, in megabytes."""
    running: set[asyncio.Task[None]] = set()
    troubles = asyncio.create_task(_trouble(load.provider))
    end, memory, due = monotonic() + seconds, [], monotonic()
    while monotonic() < end:
        await asyncio.sleep(random.expovariate(plan.rate))
        if len(running) < AT_ONCE:
            task = asyncio.ensure_future(_guarded(load))
            running.add(task)
            task.add_done_callback(running.discard)
        if monotonic() >= due:
            memory.append(round(await asyncio.to_thread(_memory, load.gateway.pid), 1))
            _say(event="runs", requests=load.ledger.answers.total(), wrong=load.ledger.wrong, megabytes=memory[-1])
            due += MINUTE
    troubles.cancel()
    await asyncio.wait([troubles])
    if running:
        _, late = await asyncio.wait(running, timeout=DRAIN)
        for task in late:
            load.ledger.fault(f"an action has not ended: {task}")
            task.cancel()
    return memory


def _memory(pid: int) -> float:
    return sum(map(proc.memory, (pid, *proc.descendants(pid)))) / 1024**2


async def _guarded(load: Load) -> None:
    """Do one thing; whatever it runs into counts."""
    try:
        await load.action()
    except Exception as error:  # noqa: BLE001 the load goes on, and the report says so
        load.ledger.fault(f"an action broke: {type(error).__name__}: {error}")


async def _trouble(provider: Provider) -> None:
    while True:
        await asyncio.sleep(random.uniform(5, 40))
        await provider.trouble(random.uniform(2, 10))


async def _mend(load: Load) -> None:
    """Have everything that failed while the provider was in trouble done again, and look at every single medium."""
    await asyncio.sleep(3)  # records of other processes
    everything = [*load.hot, *load.photographs, *load.films, *load.large, *load.changing, *load.cold]
    for message in everything:
        if message.now.content is not None and not await load.settle(message):
            await load.retry(message)
    for message in everything:
        if message.now.content is not None:
            await eventually(lambda message=message: load.settle(message, completed=True), 200)  # type: ignore[misc] # the loop's variable
        await load.read(message)


async def _calm(gateway: Gateway, before: Counts | None) -> Counts:
    """Wait until everything is as it was before, or for as long as it may take."""
    end, last = monotonic() + CALM, None
    while True:
        await asyncio.sleep(5)
        counts = await count(gateway)
        if before is not None and not counts.more_than(before):
            return counts
        if before is None and last is not None and not (counts.more_than(last) or last.more_than(counts)):
            return counts
        if monotonic() > end:
            return counts
        last = counts


def _logged(path: Path) -> dict[str, int]:
    """Count what the gateway has logged, by level and event."""
    events: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
            events[f"{entry['level']}: {entry['event']} {entry.get('error', '')}".strip()] += 1
        except (ValueError, KeyError, TypeError):
            events[f"no log line: {line[:80]}"] += 1
    return dict(events.most_common())


def _say(**facts: object) -> None:
    print(json.dumps(facts), file=sys.stderr, flush=True)  # noqa: T201 its progress


def main() -> None:
    """Run it, and print one JSON line."""
    plan = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=plan.minutes)
    parser.add_argument("--rate", type=float, default=plan.rate, help="actions a second")
    parser.add_argument("--workers", type=int, default=plan.workers, help="processes that serve HTTP")
    parser.add_argument("--store", choices=["s3", "local"], default=plan.store)
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--nice", type=int, default=10, help="how far to stand back behind other work")
    options = vars(parser.parse_args())
    os.nice(options.pop("nice"))
    exit_on_signals()  # or what it has started would be left
    with TemporaryDirectory(prefix="media-gateway-soak-") as folder:
        result = asyncio.run(soak(replace(plan, **options), Path(folder)))
    print(json.dumps(result))  # noqa: T201 its report
    raise SystemExit(bool(result["wrong"] or result["leaked"]))


if __name__ == "__main__":
    main()
