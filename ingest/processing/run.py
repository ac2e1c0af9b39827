"""One medium on its way through its steps, by however many children that takes."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ingest.processing.jobs import Job, duration_after
from ingest.processing.limits import OUT_OF_MEMORY
from ingest.processing.process import ChildFault
from ingest.processing.steps import Ceilings, Source

_DEATHS = ("crashed", OUT_OF_MEMORY)


@dataclass(slots=True)
class Run:
    """What is known of it; a child that says something else than what can happen now is at fault."""

    source: Source
    folder: Path
    wanted: frozenset[str] | None
    duration: float
    current: str | None = None
    began: float = 0.0
    ended: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    forgiven: bool = False
    over: bool = False

    def job(self, original: Path, made: Path, ceilings: Ceilings) -> Job:
        """Return what a child is to do."""
        source = replace(self.source, path=original)
        return Job(
            source=source,
            folder=made,
            ceilings=ceilings,
            wanted=self.wanted,
            skip=self.ended,
            duration=self.duration,
        )

    def begin(self, step: str) -> None:
        """Note that a step begins; raises ChildFault where none can."""
        if self.current is not None or step in self.ended:
            raise ChildFault("bad-answer")
        self.current, self.began = step, time.monotonic()

    def expect(self, step: str, names: frozenset[str]) -> None:
        """See that a step may have made variants of these names; raises ChildFault where not."""
        if step != self.current or not names.isdisjoint(self.names):
            raise ChildFault("bad-answer")
        self.names |= names

    def end(self, step: str) -> None:
        """Note that a step has ended, or (without a name) that there are none; raises ChildFault where it has not."""
        if step != (self.current or ""):
            raise ChildFault("bad-answer")
        self.current, self.ended = None, self.ended | {step}

    def finish(self) -> None:
        """Note that there are no more steps; raises ChildFault in the middle of one."""
        if self.current is not None:
            raise ChildFault("bad-answer")
        self.over = True

    def learn(self, facts: Mapping[str, Any], ceilings: Ceilings) -> None:
        """Note how long the medium lasts."""
        self.duration = duration_after(facts, self.duration, ceilings)

    def blame(self, code: str) -> str | None:
        """Return the name of the step that a child's fault has cost, empty for all of them; None: nothing yet.

        A child that dies before a step may have died of its own: the medium gets another one, once.
        """
        if self.current is not None:
            step, self.current = self.current, None
            self.ended |= {step}
            return step
        if code in _DEATHS and not self.forgiven:
            self.forgiven = True
            return None
        self.over = True
        return ""
