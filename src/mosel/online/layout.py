"""How the workers of a fleet are divided into groups, and how its front doors hear of them."""

from dataclasses import dataclass
from itertools import pairwise

from mosel.core.clock import NS_PER_MS
from mosel.core.errors import UsageError

REPORT_NS = 10 * NS_PER_MS
"""How often groups report to front doors: many times within a latency SLO, seldom beside the jobs."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a fleet is divided.

    Attributes:
        groups: how many groups the workers are dealt out to, neighbours together.
        front_doors: how many there are.
        report_ns: how often every front door hears from the groups.
        choice_ns: how long a front door takes over a job: 0 where real time passes by itself.
        hop_ns: how long a job takes from a front door to a group, and from one group to another; likewise.
    """

    groups: int = 1
    front_doors: int = 1
    report_ns: int = REPORT_NS
    choice_ns: int = 0
    hop_ns: int = 0

    def __post_init__(self) -> None:
        least = {"groups": self.groups, "front doors": self.front_doors, "report interval": self.report_ns}
        for name, value in least.items():
            if value < 1:
                raise UsageError(f"{name} {value}; expected at least 1")
        if self.choice_ns < 0 or self.hop_ns < 0:
            raise UsageError(f"times {self.choice_ns} and {self.hop_ns} of a job's way; expected none below 0")

    def shares(self, workers: int) -> list[range]:
        """Return the workers of each group.

        Raises:
            UsageError: there are fewer workers than groups.
        """
        if workers < self.groups:
            raise UsageError(f"{self.groups} groups of {workers} workers; expected at least one worker a group")
        ends = [round(workers * group / self.groups) for group in range(self.groups + 1)]
        return [range(*pair) for pair in pairwise(ends)]
