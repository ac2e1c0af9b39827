"""What a scenario has come to: medians over interleaved rounds, and ratios against the goals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.bench.speed.scenarios import Scenario
from tests.bench.speed.wrk import Load


@dataclass(frozen=True, slots=True)
class Outcome:
    """The loads of one scenario, by target and round, and everything that was wrong with an answer."""

    scenario: Scenario
    loads: Mapping[str, list[Load]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def rate(self, target: str) -> float:
        """Return a target's answers a second."""
        return median(load.rate(self.scenario.size) for load in self.loads[target])

    def p99(self, target: str) -> float:
        """Return the seconds that 99 of 100 answers of a target took at most."""
        return median(load.p99 for load in self.loads[target])

    def cpu(self, target: str) -> float:
        """Return the seconds of a processor that one answer of a target took."""
        return median(load.cpu_each(self.scenario.size) for load in self.loads[target])

    def ratio(self, rival: str) -> float:
        """Return how many times as fast as a rival the subject was: of the same round, as machines have their moods."""
        size, pairs = self.scenario.size, zip(self.loads[self.scenario.subject], self.loads[rival], strict=True)
        return median(ours.rate(size) / theirs.rate(size) for ours, theirs in pairs)

    def is_met(self, rival: str) -> bool:
        """Whether the goal against a rival is reached, by answers that were all right."""
        return not self.faults and self.ratio(rival) >= self.scenario.goals[rival]

    def as_json(self) -> dict[str, Any]:
        """Return everything that was measured."""
        return {
            "scenario": self.scenario.name,
            "targets": {name: self._target(name) for name in self.loads},
            "ratios": {name: self._ratio(name) for name in self.scenario.goals if name in self.loads},
            "wrong": self.faults,
        }

    def _target(self, name: str) -> dict[str, Any]:
        return {
            "rate": round(self.rate(name), 1),
            "rates": [round(load.rate(self.scenario.size), 1) for load in self.loads[name]],
            "p99_ms": round(self.p99(name) * 1e3, 2),
            "cpu_us": round(self.cpu(name) * 1e6, 1),
        }

    def _ratio(self, rival: str) -> dict[str, Any]:
        return {"ratio": round(self.ratio(rival), 3), "goal": self.scenario.goals[rival], "ok": self.is_met(rival)}
