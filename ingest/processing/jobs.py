"""What a parent tells its child: once what it is, then job after job, each as one line of JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from ingest.processing.limits import Limits
from ingest.processing.steps import Ceilings, Source, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a child is told once."""

    parent: int
    """The process id."""
    kinds: str
    """The module whose ``steps(source, ceilings)`` says what to do with a medium."""
    import_from: Path | None
    """A folder where that module is, if it is not installed."""
    inbox: Path
    outbox: Path
    limits: Limits

    def line(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def parse(cls, line: str | bytes) -> Self:
        """Read what `line` has written."""
        told: dict[str, Any] = json.loads(line)
        told |= {name: Path(told[name]) for name in ("import_from", "inbox", "outbox") if told[name] is not None}
        return cls(**told | {"limits": Limits(**told["limits"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A medium, and which of its steps to run."""

    source: Source
    folder: Path
    ceilings: Ceilings
    wanted: frozenset[str] | None
    """Variants of which a step must make one to be run; None: all steps, those too that only learn facts."""
    skip: frozenset[str]
    """Steps that have been tried."""
    duration: float
    """In seconds, as far as is known."""

    def wants(self, step: Step) -> bool:
        """Tell whether a step is to be run."""
        return step.name not in self.skip and (self.wanted is None or not self.wanted.isdisjoint(step.makes))

    def line(self) -> str:
        """Return it as JSON."""
        told = asdict(self) | {"skip": sorted(self.skip)}
        return json.dumps(told | {"wanted": None if self.wanted is None else sorted(self.wanted)}, default=str)

    @classmethod
    def parse(cls, line: str | bytes) -> Self:
        """Read what `line` has written."""
        told: dict[str, Any] = json.loads(line)
        source = told["source"]
        return cls(
            source=Source(**source | {"path": Path(source["path"])}),
            folder=Path(told["folder"]),
            ceilings=Ceilings(**told["ceilings"]),
            wanted=None if told["wanted"] is None else frozenset(told["wanted"]),
            skip=frozenset(told["skip"]),
            duration=told["duration"],
        )


def duration_after(facts: Mapping[str, Any], before: float, ceilings: Ceilings) -> float:
    """Return how many seconds a medium lasts, now that a step has learned these facts: never more than is decoded."""
    duration = facts.get("duration")
    return min(max(float(duration), 0.0), ceilings.seconds) if isinstance(duration, int | float) else before
