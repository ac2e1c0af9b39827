"""Jobs in a real worker process: done, tried again, dead with their reason, tried again by hand, cancelled."""

import httpx
import pytest

from ingest.simulator import Faults, GraphCode
from storage.record import Status
from tests.conftest import StartGateway
from tests.ingest.site import Site
from tests.running import command

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def test_a_job_is_done_and_forgotten(site: Site) -> None:
    await site.announce("m1")
    with site.worker():
        record = await site.reaches("m1", Status.COMPLETED)

    assert site.objects() == site.whole("m1")
    assert record.attempts == 0
    assert await site.jobs() == ([], 0)


@on_sqlite
async def test_a_worker_logs_json_lines_and_nothing_else(site: Site) -> None:
    await site.announce("m1", Faults(graph_error=GraphCode.INVALID_PARAMETER))
    with site.worker(MEDIA_LOG_LEVEL="info"):
        await site.reaches("m1", Status.FAILED)

    assert {"worker started", "job step failed"} <= {line["event"] for line in site.logged()}


@on_sqlite
async def test_a_failure_that_passes_is_tried_again_until_it_has(site: Site) -> None:
    _break_store(site)
    await site.announce("m1")
    with site.worker(MEDIA_INGEST_RETRY_DELAYS="0.1,0.1,0.1,60"):
        failing = await site.fails("m1", 3)
        jobs, status = await site.jobs()

        assert (failing.status, failing.error) == (Status.PENDING, "storage-unavailable")
        assert [(job["kind"], job["subject"]) for job in jobs] == [("ingest", "m1")]
        assert status == 0


async def test_a_failure_that_stays_ends_as_a_dead_letter_with_its_reason(site: Site) -> None:
    _break_store(site)
    await site.announce("m1")
    with site.worker():
        dead = await site.reaches("m1", Status.FAILED)
        assert (dead.error, dead.attempts) == ("storage-unavailable", 4)  # the first try and one after each delay

    (job,), status = await site.jobs("--dead")
    assert status == 1
    assert (job["status"], job["subject"], job["attempt"]) == ("ERROR", "m1", 3)
    assert job["error"].startswith("storage-unavailable: ")


@on_sqlite
async def test_a_provider_that_stumbles_is_asked_again(site: Site) -> None:
    await site.announce("m1", Faults(download_error=500, download_error_times=2))  # the client itself asks twice
    with site.worker():
        await site.reaches("m1", Status.COMPLETED)

    assert site.objects() == site.whole("m1")


@on_sqlite
@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (Faults(graph_error=GraphCode.INVALID_PARAMETER), "media-expired"),
        (Faults(graph_error=GraphCode.TOKEN_EXPIRED), "provider-error"),
    ],
    ids=["the provider has it no more", "the provider refuses our token"],
)
async def test_a_failure_that_waiting_does_not_mend_is_final_at_once(site: Site, faults: Faults, error: str) -> None:
    await site.announce("m1", faults)
    with site.worker():
        dead = await site.reaches("m1", Status.FAILED)

    assert (dead.error, dead.attempts) == (error, 1)
    (job,), status = await site.jobs()
    assert (job["error"].partition(":")[0], status) == (error, 1)


@on_sqlite
async def test_what_is_dead_is_tried_again_by_hand(site: Site) -> None:
    _break_store(site)
    await site.announce("m1")
    await site.announce("m2")
    with site.worker():
        await site.reaches("m1", Status.FAILED)
        await site.reaches("m2", Status.FAILED)
        (site.folder / "media").unlink()

        assert (await command("jobs", "retry", "m1", env=site.env)).stdout == "1 enqueued\n"
        await site.reaches("m1", Status.COMPLETED)
        assert [job["subject"] for job in (await site.jobs())[0]] == ["m2"]

        assert (await command("jobs", "retry", "--dead", env=site.env)).stdout == "1 enqueued\n"
        await site.reaches("m2", Status.COMPLETED)

    assert await site.jobs() == ([], 0)
    assert site.objects() == site.whole("m1", "m2")


@on_sqlite
async def test_a_cancelled_job_does_not_run(site: Site) -> None:
    await site.announce("m1")
    await site.announce("m2")
    jobs, _ = await site.jobs()
    (cancelled,) = [job["id"] for job in jobs if job["subject"] == "m1"]

    assert (await command("jobs", "cancel", cancelled, env=site.env)).returncode == 0
    with site.worker():
        await site.reaches("m2", Status.COMPLETED)

    assert site.objects() == site.whole("m2")
    assert site.provider.simulator.downloads(site.media["m1"].id) == 0


@on_sqlite
async def test_a_job_that_is_not_there_cannot_be_cancelled(site: Site) -> None:
    answer = await command("jobs", "cancel", "4711", env=site.env)

    assert answer.returncode == 1
    assert answer.stderr == "no such job: 4711\n"


@pytest.mark.parametrize(
    ("phase", "by_registration", "by_reading"), [("all", 1, 1), ("new", 1, 0), ("off", 0, 0)], ids=["all", "new", "off"]
)
async def test_what_schedules_an_ingest_in_each_phase_of_a_migration(
    start_gateway: StartGateway, site: Site, phase: str, by_registration: int, by_reading: int
) -> None:
    variables = {"MEDIA_DATABASE_URL": site.env["MEDIA_DATABASE_URL"], "MEDIA_INGEST": phase}
    await site.announce("read", job=False)
    medium = site.provider.simulator.add(b"\xff\xd8\xff registered", "image/jpeg")
    async with start_gateway(**variables, **site.provider.variables) as gateway:
        registration = {"workspace_id": "default", "provider_media_id": medium.id}
        answer = await gateway.client.put("/media/messages/registered", json=registration)
        assert answer.status_code == httpx.codes.CREATED
        assert (await gateway.client.get("/media/messages/read")).status_code == httpx.codes.OK

    jobs = [job.subject for job in await site.queue.jobs()]
    assert (jobs.count("registered"), jobs.count("read")) == (by_registration, by_reading)


def _break_store(site: Site) -> None:
    """Make every write fail: where the objects' folder should be, there is a file."""
    (site.folder / "media").write_bytes(b"")
