"""Fills databases with as many records and jobs as are wanted, by statements of the database itself."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dbos import DBOSClient
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from ingest.queue import APPLICATION_VERSION, HIGH, INGEST, PRIORITY
from ingest.queue_connections import APPLICATION
from storage.database import sync_url
from storage.schema import messages, objects, variants

BASE = 100_000_000  # added to numbers, so that all have as many digits
NOON = 1_793_620_800  # seconds since the epoch
SPAN = 60 * 86_400  # seconds before noon in which the messages came, in an order that is not that of their ids
VARIANTS = ("webp", "compressed", "thumbnail", "small", "medium")

Values = dict[str, str]
"""SQL by the name of its column."""


def message_id(number: int) -> str:
    """Return the id of a message by its number."""
    return f"wamid.HBgLNDkxNTExMjM0NTY3FQIAEhgU{BASE + number}"


def object_id(number: int) -> str:
    """Return the id of an object by its number."""
    return f"{'0' * 23}{BASE + number}"


def sha256(number: int) -> str:
    """Return the hash of an object by its number."""
    return f"{'ab' * 27}0{BASE + number}"


def fill(url: str, records: int) -> None:
    """Add records, by twos of one object; a hundredth is lost, a tenth of the objects has variants."""
    engine = create_engine(sync_url(url))
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    with engine.begin() as connection, _in_bulk(connection):
        sqlite = engine.dialect.name == "sqlite"
        _insert(connection, objects.name, records // 2, _object(sqlite=sqlite))
        _insert(connection, messages.name, records, _message(sqlite=sqlite))
        for name in VARIANTS:
            _insert(connection, variants.name, records // 20, _variant(name, sqlite=sqlite))
    _settle(engine)


def _settle(engine: Engine) -> None:
    """Do what a database does by itself in time."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            connection.exec_driver_sql("VACUUM ANALYZE")
            connection.exec_driver_sql("CHECKPOINT")
    engine.dispose()


@contextmanager
def _in_bulk(connection: Connection) -> Iterator[None]:
    """Build the indexes at the end, and count once instead of by triggers."""
    triggers: Sequence[Any] = ()
    if connection.dialect.name == "sqlite":
        for pragma in ("synchronous=OFF", "cache_size=-1000000"):
            connection.exec_driver_sql(f"PRAGMA {pragma}")
        triggers = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")).all()
    else:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql("SET LOCAL maintenance_work_mem = '1GB'")
    indexes = _indexes(connection)
    for name in indexes:
        connection.exec_driver_sql(f"DROP INDEX {name}")
    for name, _ in triggers:
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
    yield
    for definition in indexes.values():
        connection.exec_driver_sql(definition)
    connection.exec_driver_sql(
        "INSERT INTO tallies (status, error, is_stored, media) "
        "SELECT status, error, object_id IS NOT NULL, count(*) FROM messages GROUP BY 1, 2, 3"
    )
    for _, statement in triggers:
        connection.exec_driver_sql(statement)


def _indexes(connection: Connection) -> dict[str, str]:
    """Return what makes each index again, as the database has written it down: the schema has no conditions."""
    catalogue = (
        "name, sql FROM sqlite_master" if connection.dialect.name == "sqlite" else "indexname, indexdef FROM pg_indexes"
    )
    named = {index.name for table in (messages, objects) for index in table.indexes}
    return {name: definition for name, definition in connection.execute(text(f"SELECT {catalogue}")) if name in named}


def _insert(connection: Connection, table: str, count: int, values: Values, source: str = "") -> None:
    numbers = "SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM numbers WHERE i < :last"
    selected = f"SELECT {', '.join(values.values())} FROM {source}numbers WHERE i <= :last"  # noqa: S608 ours
    statement = f"WITH RECURSIVE numbers(i) AS ({numbers}) INSERT INTO {table} ({', '.join(values)}) {selected}"
    connection.execute(text(statement), {"last": count - 1})


