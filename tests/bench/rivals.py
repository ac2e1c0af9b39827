"""Two widely used image processors to compare with, from a cache folder outside of the project, or installed there.

``BENCH_CACHE`` names the folder. Nothing here is needed by the gateway, and nothing fails without them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SHARP, THUMBOR = "0.35.5", "7.8.0"
_PATIENCE = 300.0  # seconds for one installation


def sharp() -> Path | None:
    """Return a folder in which Node.js finds ``sharp``; None where it is not available."""
    folder = _cache() / "sharp"
    module = folder / "node_modules/sharp"
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefix")
    install = ("npm", "install", *options, str(folder), f"sharp@{SHARP}")
    installed = module.is_dir() or _run(install)
    return folder if installed and _run(("node", "-e", f"require({json.dumps(str(module))})")) else None


def thumbor() -> Path | None:
    """Return the program ``thumbor``; None where it is not available."""
    folder = _cache() / "thumbor"
    program, pip = folder / "bin/thumbor", folder / "bin/pip"
    install = (str(pip), "install", "--quiet", "--disable-pip-version-check", f"thumbor=={THUMBOR}")
    installed = program.is_file() or (_run((sys.executable, "-m", "venv", str(folder))) and _run(install))
    return program if installed and _run((str(program), "--version")) else None


def _cache() -> Path:
    folder = Path(os.environ.get("BENCH_CACHE") or Path.home() / ".cache/media-gateway-bench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(command: Sequence[str]) -> bool:
    """Run a command whose output, and reason to fail, is for who looks on; return whether it succeeded."""
    try:
        done = subprocess.run(command, stdout=sys.stderr, timeout=_PATIENCE, check=False)  # noqa: S603 fixed above
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)  # noqa: T201 the report says that the tool is not available, and no more
        return False
    return done.returncode == 0
