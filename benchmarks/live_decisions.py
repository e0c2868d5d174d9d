"""How long `joint` takes in a live queue that never runs dry, the slowest of a hundred decisions included.

    .venv/bin/python benchmarks/live_decisions.py [--quick] [--redraw]

A scheduler with one worker is kept at so many waiting jobs: every job arrives in a call of its own, the
worker reports each batch when it is expected to end, and then the next is decided on over the whole queue.
*Decision* is the policy alone; *whole call* is all that `Scheduler.handle` does then, jobs that are given up
included; an *arrival* is the call with one job while the worker is busy, and a *refusal* the same for one that
would be late even alone. A refusal that comes while a decision is made waits for that call, so its worst is the
sum of both. Times are those of the deciding thread on its core, so that other programs do not count. A whole
run also writes docs/results/live_decisions.json and, from it, the table of docs/decision-time.md.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from _page import machine, where, with_block
from decision_time import profile
from rich.console import Console
from rich.table import Table

from mosel.core.files import read_bytes, write_atomic
from mosel.core.types import Batch, Job
from mosel.online.events import Action, Arrived, Complete, Dispatch, Event, Finished, WorkerReady
from mosel.online.policies import POLICIES
from mosel.online.policies.base import Decision, View
from mosel.online.scheduler import Scheduler
from mosel.solve.warm_up import warm_up

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, PAGE = DOCS / "results" / "live_decisions.json", DOCS / "decision-time.md"
FORMAT = "mosel.live_decisions/1"
DECISIONS = {10: 2000, 100: 2000, 1000: 1000, 10_000: 300}
"""How many decisions are timed, by jobs waiting."""

WARMING = 20
REFUSED_EVERY = 4
"""After every so many batches one hopeless job comes."""

MS = 1_000_000
KINDS = ("decision", "whole call", "arrival", "refusal")
HEADS = ("jobs waiting", *(f"{kind}, {what}" for kind in KINDS for what in ("median", "p99")))


@dataclass(slots=True)
class Live:
    """A scheduler with one worker that is always busy, and what its calls took in milliseconds."""

    length: int
    rng: np.random.Generator
    now_ns: int = 0
    named: int = 0
    batch: Batch | None = None
    took_ms: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    scheduler: Scheduler = field(init=False)

    def __post_init__(self) -> None:
        policy = POLICIES["joint"]
        POLICIES["timed"] = replace(policy, decide=self._decide)
        self.scheduler = Scheduler({"m": profile()}, policy="timed")
        del POLICIES["timed"]
        self._tell(None, [WorkerReady(0)])

    def turn(self, number: int) -> None:
        """Let jobs come one by one until enough wait, and a hopeless one now and then; end the batch."""
        while self.scheduler.queued < self.length:
            self._tell("arrival" if self.batch else None, [Arrived(self._job())])
        if number % REFUSED_EVERY == 0:
            self._tell("refusal", [Arrived(self._job(within_ns=1))])
        batch = self.batch
        assert batch is not None, "jobs wait, so the worker has work"
        self.batch, self.now_ns = None, self.now_ns + batch.expected_ns
        self._tell("whole call", [Finished(batch.id, batch.expected_ns)])

    def forget(self) -> None:
        """Drop what was timed so far."""
        for took in self.took_ms.values():
            took.clear()

    def _tell(self, kind: str | None, events: Sequence[Event]) -> None:
        begin_s = time.thread_time()
        actions: list[Action] = self.scheduler.handle(events, self.now_ns)
        if kind:
            self.took_ms[kind].append((time.thread_time() - begin_s) * 1e3)
        for action in actions:
            if isinstance(action, Dispatch):
                self.batch = action.batch
        if kind == "refusal":
            assert any(isinstance(action, Complete) for action in actions), "it is refused at once"

    def _decide(self, view: View) -> Decision:
        begin_s = time.thread_time()
        decision = POLICIES["joint"].decide(view)
        self.took_ms["decision"].append((time.thread_time() - begin_s) * 1e3)
        return decision

    def _job(self, within_ns: int | None = None) -> Job:
        """As the paper draws them (§7.1), due as in `decision_time.queue`."""
        self.named += 1
        requests = max(1, int(self.rng.normal(1, 6)))
        spread_ms = 100 + 20 * self.rng.uniform() * self.length
        due_ns = self.now_ns + (round(spread_ms * MS) if within_ns is None else within_ns)
        slo = float(self.rng.uniform(0.74, 0.995))
        return Job(f"j{self.named}", "m", requests, slo, self.now_ns, due_ns)


def main() -> None:
    """Run or read the results, print them and write what the docs show."""
    words = _words()
    if not words.redraw:
        results = run(words.quick)
        Console().print(table(results))
        if words.quick:
            return
        write_atomic(RESULTS, json.dumps(results, indent=1) + "\n")
    results = json.loads(read_bytes(RESULTS))
    write_atomic(PAGE, with_block(PAGE.read_text(encoding="utf-8"), "live", block(results)))


def run(quick: bool) -> dict[str, Any]:
    """Time decisions in queues of every length."""
    warm_up()
    rows = []
    for length, decisions in DECISIONS.items():
        live = Live(length, np.random.default_rng(length))
        for number in range(WARMING):
            live.turn(number)
        live.forget()
        for number in range(decisions // 10 if quick else decisions):
            live.turn(number)
        rows.append({"jobs": length, **{kind: _row(live.took_ms[kind]) for kind in KINDS}})
    return {"format": FORMAT, **machine("numpy", "numba"), "queues": rows}


def _row(took_ms: Sequence[float]) -> dict[str, float]:
    median, p99 = np.quantile(took_ms, [0.5, 0.99])
    return {"count": len(took_ms), "median_ms": float(median), "p99_ms": float(p99)}


def _cells(row: dict[str, Any]) -> list[str]:
    values = [row[kind][key] for kind in KINDS for key in ("median_ms", "p99_ms")]
    return [f"{row['jobs']:,}", *(f"{value:.3g}" for value in values)]


def table(results: dict[str, Any]) -> Table:
    """The results for the terminal."""
    found = Table(*HEADS, title="joint in a live queue, ms", title_justify="left")
    for row in results["queues"]:
        found.add_row(*_cells(row))
    return found


def block(results: dict[str, Any]) -> str:
    """The table as the page shows it."""
    lines = [f"| {' | '.join(HEADS)} |", "|" + " ---: |" * len(HEADS)]
    lines += [f"| {' | '.join(_cells(row))} |" for row in results["queues"]]
    counts = ", ".join(f"{row['decision']['count']:,}" for row in results["queues"])
    clock = "Milliseconds of the deciding thread on its core, what other programs took left out"
    return "\n".join([*lines, "", f"{clock}; {counts} decisions. On {where(results)}."])


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the decisions; writes nothing")
    parser.add_argument(
        "--redraw", action="store_true", help="only write the page from the results that are there"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
