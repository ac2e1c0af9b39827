"""``python -m tests.bench.kill --ingests N``: kills the worker at random moments of many ingests; one JSON line."""

import argparse
import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.killing import kill_while_ingesting


def main() -> None:
    """Run it, and print what has become of the ingests."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.kill", description=__doc__)
    parser.add_argument("--ingests", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1, help="of the moments and the media")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="media-gateway-bench-") as folder:
        toll = asyncio.run(kill_while_ingesting(Path(folder), ingests=arguments.ingests, seed=arguments.seed))
    print(json.dumps({"name": "kill", **asdict(toll)}))  # noqa: T201 its report


if __name__ == "__main__":
    main()
