"""What every kind of media offers: steps, each of which makes variants or learns facts, from one file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RECIPE = 1
"""The version of all renditions together: raise it when any of them is made differently."""


class Unprocessable(Exception):
    """The input cannot be decoded, or must not be; ``code`` says why in a word, such as ``too-many-pixels``."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What is too much to decode; checked against the headers, before anything is decoded."""

    pixels: int = 50_000_000  # of one frame
    frames: int = 600  # of an animation
    seconds: float = 1800.0  # of sound or video


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An original on the local disk; ``content_type`` is the sniffed one."""

    path: Path
    content_type: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Made:
    """A finished rendition: a file in the step's folder."""

    name: str
    path: Path
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one step has made and learned; facts are JSON values by the names that ``info`` shows."""

    made: tuple[Made, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that can fail alone: a crash, a hang or a bomb in it costs the variants it makes, and no others."""

    name: str
    makes: tuple[str, ...]
    run: Callable[[Path], Result]
    """Writes its files into the folder it is given. Raises `Unprocessable`, or whatever a decoder raises."""
