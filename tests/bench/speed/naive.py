"""``python naive.py PORT ENDPOINT``: the proxy that anybody would write first; the baseline of all ratios."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from aiobotocore.session import get_session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

CHUNK = 64 * 1024  # bytes


def create_app(endpoint: str) -> Starlette:
    """Return an application that answers ``/{bucket}/{key}`` with the object at an S3 endpoint."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        session = get_session()
        session.set_credentials("naive", "naive")
        async with session.create_client("s3", region_name="us-east-1", endpoint_url=endpoint) as client:
            app.state.client = client
            yield

    async def media(request: Request) -> StreamingResponse:
        found = await request.app.state.client.get_object(
            Bucket=request.path_params["bucket"], Key=request.path_params["key"]
        )
        headers = {"Content-Length": str(found["ContentLength"]), "ETag": found["ETag"]}
        return StreamingResponse(_chunks(found["Body"]), media_type=found["ContentType"], headers=headers)

    return Starlette(routes=[Route("/{bucket}/{key:path}", media)], lifespan=lifespan)


async def _chunks(body: Any) -> AsyncIterator[bytes]:
    async with body:  # or the connections of clients that leave are lost, and soon nobody is answered any more
        async for chunk in body.iter_chunks(CHUNK):
            yield chunk


if __name__ == "__main__":
    uvicorn.run(
        create_app(sys.argv[2]),
        port=int(sys.argv[1]),
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
