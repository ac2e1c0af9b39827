"""What a process loads before it serves: nothing that its configuration has no use for."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.running import command, environment, free_port, process, started

DRIVERS = (
    *("aiobotocore", "aiohttp", "alembic", "av", "botocore", "PIL", "pypdfium2"),
    *("cryptography", "dbos", "jwt", "psycopg", "sqlalchemy.dialects.postgresql", "websockets"),
)
NOT_FOR_READING = {*DRIVERS, "anyio._backends._asyncio", "ingest.worker"}


@pytest.mark.parametrize("module", ["gateway.app", "gateway.serving"])
def test_drivers_are_loaded_where_they_are_used_and_not_before(module: str) -> None:
    program = f"import sys, {module}; print([name for name in {DRIVERS} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 ours
    assert done.stdout.strip() == "[]"


@pytest.fixture(params=["files", "bucket"])
def store(request: pytest.FixtureRequest) -> dict[str, str]:
    """Where objects are, as the environment says it."""
    if request.param == "files":
        return {}
    bucket: dict[str, str] = request.getfixturevalue("s3")
    return bucket


async def test_a_process_that_is_ready_and_idle_has_loaded_what_it_reads_by(
    store: dict[str, str], tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    env = environment(tmp_path, HOME=str(tmp_path), **store)
    assert (await command("migrate", env=env)).returncode == 0
    imports = {"PYTHONPROFILEIMPORTTIME": "1"}  # the interpreter writes down each one
    with log.open("wb") as file, process("serve", "--no-worker", "--port", str(port), env=env | imports, stderr=file):
        await started(f"http://127.0.0.1:{port}")
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == httpx.codes.OK
        lines = log.read_text().splitlines()

    loaded = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "gateway.services" in loaded
    assert loaded & NOT_FOR_READING == set()
