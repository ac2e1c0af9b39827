"""The renditions of pictures: what they cost by our recipe, in a child of the pool, and in two widely used processors.

All see the same pictures in the same rounds, one after the other, so that a busy machine is equally busy for all.
"""

import asyncio
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

from gateway.demo.samples import PHOTOS
from tests.bench import camera, rivals
from tests.bench.processors import Processor, ours, pooled, sharp, thumbor

ROUNDS = 5
_NOT_AVAILABLE = "not available"
_TOTALS = {
    "renditions": ("squares", "compressed", "webp"),
    "renditions_effort_2": ("squares", "compressed", "webp_effort_2"),  # the WebP effort of our recipe
}
_COMPARED = {
    "squares_to_sharp": (("ours", "squares"), ("sharp", "squares")),
    "recipe_to_sharp": (("ours", "recipe"), ("sharp", "renditions")),
    "recipe_to_sharp_effort_2": (("ours", "recipe"), ("sharp", "renditions_effort_2")),
    "squares_to_thumbor": (("ours", "squares"), ("thumbor", "squares")),
    "recipe_to_thumbor": (("ours", "recipe"), ("thumbor", "renditions")),
    "pooled_to_alone": (("pooled", "recipe"), ("ours", "recipe")),
}

_Times = dict[tuple[str, str], list[float]]
"""Seconds of CPU time in each round, by processor and part."""


async def measure(folder: Path) -> dict[str, Any]:
    """Measure a photograph of 12 megapixels, and the demo's photographs of one."""
    pictures = folder / "pictures"
    groups = await asyncio.to_thread(_pictures, pictures)
    installed = await asyncio.to_thread(rivals.sharp), await asyncio.to_thread(rivals.thumbor)
    async with AsyncExitStack() as stack:
        running = {"ours": ours(_new(folder / "ours")), "pooled": pooled(_new(folder / "pooled"), groups["demo"][0])}
        if installed[0]:
            running["sharp"] = sharp(_new(folder / "sharp"), installed[0])
        if installed[1]:
            running["thumbor"] = thumbor(_new(folder / "thumbor"), installed[1], pictures)
        processors = {name: await stack.enter_async_context(each) for name, each in running.items()}
        times = {name: await _measure(group, processors) for name, group in groups.items()}
        return {
            "part": "processing",
            "rounds": ROUNDS,
            "load": [round(load, 1) for load in os.getloadavg()],
            **{name: _NOT_AVAILABLE for name in ("sharp", "thumbor") if name not in processors},
            "versions": {name: dict(each.versions) for name, each in processors.items() if each.versions},
            **{name: _report(groups[name], times[name]) for name in groups},
            "megabytes": {name: _memory(each) for name, each in processors.items()},
            "bytes_of_12_megapixels": {name: _sizes(folder / name) for name in processors if name != "pooled"},
        }


def _pictures(folder: Path) -> dict[str, list[Path]]:
    demo = [Path(shutil.copy(path, _new(folder))) for path in sorted(PHOTOS.glob("*.jpg"))]
    return {"demo": demo, "camera": [camera.photograph("cat", folder / "camera.jpg")]}


def _new(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


async def _measure(pictures: Sequence[Path], processors: Mapping[str, Processor]) -> _Times:
    times: _Times = {}
    for number in range(ROUNDS + 1):
        for name, processor in processors.items():
            for part in processor.parts:
                seconds = await _cost(processor, part, pictures)
                if number:  # the first round is what every process loads once
                    times.setdefault((name, part), []).append(seconds)
    return times | dict(_totals(times))


async def _cost(processor: Processor, part: str, pictures: Sequence[Path]) -> float:
    before = processor.cpu()
    for picture in pictures:
        await processor.make(part, picture)
    return processor.cpu() - before


def _totals(times: _Times) -> Iterator[tuple[tuple[str, str], list[float]]]:
    """Add up, round by round, what those that make one rendition at a time take for all."""
    for name in {name for name, _ in times}:
        for total, parts in _TOTALS.items():
            if all((name, part) in times for part in parts):
                yield (
                    (name, total),
                    [sum(of_round) for of_round in zip(*(times[name, part] for part in parts), strict=True)],
                )


def _report(pictures: Sequence[Path], times: _Times) -> dict[str, Any]:
    """Return medians for one picture, and the medians of the ratios within each round."""
    milliseconds: dict[str, dict[str, float]] = {}
    for (name, part), seconds in sorted(times.items()):
        milliseconds.setdefault(name, {})[part] = round(1000 * median(seconds) / len(pictures), 1)
    ratios = {
        name: median(own / other for own, other in zip(times[mine], times[theirs], strict=True))
        for name, (mine, theirs) in _COMPARED.items()
        if theirs in times
    }
    whole = {name: parts.get("recipe") or parts["renditions"] for name, parts in milliseconds.items()}
    return {
        "pictures": len(pictures),
        "bytes": sum(picture.stat().st_size for picture in pictures),
        "cpu_milliseconds": milliseconds,
        "images_per_second_and_core": {name: round(1000 / each, 2) for name, each in whole.items()},
        "ratios": {name: round(ratio, 2) for name, ratio in ratios.items()},
    }


def _memory(processor: Processor) -> dict[str, float]:
    return dict(zip(("now", "most"), (round(size / 1024**2, 1) for size in processor.memory()), strict=True))


def _sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of what was made last."""
    return {path.stem: path.stat().st_size for path in sorted(folder.iterdir()) if path.suffix != ".conf"}
