"""Finds the names that documents use, and holds them against the code."""

import ast
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import typer.main
from starlette.routing import BaseRoute, Match

from gateway.cli import app as command_line

ROOT = Path(__file__).parents[2]
FOLDERS = ("deploy", "docs", "grafana")
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()),
    ]
)
ELSEWHERE = frozenset({"/tmp"})  # noqa: S108 paths in documents that no route answers

_METRIC = re.compile(r"\bmedia_gateway_\w+")
_VARIABLE = re.compile(r"\b(?:MEDIA|WHATSAPP|AWS|R2)_[A-Z0-9_]*[A-Z0-9]\b")
_HEADER = re.compile(r"\bX-[A-Za-z0-9-]+")
_FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
_TEST = re.compile(r"([\w/]+\.py)::([\w:]+)")
_COMMAND = re.compile(r"(?:^|[\s/])media-gateway ([a-z][^|;&\"]*)")
_TARGET = re.compile(r"(?:^|\s)make ([a-z]+)")
_METHODS = "GET|HEAD|POST|PUT|DELETE|OPTIONS"
_SPANNED_PATH = re.compile(rf"(?:({_METHODS}) )?(/[^\s?#…]*)")
_URL = re.compile(rf"(?:(?:-X )?({_METHODS}) )?https?://(?:127\.0\.0\.1:\d+|media\.example\.com)(/[^\s'\"?#…]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """What the code offers by name."""

    families: Mapping[str, frozenset[str]]
    """The labels of every metric, by its name as exposed: of histograms the one without a suffix."""
    samples: Mapping[str, frozenset[str]]
    """The labels of every time series, by its name in an expression."""
    variables: Collection[str]
    routes: Sequence[BaseRoute]
    targets: Collection[str]
    """What ``make`` knows."""
    sources: str
    """All code, in lower case."""

    def unknown(self, text: str, *, markdown: bool) -> list[str]:
        """Return every name in a document that the code does not have."""
        found = [name for name in _METRIC.findall(text) if name not in self.families and name not in self.samples]
        found += [name for name in _VARIABLE.findall(text) if name not in self.variables]
        pieces = list(code_in(text)) if markdown else [line.strip() for line in text.splitlines()]
        found += [f"media-gateway {args}" for piece in pieces for args in _COMMAND.findall(piece) if not parses(args)]
        if markdown:
            found += self._unknown_in_code(text, pieces)
        return found

    def _unknown_in_code(self, text: str, pieces: Sequence[str]) -> Iterator[str]:
        yield from (name for name in _HEADER.findall(text) if name.lower() not in self.sources)
        yield from (name for piece in pieces for name in _TARGET.findall(piece) if name not in self.targets)
        for method, path in requests_in(text, pieces):
            if not self.answers(method, path):
                yield f"{method} {path}".strip()
        known = options()
        for span in _SPAN.findall(text):
            if span.startswith("--") and span.split()[0] not in known:
                yield span

    def answers(self, method: str, path: str) -> bool:
        """Whether a route matches the path and, unless empty, the method."""
        plain = re.sub(r"\{\w+\}", "x", path)
        scope = {"type": "http", "method": method or "GET", "path": plain, "raw_path": plain.encode(), "headers": []}
        found = [route for route in self.routes if route.matches(scope)[0] is not Match.NONE]
        implied = {"", "OPTIONS", "HEAD"}
        return any(method in implied or method in getattr(route, "methods", ()) for route in found)


def code_in(markdown: str) -> Iterator[str]:
    """Yield the code of a Markdown text: each span, and each line of a block with its continuations."""
    for block in _FENCED.findall(markdown):
        yield from (line.strip() for line in block.replace("\\\n", " ").splitlines())
    yield from _SPAN.findall(_FENCED.sub("", markdown))


def requests_in(markdown: str, pieces: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield method, perhaps empty, and path of what looks like a request to the gateway."""
    for piece in pieces:
        yield from _URL.findall(piece)
    for span in _SPAN.findall(_FENCED.sub("", markdown)):
        found = _SPANNED_PATH.match(span)
        if found and found[2] not in ELSEWHERE:
            yield found[1] or "", found[2]


def links_in(markdown: str) -> Iterator[str]:
    """Yield the relative targets of links."""
    yield from (target for target in _LINK.findall(_FENCED.sub("", markdown)) if "://" not in target)


def named_tests(markdown: str) -> Iterator[tuple[str, str]]:
    """Yield the file, below ``tests``, and the name of every test that a document refers to."""
    for span in _SPAN.findall(_FENCED.sub("", markdown)):
        if found := _TEST.fullmatch(span):
            yield found[1], found[2]


def defines(file: str, name: str) -> bool:
    """Whether a file below ``tests`` has a test of that name; one in a class is ``Class::test``."""
    path = ROOT / "tests" / file
    scope: Any = ast.parse(path.read_text()) if path.is_file() else None
    for part in name.split("::"):
        scope = next((each for each in getattr(scope, "body", ()) if getattr(each, "name", None) == part), None)
    return scope is not None


def table_after(markdown: str, start: str) -> list[list[str]]:
    """Return the cells of the first table behind the line that begins with ``start``, without its two head lines."""
    lines = iter(markdown.splitlines())
    if not any(line.startswith(start) for line in lines):
        raise LookupError(start)
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            break
    return rows[2:]


def spans(cell: str) -> list[str]:
    """Return the code in a cell."""
    return _SPAN.findall(cell)


def parses(line: str) -> bool:
    """Whether the command line takes these arguments, without running anything."""
    try:
        _parse(typer.main.get_command(command_line), "media-gateway", shlex.split(line, comments=True))
    except typer.TyperException:
        return False
    return True


def _parse(command: Any, name: str, arguments: list[str], parent: Any = None) -> None:
    context = command.make_context(name, arguments, parent=parent)
    if hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        _parse(*_resolved(command, context, rest), parent=context)


def _resolved(command: Any, context: Any, arguments: list[str]) -> tuple[Any, str, list[str]]:
    name, found, rest = command.resolve_command(context, arguments)
    return found, name, rest


def options() -> frozenset[str]:
    """Return every option of every command."""
    return frozenset(_options(typer.main.get_command(command_line)))


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for below in getattr(command, "commands", {}).values():
        yield from _options(below)
