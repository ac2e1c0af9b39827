"""The connections to the queue's database: ours, and those of DBOS, which is loaded with the first job."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy import Engine, create_engine, make_url

from storage.database import CONNECT_TIMEOUT, POOL_TIMEOUT

if TYPE_CHECKING:
    from dbos import DBOSClient

APPLICATION: Final = "media-gateway"
OURS: Final = 4
OF_DBOS: Final = 5

T = TypeVar("T")


class Connections:
    """An engine, DBOS's client, and as many threads as they have connections: no other work waits for theirs."""

    def __init__(self, url: str, busy_timeout: float) -> None:
        """Take the database, and the seconds that a writer waits for SQLite's one write lock."""
        self.engine = _open_engine(url, busy_timeout)
        self._url = url
        self._client: DBOSClient | None = None
        self._opening = Lock()
        self._threads = ThreadPoolExecutor(OURS + OF_DBOS, thread_name_prefix="queue")

    async def run(self, call: Callable[[], T]) -> T:
        """Return what a call returns that blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, call)

    async def opened_client(self) -> "DBOSClient":
        """Return what `client` does."""
        return self._client if self._client is not None else await self.run(self.client)

    def client(self) -> "DBOSClient":
        """Return what writes and reads jobs; opened in a thread, by whoever comes first.

        With all that it imports it takes a tenth of a start, and who only reads media never needs it.
        """
        with self._opening:
            if self._client is None:
                from dbos import DBOSClient  # noqa: PLC0415 see above

                self._client = DBOSClient(
                    system_database_url=self._url,
                    application_name=APPLICATION,
                    retry_connection_errors=False,
                    lazy=True,
                    system_database_pool_size=OF_DBOS,
                )
            return self._client

    async def aclose(self) -> None:
        """Close all of them."""
        await self.run(self._close)
        self._threads.shutdown(wait=False)

    def _close(self) -> None:
        if self._client is not None:
            self._client.destroy()
        self.engine.dispose()


def _open_engine(url: str, busy_timeout: float) -> Engine:
    sqlite = make_url(url).get_backend_name() == "sqlite"
    arguments = {"timeout": busy_timeout} if sqlite else {"connect_timeout": CONNECT_TIMEOUT}
    return create_engine(
        url, pool_size=OURS, max_overflow=0, pool_timeout=POOL_TIMEOUT, pool_pre_ping=True, connect_args=arguments
    )
