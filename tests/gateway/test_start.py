"""What a process loads before it serves: nothing that its configuration has no use for."""

import subprocess
import sys

import pytest

DRIVERS = (
    *("aiobotocore", "aiohttp", "alembic", "av", "botocore", "PIL", "pypdfium2"),
    *("cryptography", "dbos", "jwt", "psycopg", "websockets"),
)


@pytest.mark.parametrize("module", ["gateway.app", "gateway.serving"])
def test_drivers_are_loaded_where_they_are_used_and_not_before(module: str) -> None:
    program = f"import sys, {module}; print([name for name in {DRIVERS} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 ours
    assert done.stdout.strip() == "[]"
