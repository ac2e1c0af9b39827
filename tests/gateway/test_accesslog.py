"""The line of every request: JSON, without secrets, in batches that nobody has to wait for."""

import asyncio
import io
import json
import threading
from typing import Any

import pytest
import structlog.testing

from gateway import accesslog
from gateway.accesslog import AccessLog, Line
from tests.running import until


def line(*, path: str = "/media/messages/m", status: int = 200) -> Line:
    return Line.of("GET", path, route="media", status=status, source="cache", size=8192)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(text) for text in stream.getvalue().splitlines()]


class Stuck(io.StringIO):
    """A reader of the log that takes nothing until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.may = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        assert self.may.wait(30)
        return super().write(text)


async def test_a_line_says_what_was_asked_and_how_it_was_answered() -> None:
    stream = io.StringIO()
    log = AccessLog(stream=stream)
    log.write(line(), "id-1", 0.00123)
    await log.aclose()
    (written,) = lines(stream)
    timestamp = written.pop("timestamp")
    assert written == {
        "method": "GET",
        "path": "/media/messages/m",
        "route": "media",
        "status": 200,
        "source": "cache",
        "bytes": 8192,
        "seconds": 0.0012,
        "event": "request",
        "request_id": "id-1",
        "level": "info",
    }
    assert timestamp.endswith("Z")


async def test_lines_are_written_by_themselves_in_their_order() -> None:
    stream = io.StringIO()
    log = AccessLog(stream=stream)
    for number in range(3):
        log.write(line(), str(number), 0)
    await until(stream.getvalue)
    log.write(line(), "3", 0)
    await log.aclose()
    assert [each["request_id"] for each in lines(stream)] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ('/a"b\\c\n\u00fc', '/a"b\\c\n\u00fc'),
        ("/x" * 400, ("/x" * 400)[:300]),
        ("/media/sig=abc", "/media/sig=***"),
        ("/https://user:secret@host/", "/https://user:***@host/"),
        ("/bearer abc", "/bearer ***"),
    ],
    ids=["of any characters", "of any length", "with a signature", "with a password", "with a token"],
)
async def test_a_path_breaks_no_line_and_tells_no_secret(path: str, shown: str) -> None:
    stream = io.StringIO()
    log = AccessLog(stream=stream)
    log.write(line(path=path), "id", 0)
    await log.aclose()
    assert lines(stream)[0]["path"] == shown


async def test_one_of_so_many_is_written_and_every_error() -> None:
    stream = io.StringIO()
    log = AccessLog(stream=stream, every=10)
    for number in range(30):
        log.write(line(), f"fine {number}", 0)
        log.write(line(status=404), f"missing {number}", 0)
        log.write(line(status=0), f"broken {number}", 0)
    await log.aclose()
    kinds = [each["request_id"].partition(" ")[0] for each in lines(stream)]
    assert {kind: kinds.count(kind) for kind in kinds} == {"fine": 3, "missing": 30, "broken": 30}


async def test_none_is_written_where_the_level_of_the_log_is_higher() -> None:
    stream = io.StringIO()
    log = AccessLog(enabled=False, stream=stream)
    log.write(line(status=500), "id", 0)
    await log.aclose()
    assert stream.getvalue() == ""


async def test_a_log_that_nobody_reads_holds_up_nobody_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accesslog, "MAX_WAITING", 5)
    stream = Stuck()
    log = AccessLog(stream=stream)
    log.write(line(), "first", 0)
    assert await asyncio.to_thread(stream.entered.wait, 30)
    for number in range(8):
        log.write(line(), str(number), 0)
    stream.may.set()
    with structlog.testing.capture_logs() as told:
        await log.aclose()
    assert [each["request_id"] for each in lines(stream)] == ["first", "0", "1", "2", "3", "4"]
    assert [(each["event"], each["lines"]) for each in told] == [("lines of the access log were dropped", 3)]


async def test_what_cannot_be_written_is_told_and_does_not_end_the_log() -> None:
    stream = io.StringIO()
    log = AccessLog(stream=stream)
    with structlog.testing.capture_logs() as told:
        broken = io.StringIO()
        broken.close()
        log._stream = broken
        log.write(line(), "lost", 0)
        await until(lambda: told)
    log._stream = stream
    log.write(line(), "kept", 0)
    await log.aclose()
    assert [each["event"] for each in told] == ["access log could not be written"]
    assert [each["request_id"] for each in lines(stream)] == ["kept"]
