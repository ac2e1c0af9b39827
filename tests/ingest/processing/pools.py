"""Pools of real children that run hostile steps, and what they said."""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from ingest.processing.limits import Limits
from ingest.processing.pool import Event, Finished, Pool
from ingest.processing.steps import Ceilings, Source

HERE = Path(__file__).parent
TEXT = "what somebody has sent"

OpenPool = Callable[..., "Observed"]


@dataclass(slots=True)
class Ended:
    """What an observer was told."""

    steps: list[tuple[str, str]] = field(default_factory=list)
    children: list[str] = field(default_factory=list)

    def step_ended(self, step: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.steps.append((step, outcome))

    def child_ended(self, reason: str) -> None:
        self.children.append(reason)


class Observed:
    """A pool whose media are ``test/<attack>``, see ``hostile.py``."""

    def __init__(self, path: Path, *, children: int = 1, ceilings: Ceilings | None = None, **limits: float) -> None:
        self.path = path
        self.ended = Ended()
        self._count = 0
        self.original = path / "original"
        self.original.write_text(TEXT)
        self.pool = Pool(
            scratch=path / "scratch",
            children=children,
            limits=Limits(**limits),  # type: ignore[arg-type] # each test names its own
            ceilings=ceilings or Ceilings(),
            observer=self.ended,
            kinds="hostile",
            import_from=HERE,
        )

    def source(self, attack: str) -> Source:
        return Source(path=self.original, content_type=f"test/{attack}", size=len(TEXT))

    def folder(self) -> Path:
        self._count += 1
        folder = self.path / f"made-{self._count}"
        folder.mkdir()
        return folder

    async def process(self, attack: str, *, wanted: frozenset[str] | None = None) -> list[Event]:
        async with aclosing(self.pool.process(self.source(attack), self.folder(), wanted=wanted)) as events:
            return [event async for event in events]

    async def pid(self) -> int:
        """Return the process id of the child that does the next job."""
        facts = (await self.process("none"))[0]
        assert isinstance(facts, Finished)
        return int(facts.facts["pid"])
