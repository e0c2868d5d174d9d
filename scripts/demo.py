"""`make demo`: profile and plan the bundled model, then serve it under three policies at the same bursty load.

Everything is done as a user would, with the `mosel` command; the folder `demo/` keeps every file. The load is
the one at which `none+batching`, what a modality-agnostic server does at its best, answers about half of the
requests on time: it is looked for by simulation, which takes seconds. A second run checks the profile that is
there, and begins with the load that the last one chose.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

from mosel.evaluation.recorded import read_run
from mosel.evaluation.summary import Named, summary_table
from mosel.online.policies import DEFAULT

BASELINE, OURS = "none+batching", DEFAULT
POLICIES = ("none", BASELINE, OURS)
DURATION_S = 40
LATENCY_SLO = "1.0"
GIVE_UP_S = 2
SAMPLES, REPEATS = 1000, 10
"""Labelled samples and timings a cell: fewer than `mosel profile` takes by itself, to save time."""
LOADS = (1.5, 6.0)
HALF, NEAR_ENOUGH, MOST_TRIALS = 0.5, 0.08, 4

READY_LIMIT_S, STOP_LIMIT_S = 120, 45
START_S, PLAN_S, TRIAL_S, REPORT_S = 5, 1, 2, 3
"""How long steps usually take: only the bar is drawn from these."""

POLL_S = 0.05

MOSEL = str(Path(sys.executable).with_name("mosel"))


class StepError(Exception):
    """A step failed; the text is its last line."""


class Children:
    """The processes that were started, each in a group of its own, so that none is left behind."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self._asked: set[int] = set()

    def start(self, words: Sequence[str], log: Path | None = None) -> "subprocess.Popen[bytes]":
        """Start a `mosel` command; its stderr goes to `log`, or to this terminal."""
        handle = log.open("wb") if log else None
        try:
            child = subprocess.Popen(
                [MOSEL, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=handle,
                process_group=0,
            )
        finally:
            if handle:
                handle.close()
        self._running.append(child)
        return child

    def stop(self, child: "subprocess.Popen[bytes]", limit_s: float = STOP_LIMIT_S) -> None:
        """Ask a process to end, unless it was asked already, and end its whole group if it does not."""
        if child.poll() is None:
            self.ask(child)
            try:
                child.wait(limit_s)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        self._running.remove(child)
        self._asked.discard(child.pid)

    def ask(self, child: "subprocess.Popen[bytes]") -> None:
        """Ask a process to end, without waiting for that."""
        if child.pid not in self._asked:  # a second signal would end a server that drains
            self._asked.add(child.pid)
            child.terminate()

    def stop_all(self) -> None:
        """End every process that is left, at once."""
        for child in list(self._running):
            self.stop(child, limit_s=3)


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo's settings and the processes that it has under way."""

    model: str
    folder: Path
    seed: int
    children: Children
    progress: Progress
    overall: TaskID

    def run(self, words: Sequence[str], expected_s: float) -> None:
        """Run one command to its end while the bar moves on by `expected_s`.

        Raises:
            StepError: the command failed.
        """
        self.finish(self.children.start(words, self.log(words)), words, expected_s)

    def finish(self, child: "subprocess.Popen[bytes]", words: Sequence[str], expected_s: float) -> None:
        """Wait for a command that was started; otherwise as `run`."""
        with self.moving(expected_s) as move:
            while child.poll() is None:
                time.sleep(POLL_S)
                move()
        self.children.stop(child)
        if child.returncode:
            raise StepError(
                _last_line(self.log(words)) or f"mosel {words[0]} ended with status {child.returncode}"
            )

    def log(self, words: Sequence[str]) -> Path:
        """Where a command's notes go."""
        return self.folder / f"{words[0]}.log"

    @contextmanager
    def moving(self, expected_s: float) -> Iterator["Move"]:
        """Move the bar with time, never past what the step is expected to take, and to just that at its end."""
        move = Move(self.progress, self.overall, expected_s)
        yield move
        move.finish()

    def say(self, text: str) -> None:
        """Name the step under way."""
        self.progress.update(self.overall, description=text)


class Move:
    """Moves the bar through one step."""

    def __init__(self, progress: Progress, task: TaskID, expected_s: float) -> None:
        self._progress, self._task, self._expected_s = progress, task, expected_s
        self._from = progress.tasks[0].completed
        self._started_s = time.monotonic()

    def __call__(self) -> None:
        """Show how far the step has come."""
        passed_s = min(time.monotonic() - self._started_s, 0.97 * self._expected_s)
        self._progress.update(self._task, completed=self._from + passed_s)

    def finish(self) -> None:
        """Show that the step is done."""
        self._progress.update(self._task, completed=self._from + self._expected_s)


def main() -> int:
    """Run the demo and return the exit status."""
    given = _arguments()
    given.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    children, console = Children(), Console()
    try:
        _profile(children, given.model, given.output)
        _serve_and_replay(children, console, given)
    except KeyboardInterrupt:
        _ignore_interrupts()
        children.stop_all()
        print("demo: interrupted; every process it started is stopped", file=sys.stderr)
        return 130
    except StepError as error:
        children.stop_all()
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        _ignore_interrupts()
        children.stop_all()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Serve the bundled model under three policies at a bursty load."
    )
    parser.add_argument("--model", default="av-digits", help="a zoo name, or package.module:object")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder for every file")
    parser.add_argument("--duration", type=int, default=DURATION_S, help="seconds of load")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _ignore_interrupts() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _profile(children: Children, model: str, folder: Path) -> None:
    """Profile the model, with the command's own progress bar; a profile that is there is only checked."""
    path = folder / "profile.json"
    words = ["profile", model, "-o", str(path), "--samples", str(SAMPLES), "--repeats", str(REPEATS)]
    print(
        f"1/3  profiling {model}{': checking the profile that is there' if path.exists() else ''}", flush=True
    )
    attempts = [[*words, "--update"], words] if path.exists() else [words]
    for attempt in attempts:
        child = children.start(attempt)
        child.wait()
        children.stop(child)
        if not child.returncode:
            return
    raise StepError(f"mosel profile {model} failed; see above")


