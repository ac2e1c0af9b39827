"""Where keys stand, however a document is written."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.toml_lines import line_of, lines_of


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("[a.b]\nkey = 1", 2, id="in a table"),
        pytest.param("[a]\n[a.b] # [a.c]\n\n# key = 0\nkey = 1", 5, id="after comments and empty lines"),
        pytest.param("[a]\nb.key = 1", 2, id="dotted"),
        pytest.param("[a]\nb = {key = 1}", 2, id="inline"),
        pytest.param("a.b.key = 1", 1, id="dotted in no table"),
        pytest.param('[\'a\'."b"]\n"key" = 1', 2, id="quoted"),
        pytest.param("  [ a . b ]  \n\tkey = 1", 2, id="indented"),
        pytest.param("x = '''\n[a.b]\nkey = 0\n'''\n[a.b]\nkey = 1", 6, id="after text that looks like it"),
        pytest.param("x = [\n  '[a.b]',\n  'key = 0', # ]\n]\n[a.b]\nkey = 1", 6, id="after a list over several lines"),
        pytest.param("[c]\nkey = 0\n[a.b]\nkey = 1\n[d]\nkey = 2", 4, id="among others of its name"),
        pytest.param("[a.b]\nkey = [\n  1,\n  2,\n]", 2, id="over several lines itself"),
    ],
)
def test_a_key_has_the_line_on_which_its_statement_begins(text: str, line: int) -> None:
    assert "key" in tomllib.loads(text)["a"]["b"]
    assert line_of(("a", "b", "key"), lines_of(text)) == line


@pytest.mark.parametrize(
    ("path", "line"), [(("a", "b", "missing"), 3), (("a", "missing", "key"), 2), (("missing",), 1), ((), 1)]
)
def test_a_missing_key_has_the_line_of_the_table_around_it(path: tuple[str, ...], line: int) -> None:
    assert line_of(path, lines_of("\n[a]\n[a.b]\nkey = 1")) == line


def test_deep_tables_are_no_burden() -> None:
    text = "[" + ".".join(["a"] * 5000) + "]\nkey = 1"
    assert line_of(("a",) * 5000, lines_of(text)) == 1


def _inline(value: Any) -> str:
    return f"'''\n{value}'''" if isinstance(value, str) else repr(value).replace("\n", "")


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,4}", fullmatch=True),
        st.dictionaries(
            st.from_regex(r"[a-z]{1,4}", fullmatch=True),
            st.integers() | st.lists(st.integers()) | st.text("a[]=#\n", max_size=9),
            max_size=4,
        ),
        max_size=4,
    )
)
def test_every_key_of_a_document_has_its_line(tables: dict[str, dict[str, Any]]) -> None:
    lines: list[str] = []
    expected: dict[tuple[str, ...], int] = {}
    for table, keys in tables.items():
        lines.append(f"[{table}]")
        expected[table,] = len(lines)
        for key, value in keys.items():
            expected[table, key] = len(lines) + 1
            lines += f"{key} = {_inline(value)}".split("\n")
    assert lines_of("\n".join(lines)) == expected
