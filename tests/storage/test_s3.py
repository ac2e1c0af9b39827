"""S3 as it is on the wire: addresses, signatures, faults, and how little a reader that pauses holds."""

import asyncio
import hashlib
import hmac
import logging
import re
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from storage.errors import ObjectFrozen, ObjectNotFound, StorageError, StoreForbidden, StoreFull, StoreUnavailable
from storage.s3 import S3Config, S3Store
from storage.store import CHUNK_SIZE, ByteRange

MakeFile = Callable[[bytes], Path]
Answer = Callable[[str], bytes]
Serve = Callable[[Answer | bytes], Awaitable[S3Config]]
OpenStore = Callable[[S3Config], Awaitable[S3Store]]

PLAIN = "application/octet-stream"
SECRET = "wJalrXUtnFEMI/K7MDENG"
NEVER = b""


def response(status: str, body: bytes = b"", **headers: str | int) -> bytes:
    """Write down a response; the keywords are its fields."""
    fields = {"Content-Length": len(body)} | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def error(status: str, code: str, **headers: str | int) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>bucket-name</Message></Error>"
    return response(status, body.encode(), **headers)


async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
    """Answer the requests of a connection; after a body that is too short it is closed."""
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if "100-continue" in head:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if length := re.search(r"(?i)content-length: (\d+)", head):
            await reader.readexactly(int(length.group(1)))
        sent = answer(head)
        writer.write(sent)
        if sent == NEVER or b"stalls" in sent:
            await reader.read()  # until the client goes
        declared = re.search(rb"Content-Length: (\d+)", sent)
        if not head.startswith("HEAD") and declared and len(sent.partition(b"\r\n\r\n")[2]) < int(declared.group(1)):
            return


