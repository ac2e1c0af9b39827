"""``python -m tests.bench.speed [SCENARIO…]``: some scenarios, shorter or longer; exit status 1 for a wrong answer."""

import argparse
import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.speed.measurement import ROUNDS, SECONDS, Plan, run
from tests.bench.speed.scenarios import SCENARIOS


def main() -> None:
    """Run what is asked for, and print one JSON line."""
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m tests.bench.speed", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"all, or some of: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of each load")
    parser.add_argument("--report", type=Path, help="a page to write the tables into")
    options = parser.parse_args()
    chosen = [scenario for scenario in SCENARIOS if scenario.name in (options.scenarios or names)]
    plan = Plan(scenarios=chosen, rounds=options.rounds, seconds=options.seconds, report=options.report)
    with TemporaryDirectory(prefix="media-gateway-bench-") as folder:
        result = asyncio.run(run(plan, Path(folder)))
    print(json.dumps(result))  # noqa: T201 its report
    raise SystemExit(any(each["wrong"] for each in result["scenarios"]))


if __name__ == "__main__":
    main()
