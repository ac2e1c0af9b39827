"""Many jobs' purges share few requests, and a CDN that is busy or down is borne with."""

import asyncio
from collections.abc import Iterable

import pytest

from ingest.cdn.purge import PurgeFailed, PurgeItem, PurgeRefused, PurgeThrottled
from ingest.purging import MAX_BATCH, Purging
from tests.ingest.cdn.conftest import items
from tests.ingest.cdn.purgers import ScriptedCdn
from tests.running import until

FOR_EVER = 3600.0  # seconds: only a full batch goes


@pytest.fixture
def cdn() -> ScriptedCdn:
    return ScriptedCdn()


def started(purging: Purging, wanted: Iterable[PurgeItem]) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(purging.purge(item)) for item in wanted]


async def ended(jobs: list[asyncio.Task[str]]) -> list[str]:
    """Return what became of each job: its outcome, or its error's name."""
    results = await asyncio.wait_for(asyncio.gather(*jobs, return_exceptions=True), 10)
    return [type(result).__name__ if isinstance(result, BaseException) else result for result in results]


async def test_a_lone_purge_goes_when_its_time_is_up(cdn: ScriptedCdn) -> None:
    assert await asyncio.wait_for(Purging(cdn, window=0.01).purge(items(1)[0]), 10) == "purged"
    assert cdn.asked == [items(1)]


async def test_a_full_batch_waits_for_nobody(cdn: ScriptedCdn) -> None:
    cdn.batch_size = 20
    assert await ended(started(Purging(cdn, window=FOR_EVER), items(20))) == ["purged"] * 20
    assert cdn.asked == [items(20)]


async def test_a_crowd_is_asked_for_in_batches_one_after_the_other(cdn: ScriptedCdn) -> None:
    cdn.batch_size = 10
    assert await ended(started(Purging(cdn, window=0.01), items(25))) == ["purged"] * 25
    assert cdn.sizes() == [10, 10, 5]
    assert cdn.most_running == 1
    assert cdn.names() == [item.message_id for item in items(25)]


async def test_who_comes_while_the_cdn_is_asked_goes_next(cdn: ScriptedCdn) -> None:
    cdn.gate = asyncio.Event()
    purging = Purging(cdn, window=0.01)
    (first, *late) = items(4)
    jobs = started(purging, [first])
    await until(lambda: cdn.running)
    jobs += started(purging, late)
    cdn.gate.set()
    assert await ended(jobs) == ["purged"] * 4
    assert cdn.asked == [[first], late]


async def test_purging_goes_on_after_nobody_was_waiting(cdn: ScriptedCdn) -> None:
    purging = Purging(cdn, window=0.01)
    for item in items(2):
        assert await ended(started(purging, [item])) == ["purged"]
    assert cdn.sizes() == [1, 1]


@pytest.mark.parametrize(
    "failure", [PurgeFailed("down"), PurgeRefused("no"), RuntimeError("a bug")], ids=["down", "refused", "a bug"]
)
async def test_an_error_reaches_every_job_of_the_batch_and_no_other(cdn: ScriptedCdn, failure: Exception) -> None:
    cdn.batch_size = 3
    cdn.failures.append(failure)
    outcomes = await ended(started(Purging(cdn, window=0.01), items(4)))
    assert outcomes == [type(failure).__name__] * 3 + ["purged"]


async def test_a_job_that_has_given_up_does_not_disturb_the_others(cdn: ScriptedCdn) -> None:
    cdn.gate = asyncio.Event()
    jobs = started(Purging(cdn, window=0.01), items(3))
    await until(lambda: cdn.running)
    jobs[0].cancel()
    cdn.gate.set()
    assert await ended(jobs) == ["CancelledError", "purged", "purged"]
    assert cdn.sizes() == [3]


# A CDN that is busy


async def test_a_busy_cdn_is_asked_for_the_same_again_when_it_says_so(cdn: ScriptedCdn) -> None:
    cdn.batch_size = 2
    cdn.failures.extend(PurgeThrottled("busy", retry_after=0.01) for _ in range(3))
    assert await ended(started(Purging(cdn, window=0.01), items(3))) == ["purged"] * 3
    assert cdn.asked == [*[items(3)[:2]] * 4, items(3)[2:]]
    assert cdn.most_running == 1


async def test_a_cdn_that_is_busy_for_longer_is_left_to_the_next_attempt(cdn: ScriptedCdn) -> None:
    cdn.failures.append(PurgeThrottled("busy", retry_after=301.0))
    with pytest.raises(PurgeThrottled) as caught:
        await asyncio.wait_for(Purging(cdn, window=0.01, patience=300.0).purge(items(1)[0]), 10)
    assert caught.value.retry_after == 301.0
    assert cdn.sizes() == [1]


# How many jobs run at once


@pytest.mark.parametrize(
    ("fit", "together"),
    [pytest.param(7, 7, id="CloudFront by path"), (100, 100), pytest.param(1000, MAX_BATCH, id="CloudFront by tag")],
)
def test_as_many_jobs_wait_as_one_request_takes_up_to_a_bound(cdn: ScriptedCdn, fit: int, together: int) -> None:
    cdn.batch_size = fit
    assert Purging(cdn).batch_size == together


async def test_without_a_cdn_a_purge_is_refused() -> None:
    purging = Purging(None)
    assert purging.batch_size == 1
    with pytest.raises(PurgeRefused, match="No CDN is configured"):
        await purging.purge(items(1)[0])
