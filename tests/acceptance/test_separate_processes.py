"""PostgreSQL, S3, HTTP and ingest as processes of their own: the gateway where one machine is not enough."""

import asyncio
import json
import signal
from pathlib import Path

import httpx

from tests.acceptance.conftest import Served, StartServer, children, path
from tests.databases import Databases
from tests.ingest.node import jpeg
from tests.running import command, eventually, process, settings_for

PICTURE = jpeg(1, 300_000)


async def test_from_webhook_to_picture_and_back_to_nothing(
    serve: StartServer, postgresql_databases: Databases, bucket: dict[str, str], tmp_path: Path
) -> None:
    database = {"MEDIA_DATABASE_URL": postgresql_databases.new(tmp_path)}
    async with serve(**database, **bucket) as served:
        assert children(served.process.pid) == {}  # on PostgreSQL, the worker is started by itself
        simulator = served.provider.simulator
        first, second = simulator.add(PICTURE, "image/jpeg"), simulator.add(PICTURE, "image/jpeg")
        message_ids = await served.webhook(first, second)
        with process("worker", env=served.env) as worker:
            infos = [await served.completed(message_id) for message_id in message_ids]
            await _is_one_object(served, infos, bucket)
            await _is_deleted_with_its_last_message(served, message_ids, bucket)
            worker.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.wait, 20) == 0
        listed = await command("jobs", "list", "--json", env=served.env)

    assert (listed.returncode, json.loads(listed.stdout)) == (0, [])


async def _is_one_object(served: Served, infos: list[dict[str, str]], bucket: dict[str, str]) -> None:
    (url,) = {info["stored_url"] for info in infos}
    assert url.startswith(f"s3://{bucket['AWS_S3_BUCKET']}/media/")
    served.provider.simulator.online = False
    for info in infos:
        answer = await served.client.get(path(info["message_id"]), headers={"Range": "bytes=-1000"})
        assert (answer.status_code, answer.content) == (httpx.codes.PARTIAL_CONTENT, PICTURE[-1000:])
        assert answer.headers["X-Media-Source"] in {"storage", "cache"}


async def _is_deleted_with_its_last_message(served: Served, message_ids: list[str], bucket: dict[str, str]) -> None:
    for message_id in message_ids:
        answer = await served.client.delete(path(message_id))
        assert answer.status_code == httpx.codes.NO_CONTENT
        assert (await served.client.get(path(message_id))).status_code == httpx.codes.GONE

    async def empty() -> bool:
        async with httpx.AsyncClient() as client:
            listing = await client.get(f"{bucket['AWS_ENDPOINT_URL_S3']}/{bucket['AWS_S3_BUCKET']}?list-type=2")
        return "<Key>" not in listing.text

    await eventually(empty)


async def test_a_worker_may_have_its_queue_elsewhere(
    serve: StartServer, postgresql_databases: Databases, tmp_path: Path
) -> None:
    elsewhere = postgresql_databases.new(tmp_path)
    async with serve("--worker", MEDIA_INGEST_QUEUE_URL=elsewhere) as served:
        assert settings_for(tmp_path / "media", **served.env).queue_url == elsewhere
        (message_id,) = await served.webhook(served.provider.simulator.add(PICTURE, "image/jpeg"))

        assert (await served.completed(message_id))["storage_backend"] == "local"
