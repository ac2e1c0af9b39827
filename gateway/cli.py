"""The command line: ``media-gateway COMMAND``."""

import asyncio
import gc
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp

    from gateway.settings import Settings
    from ingest.queue import Queue

T = TypeVar("T")

# Commands import what they need: `--help` answers at once, and the folder that all processes count their metrics into
# must be known before the metrics' library is imported.

USAGE = 2
PROBLEM = 1
MAX_JOBS = 10_000  # that one command looks at

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Serves WhatsApp media for ever."
)
jobs_app = typer.Typer(no_args_is_help=True, help="The queue, and dead letters with their reasons.")
app.add_typer(jobs_app, name="jobs")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that serve HTTP.")] = 1,
    worker: Annotated[
        bool | None, typer.Option("--worker/--no-worker", help="Run the ingest worker too; default: on SQLite.")
    ] = None,
) -> None:
    """Serve HTTP; on SQLite with the ingest worker beside it. Migrates the database first."""
    os.environ["MEDIA_LISTEN_HOST"] = host or "0.0.0.0"  # noqa: S104 what an empty host means to the server
    with ExitStack() as stack:
        with _for_good():
            settings = _settings()
            has_worker = worker if worker is not None else settings.queue_url.startswith("sqlite")
            if has_worker or workers > 1:  # and before the metrics are imported: counting alone costs a fourth
                _share_metrics(stack)
            from gateway import serving

            _check(settings)
        serving.exit_on_signals()
        serving.listen(host, port).close()  # uvicorn would find out only when everything else runs
        asyncio.run(serving.migrate(settings))
        if has_worker:
            stack.enter_context(serving.worker_beside(grace=settings.gateway.graceful_timeout))
        serving.serve(settings, host=settings.gateway.listen_host, port=port, workers=workers)


@app.command()
def worker(
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Jobs at once.")] = 8,
    metrics_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Serve metrics there.")] = None,
    watch_stdin: Annotated[bool, typer.Option("--watch-stdin", hidden=True)] = False,
) -> None:
    """Run ingest jobs alone. Migrates the database first."""
    with _for_good():
        from gateway import serving, working

        settings = _settings(with_provider=True)

    async def run() -> None:
        await serving.migrate(settings)
        await working.work(settings, concurrency=concurrency, metrics_port=metrics_port, watch_stdin=watch_stdin)

    asyncio.run(run())


@app.command()
def demo(port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 0) -> None:
    """Run gateway, worker, provider simulator and a sample chat on loopback, in a temporary folder."""
    with ExitStack() as stack:
        _share_metrics(stack)
        folder = stack.enter_context(TemporaryDirectory(prefix="media-gateway-demo-"))
        from gateway.demo.chat import run_demo
        from gateway.serving import exit_on_signals

        exit_on_signals()
        asyncio.run(run_demo(Path(folder), port=port))


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    from gateway import serving

    asyncio.run(serving.migrate(_settings()))