def _serve_and_replay(children: Children, console: Console, given: argparse.Namespace) -> None:
    runs = [given.output / policy for policy in POLICIES]
    each_s = START_S + given.duration + GIVE_UP_S
    total_s = PLAN_S + TRIAL_S * MOST_TRIALS + each_s * len(POLICIES) + REPORT_S
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        overall = progress.add_task("planning", total=total_s)
        demo = Demo(given.model, given.output, given.seed, children, progress, overall)
        load, on_time = _plan_and_choose_load(demo, given.duration)
        console.print(
            f"2/3  load: {load:.2f} times the full mode's capacity, "
            f"where {BASELINE} serves {on_time:.0%} on time in simulation"
        )
        _live(demo, runs, given.duration)
        demo.say("report")
        report = str(given.output / "report.html")
        title = f"mosel: {given.model} under a bursty load"
        demo.run(["report", *map(str, runs), "-o", report, "--title", title], REPORT_S)
    _tell(console, runs, given.output)


def _plan_and_choose_load(demo: Demo, duration_s: int) -> tuple[float, float]:
    """Plan, and meanwhile choose the load; returns it and the baseline's share on time."""
    words = ["plan", str(demo.folder / "profile.json"), "-o", str(demo.folder / "plan.json")]
    planning = demo.children.start(words, demo.log(words))
    found = _choose_load(demo, duration_s)
    demo.finish(planning, words, PLAN_S)
    return found


def _choose_load(demo: Demo, duration_s: int) -> tuple[float, float]:
    """Halve the range of loads until the baseline, simulated, serves about half of the requests on time.

    The first to be tried is the one that the last run chose, if there was one.

    Returns:
        The load and the share on time; `workload.csv` is left as it is at that load.
    """
    kept = demo.folder / "load.txt"
    low, high = LOADS
    first = _kept_load(kept)
    load = on_time = 0.0
    for trial in range(MOST_TRIALS):
        load = first if first and not trial else round((low * high) ** 0.5, 2)
        on_time = _trial(demo, load, duration_s)
        if abs(on_time - HALF) < NEAR_ENOUGH:
            break
        low, high = (load, high) if on_time > HALF else (low, load)
    kept.write_text(f"{load}\n")
    return load, on_time


