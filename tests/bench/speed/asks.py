"""Requests as every client of a measurement sends them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.speed.catalogue import Medium


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, and the medium that it is about."""

    medium: Medium
    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)


def write(asks: Iterable[Ask], path: Path) -> None:
    """List requests in a file: one a line, its header fields behind tabs."""
    lines = ["\t".join((f"{ask.method} {ask.path}", *(f"{k}: {v}" for k, v in ask.headers.items()))) for ask in asks]
    path.write_text("\n".join(lines) + "\n")
