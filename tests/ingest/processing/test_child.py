"""The child process alone, as its parent would talk to it."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.processing.child import code_of
from ingest.processing.jobs import Job, Setup, duration_after
from ingest.processing.limits import Limits
from ingest.processing.steps import Ceilings, Source, Step, Unprocessable
from tests.ingest.processing.pools import HERE

CEILINGS = Ceilings(seconds=100.0)


@contextmanager
def child(tmp_path: Path, **limits: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a child that runs ``hostile.py``, and read that it is ready."""
    inbox, outbox = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    outbox.mkdir()
    (inbox / "1").write_text("original")
    setup = Setup(
        parent=os.getpid(), kinds="hostile", import_from=HERE, inbox=inbox, outbox=outbox, limits=Limits(**limits)
    )
    command = [sys.executable, "-I", "-m", "ingest.processing.child", setup.line()]
    with subprocess.Popen(command, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 ours
        assert answers(process)[0]["event"] == "ready"
        yield process
        process.kill()


def answers(process: subprocess.Popen[bytes], count: int = 1) -> list[dict[str, Any]]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def ask(process: subprocess.Popen[bytes], tmp_path: Path, attack: str, **asked: Any) -> None:
    """Give the child a job."""
    job: dict[str, Any] = {"wanted": None, "skip": frozenset(), "duration": 0.0} | asked
    source = Source(path=tmp_path / "in/1", content_type=f"test/{attack}", size=8)
    assert process.stdin is not None
    process.stdin.write(Job(source=source, folder=tmp_path / "out", ceilings=CEILINGS, **job).line().encode() + b"\n")
    process.stdin.flush()


def test_it_says_what_it_does_as_it_does_it(tmp_path: Path) -> None:
    with child(tmp_path) as process:
        ask(process, tmp_path, "refuse")
        said = answers(process, 7)
    assert [(answer["event"], answer.get("step")) for answer in said] == [
        ("began", "facts"),
        ("made", "facts"),
        ("began", "squares"),
        ("failed", "squares"),
        ("began", "compressed"),
        ("made", "compressed"),
        ("done", None),
    ]
    assert (said[3]["code"], said[3]["error"]) == ("too-many-frames", "Unprocessable")
    assert said[5]["made"] == [
        {"name": "compressed", "path": f"{tmp_path}/out/compressed.jpg", "content_type": "image/jpeg"}
    ]


def test_an_error_is_told_by_its_class_alone(tmp_path: Path) -> None:
    """Its text may hold anything that the decoder has seen."""
    with child(tmp_path) as process:
        ask(process, tmp_path, "raise", skip=frozenset({"facts"}))
        failed = answers(process, 2)[1]
    assert {name: failed[name] for name in ("code", "error")} == {"code": "undecodable", "error": "LookupError"}
    assert "secret" not in str(failed)


def test_the_kernel_ends_what_uses_up_its_time(tmp_path: Path) -> None:
    """Without a parent that looks: CPU time is the child's own limit, counted anew for each step."""
    with child(tmp_path, seconds=0.1) as process:
        ask(process, tmp_path, "spin")
        assert process.wait(30) == -signal.SIGXCPU


def test_it_ends_with_its_input(tmp_path: Path) -> None:
    """How it learns of its parent's death where the kernel does not tell."""
    with child(tmp_path) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0


class DecoderError(OSError):
    """A decoder's own, without a number."""


CODES = [
    (Unprocessable("encrypted", "a document"), "encrypted"),
    (MemoryError(), "out-of-memory"),
    (OSError(errno.ENOMEM, "fork"), "out-of-memory"),
    (OSError(errno.EFBIG, "write"), "output-too-large"),
    (OSError(errno.EMFILE, "open"), "too-many-files"),
    (OSError(errno.ENOSPC, "write"), "no-space"),
    (OSError(errno.EPERM, "socket"), "undecodable"),
    (DecoderError("broken data stream"), "undecodable"),
    (ZeroDivisionError(), "undecodable"),
]


@pytest.mark.parametrize(("error", "code"), CODES)
def test_a_failure_in_a_word(error: Exception, code: str) -> None:
    assert code_of(error) == code


WANTED = [
    (None, frozenset(), {"facts", "squares", "webp"}),
    (None, frozenset({"squares"}), {"facts", "webp"}),
    (frozenset({"webp"}), frozenset(), {"webp"}),
    (frozenset({"small", "large"}), frozenset(), {"squares"}),
    (frozenset({"small"}), frozenset({"squares"}), set()),
    (frozenset(), frozenset(), set()),
]


@pytest.mark.parametrize(("wanted", "skip", "run"), WANTED)
def test_a_job_wants(wanted: frozenset[str] | None, skip: frozenset[str], run: set[str]) -> None:
    """And a job is the same after it has been a line."""
    source = Source(path=Path("/in/1"), content_type="image/png", size=1)
    job = Job(source=source, folder=Path("/out"), ceilings=CEILINGS, wanted=wanted, skip=skip, duration=1.5)
    assert Job.parse(job.line()) == job
    steps = [Step(name, makes, lambda _: None) for name, makes in MAKES]  # type: ignore[arg-type,return-value] # not run
    assert {step.name for step in steps if job.wants(step)} == run


MAKES = [("facts", ()), ("squares", ("small", "large")), ("webp", ("webp",))]

DURATIONS: list[tuple[dict[str, Any], float]] = [
    ({"duration": 12.5}, 12.5),
    ({"duration": 3}, 3.0),
    ({}, 7.0),
    ({"duration": "x"}, 7.0),
    ({"duration": -1.0}, 0.0),
    ({"duration": 1e308}, 100.0),
]


@pytest.mark.parametrize(("facts", "seconds"), DURATIONS)
def test_a_duration_is_learned_up_to_the_ceiling(facts: dict[str, Any], seconds: float) -> None:
    assert duration_after(facts, 7.0, CEILINGS) == seconds
