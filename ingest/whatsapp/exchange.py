"""One request to the provider and its answer; whatever goes wrong comes out as an `OriginError`."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Container, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from importlib.metadata import version

import httpx
import stamina

from ingest.whatsapp.answers import MAX_ANSWER_BYTES, classify
from storage.errors import OriginError, OriginFailed, OriginTimeout

HEADERS: Mapping[str, str] = {
    # Meta refuses requests without a User-Agent, and with a repeated one.
    "User-Agent": f"media-gateway/{version('media-gateway')}",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}


class Exchange:
    """Sends requests, the same ones a second time where that is likely to help.

    It drives the transport itself, not a client: that would keep cookies, add headers of its own, and log every URL,
    though the provider's hold a secret.

    Args:
        transport: What dials, and decides whom.
        attempts: How often a request is sent at most.
        connect_timeout: In seconds, for a connection of the pool or a new one; all other limits are the caller's.
        now: Unix seconds.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        attempts: int,
        connect_timeout: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._limits = {"connect": connect_timeout, "pool": connect_timeout, "read": None, "write": None}
        self._retrying = stamina.AsyncRetryingCaller(
            attempts=attempts, timeout=None, wait_initial=0.1, wait_max=0.5, wait_jitter=0.1
        )
        self._now = now

    async def get(self, url: httpx.URL, credentials: Mapping[str, str], *, welcome: Container[int]) -> httpx.Response:
        """Return an answer whose body is unread and which the caller closes; redirects are answers.

        Args:
            url: Asked as it is.
            credentials: Headers to send besides `HEADERS`.
            welcome: The HTTP statuses that are returned.

        Raises:
            OriginError: Any other status, by what it means, or no answer.
        """
        return await self._retrying(_may_pass, self._send, url, credentials, welcome)

    async def _send(self, url: httpx.URL, credentials: Mapping[str, str], welcome: Container[int]) -> httpx.Response:
        headers = {**HEADERS, **credentials}
        request = httpx.Request("GET", url, headers=headers, extensions={"timeout": self._limits})
        with translated():
            response = await self._transport.handle_async_request(request)
        if response.status_code in welcome:
            return response
        raise await self.failure(response)

    async def failure(self, response: httpx.Response) -> OriginError:
        """Tell what an answer other than success means, and close it."""
        body = b""
        with suppress(OriginFailed):  # the status alone has a meaning too
            body = await read_answer(response)
        return classify(response.status_code, response.headers, body, now=self._now())


async def read_answer(response: httpx.Response) -> bytes:
    """Read a short body and close the answer; of a long one only as much as shows that it is too long."""
    body = b""
    async with aclosing(response):
        with translated():
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    break
    return body


async def read_body(response: httpx.Response, *, chunk_timeout: float, timeout: float) -> AsyncIterator[bytes]:
    """Yield a body's raw bytes as they arrive, within ``timeout`` seconds and ``chunk_timeout`` between two chunks."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    chunks = response.aiter_raw()
    while True:
        async with time_limit(min(chunk_timeout, deadline - loop.time()), "to send the next bytes"):
            with translated():
                chunk = await anext(chunks, None)
        if chunk is None:
            return
        if chunk:
            yield chunk


@asynccontextmanager
async def time_limit(seconds: float, phase: str) -> AsyncIterator[None]:
    """Raise `OriginTimeout`, naming the phase, when the block takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise OriginTimeout(f"The provider took too long {phase}.") from None


@contextmanager
def translated() -> Iterator[None]:
    """Turn httpx's errors, and those that it lets through, into ours.

    The cause is named and not chained: httpx quotes headers that it could not parse, a redirect's secret among them.
    """
    try:
        yield
    except httpx.TimeoutException as error:
        raise OriginTimeout(f"The provider took too long to be reached ({type(error).__name__}).") from None
    except (httpx.HTTPError, OSError) as error:
        raise OriginFailed(f"The connection to the provider failed ({type(error).__name__}).") from None


def _may_pass(error: Exception) -> bool:
    """A broken connection or a stumbling server, of which it has not said when to come back."""
    return type(error) is OriginFailed and error.retry_after is None