@pytest.fixture
async def open_store() -> AsyncIterator[OpenStore]:
    """Open stores that are closed after the test."""
    async with AsyncExitStack() as stack:

        async def opened(config: S3Config) -> S3Store:
            return await stack.enter_async_context(S3Store(config))

        yield opened


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server that gives each request, read to its end, a raw answer; return how to reach it."""
    async with AsyncExitStack() as stack:

        async def start(answer: Answer | bytes) -> S3Config:
            async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                with suppress(ConnectionError, asyncio.IncompleteReadError):  # the client has gone
                    await answer_all(reader, writer, answer if callable(answer) else lambda _head: answer)
                writer.close()

            server = await stack.enter_async_context(await asyncio.start_server(talk, "127.0.0.1", 0))
            return S3Config(
                bucket="bucket-name",
                endpoint_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
                access_key_id="AKIDEXAMPLE",
                secret_access_key=SECRET,
                read_timeout=5.0,
            )

        yield start


async def read(store: S3Store, key: str = "k", byte_range: ByteRange | None = None) -> bytes:
    async with store.open(key, byte_range) as reader:
        return b"".join([chunk async for chunk in reader.chunks])


RANGE = ByteRange(2, 6)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(error("403 Forbidden", "AccessDenied"), StoreForbidden, id="403 may mean missing"),
        pytest.param(error("403 Forbidden", "InvalidObjectState"), ObjectFrozen, id="archived"),
        pytest.param(error("404 Not Found", "NoSuchKey"), ObjectNotFound, id="missing key"),
        pytest.param(error("404 Not Found", "NoSuchBucket"), StoreUnavailable, id="missing bucket"),
        pytest.param(error("416 Requested Range Not Satisfiable", "InvalidRange"), StoreUnavailable, id="416"),
        pytest.param(error("503 Slow Down", "SlowDown", Retry_After=7), StoreUnavailable, id="503"),
        pytest.param(response("301 Moved", Location="http://127.0.0.1:1/"), StoreUnavailable, id="redirect"),
        pytest.param(response("200 OK", b"0123456789"), StoreUnavailable, id="200 to a range"),
        pytest.param(
            response("206 Partial Content", b"0123", Content_Range="bytes 0-3/10"), StoreUnavailable, id="other range"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", StoreUnavailable, id="no size"),
        pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n\r\n", StoreUnavailable, id="not HTTP"),
        pytest.param(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 9\r\n\r\n<Er", StoreUnavailable, id="broken error"),
    ],
)
async def test_a_fault_is_seen_before_the_first_byte(
    serve: Serve, open_store: OpenStore, answer: bytes, expected: type[StorageError]
) -> None:
    store = await open_store(await serve(answer))

    with pytest.raises(expected) as caught:
        await read(store, byte_range=RANGE)

    assert type(caught.value) is expected
    assert "bucket-name" not in str(caught.value)
    assert caught.value.retry_after == (7.0 if b"Retry-After" in answer else None)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(response("200 OK", b"01234", Content_Length=10), id="closed"),
        pytest.param(response("200 OK", b"stalls", Content_Length=10), id="silent"),
    ],
)
async def test_a_body_that_ends_early_is_never_taken_for_whole(
    serve: Serve, open_store: OpenStore, answer: bytes
) -> None:
    store = await open_store(replace(await serve(answer), read_timeout=0.1))

    async with store.open("k") as reader:
        assert reader.size == 10
        with pytest.raises(StoreUnavailable):
            [chunk async for chunk in reader.chunks]


async def test_silence_before_the_first_byte_ends_with_the_deadline(serve: Serve, open_store: OpenStore) -> None:
    store = await open_store(replace(await serve(NEVER), read_timeout=0.05))

    with pytest.raises(StoreUnavailable):
        await read(store)


async def test_nobody_listening_is_unavailable(open_store: OpenStore, make_file: MakeFile) -> None:
    nobody = S3Config(bucket="b", endpoint_url="http://127.0.0.1:1", access_key_id="i", secret_access_key=SECRET)
    store = await open_store(nobody)

    with pytest.raises(StoreUnavailable):
        await read(store)
    with pytest.raises(StoreUnavailable):
        await store.put("k", make_file(b""), content_type=PLAIN)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(error("409 Conflict", "ConditionalRequestConflict"), StoreUnavailable, id="racing writers"),
        pytest.param(error("501 Not Implemented", "NotImplemented"), StoreUnavailable, id="no conditions"),
        pytest.param(error("403 Forbidden", "AccessDenied"), StoreForbidden, id="forbidden"),
        pytest.param(error("507 Insufficient Storage", "XMinioStorageFull"), StoreFull, id="full"),
        pytest.param(response("200 OK", b"?", Content_Length=2), StoreUnavailable, id="broken answer"),
    ],
)
async def test_a_refused_put_says_why(
    serve: Serve, open_store: OpenStore, make_file: MakeFile, answer: bytes, expected: type[StorageError]
) -> None:
    store = await open_store(await serve(answer))

    with pytest.raises(expected):
        await store.put("k", make_file(b"content"), content_type=PLAIN)


async def test_a_key_in_use_is_no_error(serve: Serve, open_store: OpenStore, make_file: MakeFile) -> None:
    store = await open_store(await serve(error("412 Precondition Failed", "PreconditionFailed")))

    assert await store.put("k", make_file(b"content"), content_type=PLAIN) is False


@pytest.mark.parametrize("conditional", [True, False], ids=["conditional", "plain"])
async def test_the_condition_can_be_switched_off_for_stores_without_it(
    serve: Serve, open_store: OpenStore, make_file: MakeFile, *, conditional: bool
) -> None:
    requests: list[str] = []

    def answer(head: str) -> bytes:
        requests.append(head)
        return response("404 Not Found") if head.startswith("HEAD") else response("200 OK")

    store = await open_store(replace(await serve(answer), conditional_writes=conditional))
    assert await store.put("k", make_file(b"content"), content_type="image/jpeg") is True

    *asked, put = requests
    assert [head.split()[0] for head in asked] == ([] if conditional else ["HEAD"])
    assert ("if-none-match: *" in put.lower()) is conditional
    assert "content-type: image/jpeg" in put.lower()


def expected_signature(head: str) -> str:
    """Compute the signature of a request as Signature Version 4 defines it, from what is on the wire."""
    request, *lines = head.strip().split("\r\n")
    method, target, _ = request.split(" ")
    path, _, query = target.partition("?")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    scope = re.search(r"Credential=AKIDEXAMPLE/(\S+?),", fields["authorization"])
    signed = re.search("SignedHeaders=([^,]+)", fields["authorization"])
    assert scope
    assert signed
    names = signed.group(1).split(";")
    assert {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names)
    canonical = [method, path, query, *(f"{name}:{fields[name]}" for name in names), "", signed.group(1)]
    digest = hashlib.sha256("\n".join([*canonical, fields["x-amz-content-sha256"]]).encode()).hexdigest()
    key = b"AWS4" + SECRET.encode()
    for part in [*scope.group(1).split("/"), f"AWS4-HMAC-SHA256\n{fields['x-amz-date']}\n{scope.group(1)}\n{digest}"]:
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


@pytest.mark.parametrize("key", ["media/wamid.HBg==/a+b c", "media/%2F@'(1)!*~$&;:,", "media/zoë/日本?x=#"])
async def test_every_request_for_a_key_has_the_same_path_and_a_true_signature(
    serve: Serve, open_store: OpenStore, make_file: MakeFile, key: str
) -> None:
    requests: list[str] = []

    def answer(head: str) -> bytes:
        requests.append(head)
        return response("200 OK", b"" if head.startswith(("PUT", "DELETE", "HEAD")) else b"content")

    store = await open_store(await serve(answer))
    await store.put(key, make_file(b"content"), content_type=PLAIN)
    assert await read(store, key) == b"content"
    await store.delete(key)

    assert [head.split(" ")[0] for head in requests] == ["PUT", "GET", "DELETE"], "one request each, no HEAD first"
    assert len({head.split(" ")[1] for head in requests}) == 1
    for head in requests:
        assert f"Signature={expected_signature(head)}" in head


async def test_a_read_asks_for_the_range_and_for_nothing_compressed(serve: Serve, open_store: OpenStore) -> None:
    requests: list[str] = []

    def answer(head: str) -> bytes:
        requests.append(head)
        return response("206 Partial Content", b"2345", Content_Range="bytes 2-5/10", Content_Encoding="gzip")

    store = await open_store(await serve(answer))

    assert await read(store, byte_range=RANGE) == b"2345", "bytes are never decoded"
    assert "range: bytes=2-5\r\n" in requests[0]
    assert "accept-encoding: identity\r\n" in requests[0]


async def test_the_secret_is_nowhere_to_be_seen(
    serve: Serve, open_store: OpenStore, make_file: MakeFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    config = await serve(error("403 Forbidden", "SignatureDoesNotMatch"))
    store = await open_store(config)

    with pytest.raises(StoreForbidden) as reading:
        await read(store)
    with pytest.raises(StoreForbidden) as writing:
        await store.put("k", make_file(b"content"), content_type=PLAIN)

    seen = [config, store, reading.value, writing.value, writing.value.__cause__, caplog.text]
    assert SECRET not in "".join(f"{thing!r}{thing}" for thing in seen)


async def test_without_credentials_access_is_refused(serve: Serve, open_store: OpenStore, make_file: MakeFile) -> None:
    config = replace(await serve(response("200 OK")), access_key_id=None, secret_access_key=None)
    store = await open_store(config)

    with pytest.raises(StoreForbidden):
        await read(store)
    with pytest.raises(StoreForbidden):
        await store.put("k", make_file(b"content"), content_type=PLAIN)


async def test_credentials_of_the_environment_are_found_where_none_are_given(
    serve: Serve, open_store: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-a-role")

    def answer(head: str) -> bytes:
        requests.append(head)
        return response("200 OK")

    store = await open_store(replace(await serve(answer), access_key_id=None, secret_access_key=None))
    await read(store)
    await store.put("k", make_file(b"content"), content_type=PLAIN)

    assert all("Credential=AKIDENV/" in head and "token-of-a-role" in head for head in requests)


@pytest.mark.parametrize("key", ["", "media/\ud800"], ids=["empty", "lone surrogate"])
async def test_a_key_that_no_store_can_hold_is_not_asked_for(serve: Serve, open_store: OpenStore, key: str) -> None:
    store = await open_store(await serve(response("200 OK", b"a listing of the bucket")))

    with pytest.raises((ObjectNotFound, StoreForbidden)):
        await read(store, key)


async def test_a_missing_bucket_is_told_apart_from_a_missing_object(s3_config: S3Config, open_store: OpenStore) -> None:
    store = await open_store(replace(s3_config, bucket="no-such-bucket"))

    for operation in (store.check(), read(store)):
        with pytest.raises(StoreUnavailable, match="bucket of the object store does not exist"):
            await operation


LARGE_OBJECTS = """
import socket, threading
body = b"HTTP/1.1 200 OK\\r\\nContent-Length: 33554432\\r\\n\\r\\n" + bytes(33554432)
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    client, _ = server.accept()
    client.recv(65536)
    threading.Thread(target=client.sendall, args=(body,), daemon=True).start()
"""


@pytest.fixture
async def large_objects() -> AsyncIterator[str]:
    """Serve 32 MiB at each key, from another process: what it holds is not counted here."""
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", LARGE_OBJECTS, stdout=asyncio.subprocess.PIPE)
    assert server.stdout
    yield f"http://127.0.0.1:{int(await server.stdout.readline())}"
    server.kill()
    await server.communicate()


async def test_a_reader_that_pauses_holds_little(large_objects: str, open_store: OpenStore) -> None:
    readers = 20
    config = S3Config(bucket="b", endpoint_url=large_objects, access_key_id="i", secret_access_key=SECRET)
    store = await open_store(config)
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(store.open("k")) for _ in range(readers)]
        tracemalloc.start()
        stack.callback(tracemalloc.stop)

        for _ in range(32):
            for reader in opened:
                await anext(reader.chunks)
        for _ in range(200):
            await asyncio.sleep(0)  # turns of the event loop, in which it could read ahead
        held, _ = tracemalloc.get_traced_memory()

    assert held < readers * CHUNK_SIZE
