"""``kill -9`` at random moments of many ingests: all are stored, none twice, no orphan, no half object."""

from pathlib import Path

import pytest

from tests.killing import kill_while_ingesting


@pytest.mark.timeout(300)  # every life begins with a second of imports
@pytest.mark.parametrize("seed", [1])
async def test_a_worker_that_is_killed_again_and_again_stores_everything_once(tmp_path: Path, seed: int) -> None:
    toll = await kill_while_ingesting(tmp_path, ingests=40, seed=seed)

    assert toll.kills >= 3
    assert toll.stored == toll.ingests == 40
    assert (toll.twice, toll.missing, toll.orphans) == (0, 0, 0)
    assert (toll.unfinished_jobs, toll.spools, toll.drafts) == (0, 0, 0)
