"""What a child may use up while it decodes what a stranger has sent."""

from dataclasses import dataclass

OUT_OF_MEMORY = "out-of-memory"
NO_SPACE = "no-space"
"""How a child calls these two failures, of which its parent draws conclusions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one child; where a film or recording needs more time, it gets it by its length."""

    memory: int = 1_610_612_736  # bytes of address space
    seconds: float = 120.0  # wall and CPU time of one step
    seconds_per_second: float = 1.0  # more of it for every second that a film or recording lasts
    output: int = 512 * 1024 * 1024  # bytes of one written file
    files: int = 64  # open at once
    jobs: int = 100  # after which a child is replaced
    idle: float = 60.0  # seconds after which a child without a job ends

    def step_seconds(self, duration: float) -> float:
        """Return how long one step may take for a medium that lasts ``duration`` seconds."""
        return self.seconds + self.seconds_per_second * duration
