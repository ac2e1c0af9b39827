"""Only what is as long and has the hash that was declared lands; everything else leaves a failure and no bytes."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from storage.errors import OriginFailed, OriginLied, OriginTimeout, StoreFull
from storage.flight import Flight
from storage.pilot import Order, download
from storage.sniff import SNIFF_LENGTH
from storage.spool import Spools, SpoolState
from tests.storage.flying import (
    NAME,
    ORDER,
    PATIENCE,
    Node,
    ScriptedOrigin,
    collect,
    jpeg,
    never,
    open_files,
    open_node,
    received,
    sha256,
    skip,
)

BODY = jpeg(200_000)
HASH = sha256(BODY)
ROOT = Path(__file__).parents[2]
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with open_node(tmp_path / "spool", ScriptedOrigin(body=BODY)) as opened:
        yield opened


async def fly(node: Node, order: Order = ORDER) -> SpoolState:
    """Fly the medium to its end and return what is known of it then."""
    async with node.flights.join(NAME, order, recheck=never) as flight:
        await flight.landed(PATIENCE)
        assert await collect(flight) == node.origin.body
        assert flight.state is not None
        return flight.state


# Verification ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [BODY, b"", b"x", BODY[:SNIFF_LENGTH], BODY[: SNIFF_LENGTH + 1]], ids=len)
@pytest.mark.parametrize("sized", [True, False], ids=["size", "no size"])
@pytest.mark.parametrize("hashed", [True, False], ids=["hash", "no hash"])
async def test_what_is_as_declared_lands_with_the_size_and_hash_of_its_bytes(
    node: Node, body: bytes, *, sized: bool, hashed: bool
) -> None:
    node.origin.body = body
    node.origin.size = len(body) if sized else None
    node.origin.sha256 = sha256(body) if hashed else None

    state = await fly(node)

    assert (state.phase, state.size, state.sha256) == ("verified", len(body), sha256(body))
    assert node.spools.state(NAME) == state
    assert node.spools.data(NAME).read_bytes() == body


@pytest.mark.parametrize(
    ("size", "declared", "in_record", "failure", "shown"),
    [
        pytest.param(200_001, HASH, None, OriginFailed, 200_000, id="short"),
        pytest.param(200_001, None, None, OriginFailed, 200_000, id="short, no hash"),
        pytest.param(199_999, HASH, None, OriginLied, 199_998, id="long"),
        pytest.param(199_999, None, None, OriginLied, 199_998, id="long, no hash"),
        pytest.param(0, None, None, OriginLied, 0, id="long, nothing declared"),
        pytest.param(200_000, sha256(b""), None, OriginLied, 199_999, id="wrong hash"),
        pytest.param(None, sha256(b""), None, OriginLied, 199_999, id="wrong hash, no size"),
        pytest.param(200_000, None, sha256(b""), OriginLied, 199_999, id="another hash than the webhook's"),
    ],
)
async def test_what_is_not_as_declared_never_completes(
    node: Node, *, size: int | None, declared: str | None, in_record: str | None, failure: type[Exception], shown: int
) -> None:
    node.origin.size, node.origin.sha256 = size, declared
    got = bytearray()

    async with node.flights.join(NAME, replace(ORDER, declared_sha256=in_record), recheck=never) as flight:
        end = await received(flight, got)

    assert type(end) is failure
    assert len(got) <= shown
    assert BODY.startswith(got)
    assert node.files() == {".json"}
    assert node.spools.state(NAME) == SpoolState(phase="failed", error=failure.__name__)


@pytest.mark.parametrize("size", [0, 200_000], ids=["nothing declared", "all declared"])
async def test_an_empty_body_is_a_medium_only_if_that_was_declared(node: Node, size: int) -> None:
    node.origin.body, node.origin.size, node.origin.sha256 = b"", size, None

    if size == 0:
        assert (await fly(node)).size == 0
    else:
        with pytest.raises(OriginFailed):
            await fly(node)


async def test_the_providers_hash_counts_more_than_the_webhooks_and_the_difference_is_logged(node: Node) -> None:
    with structlog.testing.capture_logs() as logs:
        state = await fly(node, replace(ORDER, declared_sha256=sha256(b"another")))

    assert state.sha256 == HASH
    assert [entry["event"] for entry in logs] == ["declared hashes differ"]


@pytest.mark.parametrize(
    ("body", "in_record", "sent", "served"),
    [
        (BODY, "image/jpeg", "image/jpeg", "image/jpeg"),
        (BODY, None, None, "image/jpeg"),
        (BODY, "application/octet-stream", None, "image/jpeg"),
        (BODY, "image/png", "image/png", "image/jpeg"),
        (SVG, "image/jpeg", "image/jpeg", "image/svg+xml"),
        (b"plain", "text/plain", None, "text/plain"),
        (b"plain", None, "text/plain", "text/plain"),
        (b"plain", None, None, "application/octet-stream"),
    ],
)
async def test_a_type_that_lies_is_corrected_before_the_first_byte(
    node: Node, body: bytes, in_record: str | None, sent: str | None, served: str
) -> None:
    node.origin.body, node.origin.size, node.origin.sha256, node.origin.content_type = body, len(body), None, sent

    async with node.flights.join(NAME, replace(ORDER, declared_type=in_record), recheck=never) as flight:
        assert (await flight.declared(PATIENCE)).content_type == served
        await flight.landed(PATIENCE)


async def test_the_type_does_not_depend_on_how_the_bytes_arrive(node: Node) -> None:
    node.origin.chunk = 1
    node.origin.body = BODY[:1000]
    node.origin.size, node.origin.sha256 = 1000, None

    assert (await fly(node, replace(ORDER, declared_type=None))).content_type == "image/jpeg"


# Time and space -------------------------------------------------------------------------------------------------------


async def test_a_download_has_a_deadline_that_no_trickle_extends(node: Node) -> None:
    node.origin.hold()
    got = bytearray()
    async with node.flights.join(NAME, replace(ORDER, deadline=300), recheck=never) as flight:
        reading = asyncio.create_task(received(flight, got, stall=10**6))
        for total in (1000, 2000, 3000):
            node.origin.release(total)
            await node.origin.waiting.reaches(total)
            skip(99)
        skip(99)

        assert isinstance(await reading, OriginTimeout)

    assert node.origin.closed == 1
    assert node.spools.state(NAME) == SpoolState(phase="failed", error="OriginTimeout")


async def test_a_full_disk_is_told_before_any_reader_is_told_of_the_bytes(tmp_path: Path) -> None:
    spools, origin = Spools(tmp_path), ScriptedOrigin(body=BODY)
    spools.data(NAME).symlink_to("/dev/full")  # writes to it fail as on a full disk
    flight, got = Flight(NAME), bytearray()
    reading = asyncio.create_task(received(flight, got))

    with pytest.raises(OSError, match="No space left"):
        await download(flight, origin, ORDER, spools, reserve=lambda flight, size: None)
    flight.fail(StoreFull())

    assert isinstance(await reading, StoreFull)
    assert got == b""
    assert origin.closed == 1
    flight.close()
    spools.close()
    assert open_files(tmp_path) == []


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from storage.errors import StoreFull
from tests.storage.flying import ScriptedOrigin, jpeg, open_node

async def main(folder):
    async with open_node(folder, ScriptedOrigin(body=jpeg(200_000))) as node:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), hard))
        try:
            await node.read()
        except StoreFull:
            print("full", sorted(node.files()), file=sys.stderr)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        print(await node.read() == node.origin.body, file=sys.stderr)

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        pytest.param(100_000, [".json"], id="for the bytes"),
        pytest.param(0, [".tmp"], id="even for the failure"),
    ],
)
def test_a_disk_without_room_blocks_nothing_once_there_is_room_again(
    tmp_path: Path, limit: int, left: list[str]
) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "spool"), str(limit)]
    done = subprocess.run(  # noqa: S603 our own program
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stderr.splitlines() == [f"full {left}", "True"]


async def test_the_providers_error_is_told_though_the_disk_is_full(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(node.spools, "write_state", full)
    node.origin.failures.append(OriginTimeout())

    with structlog.testing.capture_logs() as logs, pytest.raises(OriginTimeout):
        await node.read()

    assert [entry["event"] for entry in logs] == ["failure could not be published"]