@app.command()
def sign(
    message_id: str,
    variant: Annotated[str, typer.Option()] = "original",
    expires_in: Annotated[int, typer.Option(min=1, help="Seconds.")] = 3600,
    download: Annotated[bool, typer.Option("--download")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Print a signed URL for a message's medium: the CDN's where one is configured that checks its viewers."""
    from gateway.bodies import timestamp
    from gateway.minting import Minter
    from gateway.signing import MAX_LIFE, Signer
    from gateway.variants import VARIANTS

    if variant not in VARIANTS:
        _stop(f"there is no variant {variant!r}: {', '.join(sorted(VARIANTS))}")
    settings = _settings()
    minter = Minter(Signer(settings.gateway.keys(), public_url=settings.gateway.public_url), settings.cdn.edge())
    if not minter.can_mint:
        _stop("MEDIA_SIGNING_KEYS: a key is needed to sign with")
    minted = minter.mint(message_id, variant, download=download, expires_in=min(expires_in, MAX_LIFE))
    if as_json:
        typer.echo(json.dumps({"url": minted.url, "expires_at": timestamp(minted.expires_at)}))
    else:
        typer.echo(minted.url)


@app.command()
def cookies(
    message_id: str,
    expires_in: Annotated[int, typer.Option(min=1, help="Seconds.")] = 3600,
) -> None:
    """Print, as JSON, the cookies that open the files of a message's stream at CloudFront."""
    from time import time

    from gateway.signing import rounded_expiry

    edge = _settings().cdn.cloudfront()
    if edge is None:
        _stop("MEDIA_CDN_KEY_ID: CloudFront's key is needed to sign with")
    typer.echo(json.dumps(edge.cookies(message_id, rounded_expiry(time(), expires_in))))


@jobs_app.command("list")
def list_jobs(
    dead: Annotated[bool, typer.Option("--dead", help="Only what will not be tried again.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=MAX_JOBS)] = 100,
    as_json: JsonFlag = False,
) -> None:
    """Show waiting, running and dead jobs, the newest first; exit status 1 where some are dead."""
    from ingest.queue import DEAD, WAITING, Job, Queue

    async def ask(queue: Queue) -> list[Job]:
        return await queue.jobs(status=DEAD if dead else (*DEAD, *WAITING, "PENDING"), limit=limit)

    found = _with_queue(ask)
    if as_json:
        typer.echo(json.dumps([asdict(job) for job in found]))
    else:
        for job in found:
            typer.echo(f"{job.id}  {job.status:<9} {job.queue:<11} {job.kind:<7} {job.subject}  {job.error or ''}")
    raise typer.Exit(PROBLEM if any(job.status in DEAD for job in found) else 0)


@jobs_app.command("retry")
def retry_jobs(
    message_ids: Annotated[list[str] | None, typer.Argument(help="Messages whose medium to ingest again.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Every job that is dead.")] = False,
) -> None:
    """Ingest messages again, or do again what has died."""
    from ingest.queue import DEAD, INGEST, QUEUE_OF, Queue

    if not message_ids and not dead:
        _stop("name messages, or give --dead")

    async def again(queue: Queue) -> int:
        found = await queue.jobs(status=DEAD, limit=MAX_JOBS)
        wanted = dict.fromkeys((INGEST, message_id) for message_id in message_ids or [])
        wanted |= dict.fromkeys((job.kind, job.subject) for job in found if dead and job.kind in QUEUE_OF)
        for kind, subject in wanted:
            await queue.enqueue(kind, subject, QUEUE_OF[kind])
        await queue.forget([job.id for job in found if (job.kind, job.subject) in wanted])
        return len(wanted)

    typer.echo(f"{_with_queue(again)} enqueued")


@jobs_app.command("reprocess")
def reprocess(
    message_ids: Annotated[list[str] | None, typer.Argument(help="Messages whose medium to process again.")] = None,
    workspace: Annotated[str | None, typer.Option(help="All media of this workspace.")] = None,
    outdated: Annotated[bool, typer.Option("--outdated", help="Only what an older recipe has made.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make the variants of stored media again; what there is stays until then. Exit status 1 where nothing is found."""
    from ingest import reprocessing
    from ingest.queue import Queue
    from storage.database import open_engine
    from storage.records import Records
    from storage.renditions import Renditions

    if bool(message_ids) == (workspace is not None or outdated):
        _stop("name either messages, or --workspace or --outdated")
    settings = _settings()

    async def again(queue: Queue) -> int:
        engine = open_engine(settings.storage.records_url)
        try:
            if message_ids:
                found = reprocessing.of_messages(Records(engine), message_ids)
            else:
                found = reprocessing.of_workspace(Renditions(engine), workspace, outdated=outdated)
            return await reprocessing.enqueue(queue, found)
        finally:
            await engine.dispose()

    count = _with_queue(again)
    typer.echo(json.dumps({"enqueued": count}) if as_json else f"{count} enqueued")
    raise typer.Exit(0 if count else PROBLEM)


@jobs_app.command("cancel")
def cancel_jobs(job_ids: list[str]) -> None:
    """Keep jobs from running (again); exit status 1 where one is not there to be cancelled."""
    from ingest.queue import Queue

    async def cancel(queue: Queue) -> list[str]:
        known = {job.id for job in await queue.jobs(limit=MAX_JOBS)}
        for job_id in job_ids:
            await queue.cancel(job_id)
        return [job_id for job_id in job_ids if job_id not in known]

    unknown = _with_queue(cancel)
    for job_id in unknown:
        typer.echo(f"no such job: {job_id}", err=True)
    raise typer.Exit(PROBLEM if unknown else 0)


def _with_queue(work: "Callable[[Queue], Awaitable[T]]") -> T:
    """Run a question to the queue."""
    from ingest.queue import Queue

    settings = _settings()

    async def run() -> T:
        async with Queue(settings.queue_url, records_url=settings.storage.records_url) as queue:
            return await work(queue)

    return asyncio.run(run())


@contextmanager
def _for_good() -> Iterator[None]:
    """Load what stays for as long as the process, and let the collector look at none of it, neither now nor ever.

    It would go through all of it again and again as it grows: that takes a sixth of a start, and later a break of a
    tenth of a second whenever everything is looked at.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _share_metrics(stack: ExitStack) -> None:
    """Let all child processes count into one folder, which `/metrics` sums up."""
    folder = stack.enter_context(TemporaryDirectory(prefix="media-gateway-metrics-"))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder


def _settings(*, with_provider: bool = False) -> "Settings":
    from gateway.settings import Settings

    settings = Settings.load()
    if with_provider:
        _check(settings)
    return settings


def _check(settings: "Settings") -> None:
    from gateway.services import check

    asyncio.run(check(settings))


def _stop(message: str) -> NoReturn:
    print(f"media-gateway: {message}", file=sys.stderr)  # noqa: T201 the command line speaks
    raise SystemExit(USAGE)


def application() -> "ASGIApp":
    """Return the application of a process that serves HTTP."""
    with _for_good():
        from gateway.app import create_app
        from gateway.serving import end_with_parent

        end_with_parent()
        return create_app()


def main() -> None:
    """Run the command line; exit status 2 and one line where it cannot do what it is asked."""
    try:
        app()
    except Exception as error:
        from gateway.settings import ConfigurationError
        from storage.errors import MediaError

        if isinstance(error, ConfigurationError | MediaError):
            _stop(str(error))
        raise


if __name__ == "__main__":
    main()
