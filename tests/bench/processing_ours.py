"""Makes renditions by our recipe in this process: a line of JSON asks for a part of them, another one answers."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

from PIL import features

from ingest.processing import image
from ingest.processing.steps import Ceilings, Source


def main() -> None:
    """Serve until standard input ends."""
    _say({"pillow": version("pillow"), "libjpeg_turbo": features.version("libjpeg_turbo")})
    for line in sys.stdin:
        asked = json.loads(line)
        _make(asked["part"], Path(asked["picture"]), Path(asked["folder"]))
        _say({})


def _make(part: str, picture: Path, folder: Path) -> None:
    """Run the step of that name, or all of them for ``recipe``."""
    source = Source(path=picture, content_type="image/jpeg", size=picture.stat().st_size)
    for step in image.steps(source, Ceilings()):
        if part in {step.name, "recipe"}:
            step.run(folder)


def _say(answer: dict[str, str | None]) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201 what it is asked for


if __name__ == "__main__":
    main()
