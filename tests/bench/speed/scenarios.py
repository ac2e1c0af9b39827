"""What is asked of whom, and how much faster than whom it is to be."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

KB, MB = 1024, 1024**2
OBJECTS = MappingProxyType({8 * KB: 100, 500 * KB: 40, 16 * MB: 4})
"""How many media there are, by their size in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of request, sent to one target of ours and to those that it is compared with."""

    name: str
    size: int
    """Of each medium, in bytes."""
    subject: str
    """The name of the target that is to be fast."""
    goals: Mapping[str, float]
    """By the name of another target, how many times as many requests a second it is to answer at least."""
    beside: tuple[str, ...] = ()
    """Other targets, to look at."""
    method: Literal["GET", "HEAD"] = "GET"
    conditional: bool = False
    """Whether the client has the medium already, and says so by ``If-None-Match``."""
    status: int = 200
    """What the subject answers."""
    source: str = "storage"
    """Where it takes it from."""

    @property
    def targets(self) -> tuple[str, ...]:
        """All that it is sent to, the subject last."""
        return (*self.goals, *self.beside, self.subject)


SCENARIOS = (
    Scenario(name="8 KB, hot", size=8 * KB, subject="cached", goals={"naive": 12, "nginx": 0.35}, source="cache"),
    Scenario(name="8 KB, from storage", size=8 * KB, subject="stored", goals={"naive": 3.5, "nginx": 0.07}),
    Scenario(
        name="500 KB, from storage",
        size=500 * KB,
        subject="stored",
        goals={"naive": 2, "nginx": 0.4},
        beside=("tuned",),
    ),
    Scenario(
        name="16 MB, from storage",
        size=16 * MB,
        subject="stored",
        goals={"naive": 1.5, "nginx": 0.95},
        beside=("tuned",),
    ),
    Scenario(
        name="304",
        size=8 * KB,
        subject="cached",
        goals={"nginx": 0.35},
        conditional=True,
        status=304,
        source="cache",
    ),
    Scenario(name="HEAD", size=8 * KB, subject="cached", goals={"nginx": 0.35}, method="HEAD", source="cache"),
    Scenario(name="accel, 8 KB", size=8 * KB, subject="accel", goals={"nginx": 0.2}),
    Scenario(name="accel, 500 KB", size=500 * KB, subject="accel", goals={"nginx": 0.45}, beside=("tuned",)),
    Scenario(name="accel, 16 MB", size=16 * MB, subject="accel", goals={"nginx": 0.95}, beside=("tuned",)),
    Scenario(name="redirect", size=8 * KB, subject="redirect", goals={"nginx": 0.3}, status=307),
)
