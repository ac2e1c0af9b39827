"""How the body of a download travels, from a plain one to a connection reset halfway."""

import asyncio
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from ingest.simulator.content import BytesContent, Content, CorruptContent, ResizedContent
from ingest.simulator.faults import Body, Faults, Transport
from ingest.simulator.hosts import hang_up, send_start
from ingest.simulator.media import Medium

HTML = b"<!DOCTYPE html><html><head><title>Error</title></head><body>Sorry, something went wrong.</body></html>"


def served_content(medium: Medium, faults: Faults) -> Content:
    """Give the bytes that a download delivers in place of the medium's."""
    content = medium.content
    if faults.body is Body.HTML:
        return BytesContent(HTML)
    if faults.body is Body.CORRUPT:
        content = CorruptContent(content)
    return ResizedContent(content, max(0, content.size + faults.length_error)) if faults.length_error else content


async def pause(medium: Medium, faults: Faults) -> None:
    """Wait as long as the faults say, or for the medium's gate."""
    if faults.pause is None:
        await medium.gate.pass_through()
    else:
        await asyncio.sleep(faults.pause)


@dataclass(frozen=True, slots=True, kw_only=True)
class BodySender:
    """Sends `content` from `start` to `stop` (exclusive) the way the faults say."""

    medium: Medium
    faults: Faults
    content: Content
    start: int
    stop: int

    async def respond(self, scope: Scope, receive: Receive, send: Send, status: int, headers: dict[str, str]) -> None:
        """Send the whole answer, or as much of it as the faults allow."""
        if self.faults.transport is Transport.SILENT:
            await pause(self.medium, self.faults)
        if not self.faults.chunked:
            headers = {**headers, "content-length": str(self.stop - self.start)}
        await send_start(send, status, headers)
        middle = self._middle()
        await self._send(send, self.start, middle)
        if self.faults.transport in {Transport.TRUNCATED, Transport.RESET}:
            await hang_up(scope, receive, reset=self.faults.transport is Transport.RESET)
            return
        if self.faults.transport is Transport.STALL:
            await pause(self.medium, self.faults)
        await self._send(send, middle, self.stop)
        await send({"type": "http.response.body", "body": b""})

    def _middle(self) -> int:
        if self.faults.transport not in {Transport.TRUNCATED, Transport.RESET, Transport.STALL}:
            return self.stop
        length = self.stop - self.start
        return self.start + (length // 2 if self.faults.at_byte is None else min(self.faults.at_byte, length))

    async def _send(self, send: Send, start: int, stop: int) -> None:
        """Send a stretch in chunks; only the last one, or one at the middle, is shorter than the others."""
        for position in range(start, stop, self.faults.chunk_size):
            if self.faults.transport is Transport.DRIP:
                await pause(self.medium, self.faults)
            length = min(self.faults.chunk_size, stop - position)
            chunk = await asyncio.to_thread(self.content.read, position, length)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
