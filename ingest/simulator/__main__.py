"""`python -m ingest.simulator`: a simulator in a process of its own.

It writes one line of JSON with its URLs to standard output, then serves until SIGINT or SIGTERM; steer it through
`ingest.simulator.control`.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict

from ingest.simulator.provider import Profile
from ingest.simulator.server import serve
from ingest.simulator.simulator import Simulator


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ingest.simulator", description="Simulate WhatsApp's Cloud API.")
    parser.add_argument("--port", type=int, default=0, help="port of the API host; 0: any free one")
    parser.add_argument("--download-port", type=int, default=0, help="port of the download host; 0: any free one")
    parser.add_argument("--access-token", default="simulator-access-token", help="the credential that is accepted")
    parser.add_argument("--profile", type=Profile, choices=list(Profile), default=Profile.META)
    return parser.parse_args(argv)


async def _run(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    simulator = Simulator(access_token=arguments.access_token, profile=arguments.profile)
    async with serve(simulator, graph_port=arguments.port, lookaside_port=arguments.download_port) as endpoints:
        sys.stdout.write(json.dumps(asdict(endpoints)) + "\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_run(_arguments(None)))
