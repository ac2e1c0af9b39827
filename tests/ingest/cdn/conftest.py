"""CDNs' APIs on real sockets: one that answers word by word, and moto's CloudFront."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from aiobotocore.session import AioSession

from ingest.cdn.purge import PurgeItem

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEYS = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "wJalrXUtnFEMI/K7MDENG"}


@dataclass
class ScriptedApi:
    """Answers each request with the next bytes of its script, the last ones over and over; None: never."""

    url: str = ""
    script: list[bytes | None] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(line.split(":")[1] for line in head.splitlines() if line.lower().startswith("content-length"))
            self.bodies.append(await reader.readexactly(int(length)))
            self.heads.append(head)
            answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            if answer is None:
                await reader.read()  # until the client has had enough
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    @property
    def orders(self) -> list[dict[str, list[str]]]:
        """The JSON that arrived."""
        return [json.loads(body) for body in self.bodies]


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """Build an HTTP answer."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def items(count: int, *, deleted_at: datetime = NOON) -> list[PurgeItem]:
    """Name as many deletions, a second apart."""
    return [
        PurgeItem(message_id=f"m{number}", deleted_at=deleted_at + timedelta(seconds=number)) for number in range(count)
    ]


@pytest.fixture
async def api() -> AsyncIterator[ScriptedApi]:
    """A server with an empty script."""
    scripted = ScriptedApi()
    handling: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handling.add(asyncio.create_task(scripted(reader, writer)))

    async with await asyncio.start_server(accept, "127.0.0.1") as server:
        scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield scripted
    async with asyncio.timeout(5):
        await asyncio.gather(*handling)


@pytest.fixture
async def aws(moto_url: str) -> AsyncIterator[Any]:
    """A client of CloudFront, such as an operator has."""
    async with AioSession().create_client(
        "cloudfront",
        region_name="us-east-1",
        endpoint_url=moto_url,
        aws_access_key_id=KEYS["access_key_id"],
        aws_secret_access_key=KEYS["secret_access_key"],
    ) as client:
        yield client


@pytest.fixture
async def distribution(aws: Any) -> str:
    """A new distribution, in front of a gateway."""
    origin = {
        "Id": "gateway",
        "DomainName": "media.example.com",
        "CustomOriginConfig": {"HTTPPort": 80, "HTTPSPort": 443, "OriginProtocolPolicy": "https-only"},
    }
    config = {
        "CallerReference": uuid4().hex,
        "Comment": "",
        "Enabled": True,
        "Origins": {"Quantity": 1, "Items": [origin]},
        "DefaultCacheBehavior": {"TargetOriginId": "gateway", "ViewerProtocolPolicy": "https-only"},
    }
    created = await aws.create_distribution(DistributionConfig=config)
    return str(created["Distribution"]["Id"])


async def invalidations(aws: Any, distribution: str) -> list[dict[str, Any]]:
    """Return the batches that AWS has taken, by their first path."""
    page = await aws.list_invalidations(DistributionId=distribution)
    answers = [
        await aws.get_invalidation(DistributionId=distribution, Id=entry["Id"])
        for entry in page["InvalidationList"].get("Items", [])
    ]
    batches = [found["Invalidation"]["InvalidationBatch"] for found in answers]
    return sorted(batches, key=lambda batch: (batch["Paths"]["Items"][0], batch["CallerReference"]))
