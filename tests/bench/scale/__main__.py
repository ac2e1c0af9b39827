"""``python -m tests.bench.scale``: prints the tables of ``docs/scale.md``; with ``--write``, puts them there."""

import argparse
from pathlib import Path

from tests.bench.scale.page import inserted, page

DOCUMENT = Path(__file__).parents[3] / "docs" / "scale.md"


def main() -> None:
    """Print or write."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew the tables of the document")
    if parser.parse_args().write:
        DOCUMENT.write_text(inserted(DOCUMENT.read_text()))
    else:
        print(page())  # noqa: T201 its report


if __name__ == "__main__":
    main()
