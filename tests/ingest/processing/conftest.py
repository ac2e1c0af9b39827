"""Fixtures of processing: pools of real children."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.processing.pools import Observed, OpenPool


@pytest.fixture
async def open_pool(tmp_path: Path) -> AsyncIterator[OpenPool]:
    """Open pools of children that run ``hostile.py``; keyword arguments are limits."""
    opened: list[Observed] = []

    def open_(**limits: Any) -> Observed:
        path = tmp_path / str(len(opened))
        path.mkdir()
        opened.append(Observed(path, **limits))
        return opened[-1]

    yield open_
    for observed in opened:
        await observed.pool.aclose()
        assert observed.pool.alive == 0
        assert list((observed.path / "scratch").glob("*")) == [], "no child leaves a file"
