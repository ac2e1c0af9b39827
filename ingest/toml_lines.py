"""Where the keys of a TOML document stand: tomllib reads them well, and does not say."""

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

MAX_DEPTH = 8  # tables within tables; deeper keys have the line of the last one

KeyPath = tuple[str, ...]


def lines_of(text: str) -> dict[KeyPath, int]:
    r"""Return the line, from 1, on which the statement begins that first names each key of a valid document.

    A statement is found by giving tomllib one more line until it understands: none has a beginning that is one too.
    Lines end in ``\n``.
    """
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    statement: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        statement.append(line)
        try:
            keys = list(_paths(tomllib.loads("\n".join(statement))))
        except tomllib.TOMLDecodeError:
            continue  # it goes on in the next line
        is_header = statement[0].lstrip(" \t").startswith("[")
        outer = () if is_header else table
        for path in keys:
            found.setdefault(outer + path, number - len(statement) + 1)
        table = keys[-1] if is_header else table
        statement.clear()
    return found


def line_of(path: KeyPath, lines: Mapping[KeyPath, int]) -> int:
    """Return the line of a key or, where it is missing, of the nearest table around it."""
    return next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), 1)


def _paths(value: Any, around: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the path of every key, outer ones first; what is in arrays has none."""
    if isinstance(value, dict) and len(around) < MAX_DEPTH:
        for key, inner in value.items():
            yield (*around, key)
            yield from _paths(inner, (*around, key))
