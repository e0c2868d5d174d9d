"""Every policy on one small workload, byte by byte: a refactor changes nothing here.

A change of behaviour that is meant renews the files, and their difference is reviewed with it:

    .venv/bin/python -m tests.online.test_golden
"""

from pathlib import Path

import pytest

from mosel.core.types import Job
from mosel.online.policies import POLICIES
from mosel.online.scheduler import Scheduler
from tests.online.driver import World, job, profile, world

GOLDEN = Path(__file__).parent / "golden"
WORKERS = (1, 2)
TABLE = profile(
    {"text": (0.6, 3, 1), "audio": (0.8, 4, 3), "text+audio": (0.85, 5, 4), "text+audio+video": (0.95, 9, 8)},
    sizes=(1, 2, 4, 8),
)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("policy", POLICIES)
def test_batches_and_outcomes_are_those_on_file(policy: str, workers: int) -> None:
    """The same batches at the same times and the same outcomes as when the file was written."""
    assert text(run(policy, workers)) == file_of(policy, workers).read_text(), (
        "a change of behaviour that is meant: .venv/bin/python -m tests.online.test_golden"
    )


def file_of(policy: str, workers: int) -> Path:
    """Where a policy's run is kept."""
    return GOLDEN / f"{policy.replace('+', '_')}-{workers}.csv"


def run(policy: str, workers: int) -> World:
    """Thirty jobs in three bursts, the middle one too large for the workers."""
    found = Scheduler({"m": TABLE}, workers=workers, policy=policy, seed=1)
    return world(found, [TABLE], workload(workers), workers).run()


def workload(workers: int) -> list[Job]:
    """Made from whole numbers alone, so that no library's random numbers matter."""
    jobs: list[Job] = []
    for i in range(30):
        burst, within = divmod(i, 10)
        at = burst * 300 + within * (20, 4, 12)[burst] / workers
        slo = 0.6 + (i * 7 % 36) / 100
        due = at + (60, 90, 150)[i % 3]
        has = ("text", "audio") if i % 5 == 4 and slo <= 0.85 else ()
        jobs.append(job(f"j{i}", 1 + i * 5 % 11, slo, at=at, due=due, modalities=has))
    return jobs


def text(found: World) -> str:
    """One line a batch, then one line a job, in microseconds."""
    lines = ["batch,worker,start_us,end_us,mode,size,requests"]
    for batch, start_ns, end_ns in found.batches:
        held = ";".join(f"{part.job}:{'+'.join(map(str, part.requests))}" for part in batch.parts)
        times = f"{start_ns // 1000},{end_ns // 1000}"
        lines.append(f"{batch.id},{batch.worker},{times},{batch.mode},{batch.size},{held}")
    lines.append("job,outcome,reason,decided_us,accuracy,modes")
    for receipt in found.receipts.values():
        modes = ";".join(f"{mode}:{count}" for mode, count in receipt.modes)
        accuracy = "" if receipt.accuracy is None else f"{receipt.accuracy:.6f}"
        decided = f"{receipt.decided_ns // 1000}"
        lines.append(f"{receipt.job.id},{receipt.outcome},{receipt.reason},{decided},{accuracy},{modes}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in POLICIES:
        for count in WORKERS:
            file_of(name, count).write_text(text(run(name, count)))
