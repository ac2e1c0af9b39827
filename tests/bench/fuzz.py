"""``python -m tests.bench.fuzz [--minutes M] [KIND…]``: mutated real files through every decoder, in real children.

None may kill more than its child, leave a file, or leave a process. Prints what came of them, one JSON line per kind.
"""

import argparse
import asyncio
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from PIL import Image

from gateway import logs
from gateway.demo.samples import build_samples
from ingest.processing.limits import Limits
from ingest.processing.pool import Failed, Pool
from ingest.processing.steps import Ceilings, Source
from storage.sniff import SNIFF_LENGTH, effective_type

KINDS = ("image", "video", "audio", "document")
CHILDREN = 2
Mutation = Callable[[random.Random, bytearray], bytearray]


@dataclass
class Tally:
    """What was seen: files, how steps ended, why children did."""

    files: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    children: Counter[str] = field(default_factory=Counter)

    def step_ended(self, step: str, outcome: str, seconds: float) -> None:
        """Count a step."""
        self.steps[f"{step}: {outcome}"] += 1

    def child_ended(self, reason: str) -> None:
        """Count a child."""
        self.children[reason] += 1


def _flip(chance: random.Random, file: bytearray) -> bytearray:
    for _ in range(chance.choice([1, 1, 2, 8, 64, 512])):
        file[chance.randrange(len(file))] ^= 1 << chance.randrange(8)
    return file


def _cut(chance: random.Random, file: bytearray) -> bytearray:
    return file[: chance.randrange(1, len(file))]


def _number(chance: random.Random, file: bytearray) -> bytearray:
    """Write an extreme number somewhere near the front, where headers are."""
    place = chance.randrange(min(len(file), 4096))
    value = chance.choice([b"\xff" * 4, b"\x7f" + b"\xff" * 3, bytes(4), b"\x00\x00\xff\xff", b"\x80" + bytes(3)])
    file[place : place + 4] = value
    return file


def _repeat(chance: random.Random, file: bytearray) -> bytearray:
    start = chance.randrange(len(file))
    piece = file[start : start + chance.randrange(1, 4096)]
    return file[:start] + piece * chance.randrange(2, 20) + file[start:]


def _swap(chance: random.Random, file: bytearray) -> bytearray:
    one, other = sorted(chance.randrange(len(file)) for _ in range(2))
    length = chance.randrange(1, 1024)
    file[one : one + length], file[other : other + length] = file[other : other + length], file[one : one + length]
    return file


def _erase(chance: random.Random, file: bytearray) -> bytearray:
    start = chance.randrange(len(file))
    del file[start : start + chance.randrange(1, 4096)]
    return file or bytearray(1)


MUTATIONS: tuple[Mutation, ...] = (_flip, _flip, _number, _number, _cut, _repeat, _swap, _erase)


def seeds(folder: Path) -> dict[str, list[tuple[bytes, str]]]:
    """Return real files by kind, made by real encoders: content and type."""
    found: dict[str, list[tuple[bytes, str]]] = {kind: [] for kind in KINDS}
    for sample in build_samples(folder):
        kind = {"sticker": "image"}.get(sample.kind, sample.kind)
        found[kind].append((sample.path.read_bytes(), sample.mime_type.partition(";")[0]))
    picture = Image.open(folder / "coffee.jpg").resize((320, 240))
    for form, mode in [("PNG", "RGBA"), ("PNG", "P"), ("GIF", "P"), ("WEBP", "RGBA"), ("AVIF", "RGB"), ("TIFF", "RGB")]:
        path = folder / f"seed.{form.lower()}"
        frames = [picture.rotate(angle).convert(mode) for angle in (0, 90, 180)] if form in {"GIF", "WEBP"} else []
        picture.convert(mode).save(path, form, save_all=bool(frames), append_images=frames)
        found["image"].append((path.read_bytes(), f"image/{form.lower()}"))
    return found


def mutants(kind: str, originals: list[tuple[bytes, str]], chance: random.Random) -> Iterator[tuple[bytes, str]]:
    """Yield mutated files for ever; half of them go under the type that was declared, half as they look."""
    while True:
        content, declared = chance.choice(originals)
        file = bytearray(content)
        for _ in range(chance.choice([1, 1, 2, 4])):
            file = chance.choice(MUTATIONS)(chance, file)
        looks = effective_type(declared, bytes(file[:SNIFF_LENGTH]))
        yield bytes(file), looks if looks.startswith(kind) and chance.random() < 0.5 else declared


async def fuzz(kind: str, originals: list[tuple[bytes, str]], folder: Path, *, seconds: float, seed: int) -> Tally:
    """Run mutants of one kind through a pool for so long."""
    tally, end = Tally(), monotonic() + seconds
    supply = mutants(kind, originals, random.Random(seed))
    pool = Pool(
        scratch=folder / "scratch",
        children=CHILDREN,
        limits=Limits(seconds=20.0),
        ceilings=Ceilings(seconds=120.0),
        observer=tally,
    )

    async def work(number: int) -> None:
        while monotonic() < end:
            content, content_type = next(supply)
            await _one(pool, folder / f"worker-{number}", content, content_type, tally)

    try:
        await asyncio.gather(*(work(number) for number in range(CHILDREN)))
    finally:
        await pool.aclose()
    return tally


def _write(made: Path, path: Path, content: bytes) -> None:
    made.mkdir(parents=True)
    path.write_bytes(content)


async def _one(pool: Pool, folder: Path, content: bytes, content_type: str, tally: Tally) -> None:
    made, path = folder / "made", folder / "original"
    await asyncio.to_thread(_write, made, path, content)
    source = Source(path=path, content_type=content_type, size=len(content))
    async with aclosing(pool.process(source, made)) as events:
        async for event in events:
            if isinstance(event, Failed):
                tally.codes[event.code] += 1
    tally.files += 1
    await asyncio.to_thread(shutil.rmtree, folder)


def _descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def main() -> None:
    """Fuzz the kinds that are named, or all; exit with 1 where anything was left behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], default=[])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logs.configure("error")
    with TemporaryDirectory(prefix="media-gateway-fuzz-") as name:
        folder = Path(name)
        (folder / "seeds").mkdir()
        originals = seeds(folder / "seeds")
        for kind in options.kinds or KINDS:
            descriptors = _descriptors()
            tally = asyncio.run(fuzz(kind, originals[kind], folder, seconds=options.minutes * 60, seed=options.seed))
            left = [str(path) for path in (folder / "scratch").rglob("*") if path.is_file()]
            leaked = len(_descriptors() - descriptors)
            report = {
                "kind": kind,
                "files": tally.files,
                "steps": dict(tally.steps),
                "codes": dict(tally.codes),
                "children_ended": dict(tally.children),
                "files_left": left,
                "descriptors_leaked": leaked,
            }
            print(json.dumps(report), flush=True)  # noqa: T201 its report
            if left or leaked:
                raise SystemExit(1)


if __name__ == "__main__":
    main()