def _kept_load(path: Path) -> float | None:
    try:
        load = float(path.read_text())
    except (OSError, ValueError):  # the first run, or a file that somebody wrote by hand
        return None
    return load if LOADS[0] < load < LOADS[1] else None


def _trial(demo: Demo, load: float, duration_s: int) -> float:
    """Write the workload at `load` and return which share of it the baseline, simulated, serves on time."""
    profile, jobs, trial = (str(demo.folder / name) for name in ("profile.json", "workload.csv", "trial"))
    demo.say(f"choosing the load: {load:.2f} × capacity")
    shape = ["bursty", "--duration", str(duration_s), "--latency-slo", LATENCY_SLO]
    words = [*shape, "--profile", profile, "--load", str(load), "--seed", str(demo.seed)]
    demo.run(["workload", *words, "-o", jobs], TRIAL_S / 4)
    demo.run(["simulate", profile, jobs, "--policy", BASELINE, "-o", trial, "--quiet"], TRIAL_S * 3 / 4)
    return float(read_run(Path(trial)).summary.on_time)


def _live(demo: Demo, runs: Sequence[Path], duration_s: int) -> None:
    """Serve under one policy after the other, and replay the workload at each.

    While one server ends, idle, the next one already loads. No two ever serve at the same time.
    """
    last: subprocess.Popen[bytes] | None = None
    for policy, run in zip(POLICIES, runs, strict=True):
        demo.say(f"3/3  {policy}: starting the server")
        log = demo.folder / f"serve-{policy}.log"
        words = ["serve", demo.model, "--profile", str(demo.folder / "profile.json")]
        server = demo.children.start([*words, "--policy", policy, "--http", "127.0.0.1:0"], log)
        if last is not None:
            demo.children.stop(last)
        _replay(demo, server, log, run, duration_s)
        demo.children.ask(server)
        last = server
    assert last is not None
    demo.children.stop(last)


def _replay(demo: Demo, server: "subprocess.Popen[bytes]", log: Path, run: Path, duration_s: int) -> None:
    """Replay the workload at a server that is starting; the replay prepares its requests meanwhile."""
    with demo.moving(START_S) as move:
        url = _found(server, log, r"^listening on (http://\S+):", move)
        words = ["replay", url, demo.model, str(demo.folder / "workload.csv"), "-o", str(run), "--quiet"]
        words += ["--give-up", str(GIVE_UP_S), "--wait", str(READY_LIMIT_S)]
        replaying = demo.children.start(words, demo.log(words))
        _found(server, log, r"^serving .* (http://\S+)", move)
    demo.say(f"3/3  {run.name}: replaying {duration_s} s of load")
    demo.finish(replaying, words, duration_s + GIVE_UP_S)


def _found(server: "subprocess.Popen[bytes]", log: Path, pattern: str, move: Move) -> str:
    """Wait until the server says what `pattern` looks for, and return that."""
    until_s = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < until_s and server.poll() is None:
        if found := re.search(pattern, log.read_text(errors="replace"), re.MULTILINE):
            return found[1]
        time.sleep(POLL_S)
        move()
    raise StepError(_last_line(log) or f"the server was not ready within {READY_LIMIT_S} s")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _tell(console: Console, runs: Sequence[Path], folder: Path) -> None:
    found = [read_run(run) for run in runs]
    console.print(summary_table([Named(run.folder.name, run.summary, run.jobs) for run in found]))
    on_time = {run.summary.policy: run.summary.on_time for run in found}
    if on_time[BASELINE]:
        times = on_time[OURS] / on_time[BASELINE]
        console.print(f"\n{OURS} served {times:.2f} times as many requests on time as {BASELINE}.")
    console.print(
        f"What had no answer {GIVE_UP_S} s after the last arrival was given up and counts as dropped."
    )
    console.print(f"Plots: {folder / 'report.html'}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
