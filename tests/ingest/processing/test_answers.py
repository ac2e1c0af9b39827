"""What a parent reads of a child's lines, and what it does not believe."""

import json
from typing import Any

import pytest

from ingest.processing.answers import JobDone, MadeFile, Ready, StepBegan, StepFailed, StepMade, parse

SMALL = {"name": "small", "path": "/out/1/small.jpg", "content_type": "image/jpeg"}
MADE = {"event": "made", "step": "squares", "seconds": 0.5, "made": [SMALL], "facts": {"lqip": "data:,"}}
FAILED = {"event": "failed", "step": "webp", "seconds": 0, "code": "too-many-frames", "error": "Unprocessable"}

ANSWERS = [
    ({"event": "ready", "active": ["seccomp"], "missing": []}, Ready(event="ready", active=("seccomp",), missing=())),
    ({"event": "began", "step": "hls"}, StepBegan(event="began", step="hls")),
    (
        MADE,
        StepMade(event="made", step="squares", seconds=0.5, made=(MadeFile(**SMALL),), facts={"lqip": "data:,"}),
    ),
    (FAILED, StepFailed(event="failed", step="webp", seconds=0.0, code="too-many-frames", error="Unprocessable")),
    ({"event": "done"}, JobDone(event="done")),
]


@pytest.mark.parametrize(("line", "answer"), ANSWERS)
def test_an_answer(line: dict[str, Any], answer: object) -> None:
    assert parse(json.dumps(line).encode() + b"\n") == answer


@pytest.mark.parametrize("name", ["compressed", "webp", "thumbnail", "preview", "hls", "hls/360p.m3u8", "hls/360p.mp4"])
def test_a_rendition_has_a_variants_name(name: str) -> None:
    answer = parse(json.dumps(MADE | {"made": [SMALL | {"name": name}]}).encode())
    assert isinstance(answer, StepMade)
    assert answer.made[0].name == name


NONSENSE = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\xff\n", id="no UTF-8"),
    pytest.param(b"[]\n", id="no object"),
    pytest.param(b"[" * 100_000, id="deep JSON"),
    pytest.param({"event": "began"}, id="no step"),
    pytest.param({"event": "began", "step": "anything"}, id="an unknown step"),
    pytest.param({"event": "began", "step": "hls", "more": 1}, id="more than that"),
    pytest.param({"event": "unheard"}, id="an unknown event"),
    pytest.param(MADE | {"seconds": "1"}, id="a text for a number"),
    pytest.param(MADE | {"seconds": -1.0}, id="time that runs backwards"),
    pytest.param(MADE | {"seconds": float("inf")}, id="an endless time"),
    pytest.param(MADE | {"made": [SMALL] * 17}, id="too many files"),
    pytest.param(MADE | {"made": [SMALL | {"name": "original"}]}, id="the original's name"),
    pytest.param(MADE | {"made": [SMALL | {"name": "small/x"}]}, id="a file below another variant than HLS"),
    pytest.param(MADE | {"made": [SMALL | {"name": "hls/../small"}]}, id="a name that climbs"),
    pytest.param(MADE | {"made": [SMALL | {"name": "small\n"}]}, id="a name with a line end"),
    pytest.param(MADE | {"made": [SMALL | {"content_type": "text/html"}]}, id="a web page"),
    pytest.param(MADE | {"made": [SMALL | {"content_type": "image/svg+xml"}]}, id="a picture that runs"),
    pytest.param(MADE | {"made": [SMALL | {"path": "x" * 5000}]}, id="a path without end"),
    pytest.param(MADE | {"facts": {"camera": "a\0b"}}, id="a NUL, which PostgreSQL cannot store"),
    pytest.param(MADE | {"facts": {"duration": float("nan")}}, id="a fact that is no number"),
    pytest.param(json.dumps(MADE).replace("0.5", "1e999").encode(), id="a number beyond all others"),
    pytest.param(json.dumps(MADE | {"facts": {"x": 0.25}}).replace("0.25", "1e999").encode(), id="a fact beyond it"),
    pytest.param(MADE | {"facts": {"camera": "\ud800"}}, id="half a character"),
    pytest.param(MADE | {"facts": {"Not a name": 1}}, id="a fact of no name"),
    pytest.param(MADE | {"facts": {f"fact_{n}": n for n in range(65)}}, id="too many facts"),
    pytest.param(FAILED | {"code": "Something else\n"}, id="a code that is no word"),
    pytest.param(FAILED | {"error": "with a secret"}, id="an error that is no class"),
]


@pytest.mark.parametrize("line", NONSENSE)
def test_no_answer_is(line: bytes | dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 pydantic's own is one of many kinds
        parse(line if isinstance(line, bytes) else json.dumps(line).encode())


def test_text_about_a_nul_is_text() -> None:
    answer = parse(json.dumps(MADE | {"facts": {"camera": "\\u0000"}}).encode())
    assert isinstance(answer, StepMade)
    assert answer.facts == {"camera": "\\u0000"}