def _time(*, sqlite: bool) -> str:
    seconds = f"{NOON} - (i * 7919) % {SPAN}"
    return f"strftime('%Y-%m-%d %H:%M:%f000', {seconds}, 'unixepoch')" if sqlite else f"to_timestamp({seconds})"


def _text(prefix: str, number: str) -> str:
    return f"'{prefix}' || CAST({BASE} + {number} AS TEXT)"


def _object(*, sqlite: bool) -> Values:
    key = _text("media/wamid.HBgLNDkxNTExMjM0NTY3FQIAEhgU/", "i")
    return {
        "id": _text("0" * 23, "i"),
        "workspace_id": "'w' || CAST(i % 4 AS TEXT)",
        "sha256": _text("ab" * 27 + "0", "i"),
        "size": "100000 + i",
        "content_type": "'image/jpeg'",
        "backend": "'s3'",
        "key": key,
        "url": f"'s3://bucket/' || {key}",
        "processing_status": "'completed'",
        "recipe": "1",
        "created_at": _time(sqlite=sqlite),
        "updated_at": _time(sqlite=sqlite),
    }


def _message(*, sqlite: bool) -> Values:
    time = _time(sqlite=sqlite)
    return {
        "message_id": _text("wamid.HBgLNDkxNTExMjM0NTY3FQIAEhgU", "i"),
        "workspace_id": "'w' || CAST((i / 2) % 4 AS TEXT)",
        "provider": "'whatsapp'",
        "provider_media_id": _text("12345678", "i"),
        "kind": "'image'",
        "declared_type": "'image/jpeg'",
        "declared_sha256": _text("ab" * 27 + "0", "i / 2"),
        "object_id": f"CASE WHEN i % 100 = 99 THEN NULL ELSE {_text('0' * 23, 'i / 2')} END",
        "content_type": "'image/jpeg'",
        "status": "CASE WHEN i % 100 = 99 THEN 'failed' ELSE 'completed' END",
        "error": "CASE WHEN i % 100 = 99 THEN 'media-expired' END",
        "expires_at": time,
        "created_at": time,
        "updated_at": time,
    }


def _variant(name: str, *, sqlite: bool) -> Values:
    key = _text(f"{name}/w1/2026/11/", "i")
    return {
        "object_id": _text("0" * 23, "i * 10"),
        "name": f"'{name}'",
        "content_type": "'image/webp'",
        "size": "1000",
        "sha256": _text("cd" * 27 + "0", "i"),
        "backend": "'s3'",
        "key": key,
        "url": f"'s3://bucket/' || {key}",
        "recipe": "1",
        "created_at": _time(sqlite=sqlite),
    }


def enqueue(url: str, jobs: int) -> None:
    """Add jobs that wait in one queue, all like the first."""
    client = _client(url)
    client.enqueue({"workflow_name": INGEST, "queue_name": HIGH, "priority": PRIORITY}, "subject", 0)
    client.destroy()
    engine = create_engine(sync_url(url))
    schema = None if engine.dialect.name == "sqlite" else "dbos"
    table = "workflow_status" if schema is None else "dbos.workflow_status"
    copied = {column["name"]: column["name"] for column in inspect(engine).get_columns("workflow_status", schema)}
    copied |= {"workflow_uuid": _text("job-", "i"), "created_at": "created_at + i"}
    with engine.begin() as connection:
        _insert(connection, table, jobs, copied, f"{table}, ")
    _settle(engine)


class Claims:
    """Claims four jobs at a time, as a worker does; blocking."""

    def __init__(self, url: str) -> None:
        self._client: Any = _client(url)
        self._queue = self._client.register_queue(HIGH, worker_concurrency=4)

    def claim(self) -> None:
        """Claim the next four."""
        queues = self._client._sys_db
        queues.start_queued_workflows(self._queue, "bench", APPLICATION_VERSION, None, is_latest_version=True)

    def close(self) -> None:
        """Close the connections."""
        self._client.destroy()


def _client(url: str) -> DBOSClient:
    return DBOSClient(system_database_url=sync_url(url), application_name=APPLICATION)
