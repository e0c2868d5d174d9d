"""In a process of its own, because compiled functions stay compiled."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

PROGRAM = """
import sys
from mosel.solve import assign, cover, joint, large, line_up, states
from mosel.solve.warm_up import warm_up
from mosel.online.engine import Engine
from mosel.online.policies import POLICIES
from mosel.online.scheduler import Scheduler
from mosel.online.serving import ServedModel
from tests.conformance import worlds
from tests.online.driver import job, profile, world

modules = (assign, cover, joint, large, line_up, states)
named = {f"{module.__name__}.{name}": f for module in modules for name, f in vars(module).items()}
functions = {name: f for name, f in named.items() if hasattr(f, "signatures")}
count = lambda: {name: len(f.signatures) for name, f in functions.items()}
if sys.argv[1] == "engine":
    Engine([ServedModel("no:where", worlds.model(), worlds.profile())])
else:
    warm_up()
before = count()
table = profile(sizes=(1, 2, 4))
for policy in POLICIES:
    for workers in (1, 2):
        for slow in (1, 3):
            jobs = [job(f"j{i}", 1 + i, at=i, due=i + 300) for i in range(12)]
            ran = world(Scheduler({"m": table}, workers=workers, policy=policy), [table], jobs, workers)
            ran.took_ns = lambda _batch, profiled_ns: slow * profiled_ns
            ran.run()
print(before, count())
assert before == count()
called = ("assign._keep_feasible", "assign._greedy", "states._search", "states._same", "states._covered")
called += ("cover._coin_change", "cover._merge", "large._two_modes", "joint._choose", "line_up._ends")
assert all(before[f"mosel.solve.{name}"] for name in called)  # those within them come with them from the cache
"""


@pytest.mark.parametrize("warmed_by", ["warm_up", "engine"])
def test_nothing_is_compiled_while_deciding(warmed_by: str) -> None:
    """Once an engine is made, or after the warm-up, all policies run on functions that are compiled already."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, warmed_by], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
