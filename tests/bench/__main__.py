"""``python -m tests.bench [PART…]``: runs the measurements, one JSON line each."""

import asyncio
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway import logs
from tests.bench import cache, crowd, growth, ingest, memory, processing, reads, ready, sizes, slow, viewers, webhooks
from tests.bench.speed import measurement as speed

PARTS = {
    "cache": cache.measure,
    "crowd": crowd.measure,
    "slow": slow.measure,
    "speed": speed.measure,
    "viewers": viewers.measure,
    "photographs": ingest.measure,
    "memory": memory.measure,
    "webhooks": webhooks.measure,
    "processing": processing.measure,
    "sizes": sizes.measure,
    "ready": ready.measure,
    "reads": reads.measure,
    "growth": growth.measure,
}


def main() -> None:
    """Run the parts that are named, or all."""
    logs.configure("error")
    for name in sys.argv[1:] or PARTS:
        with TemporaryDirectory(prefix="media-gateway-bench-") as folder:
            print(json.dumps(asyncio.run(PARTS[name](Path(folder)))), flush=True)  # noqa: T201 its report


if __name__ == "__main__":
    main()
