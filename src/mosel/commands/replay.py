"""`mosel replay`: a workload against a running server, into a run directory."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from mosel.core.errors import ExecutionError, UsageError
from mosel.core.files import allow_open_files, read_bytes
from mosel.evaluation.replay import Replayed
from mosel.evaluation.replay import replay as run_replay
from mosel.evaluation.results import write_run
from mosel.evaluation.summary import Named, summary_table
from mosel.evaluation.workload import Workload, read_workload
from mosel.models.base import Model
from mosel.models.registry import find

LAG_WORTH_A_WORD_MS = 20.0
KEY_LIMIT_BYTES = 4096
KEY_VARIABLE = "MOSEL_API_KEY"
"""Where a key may stand; an option would show it to everybody who lists processes."""


def replay(
    url: str,
    model: str,
    workload: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    also: tuple[str, ...] = (),
    seed: int = 0,
    answer_limit: float = 600.0,
    give_up: float | None = None,
    wait: float = 0.0,
    api_key: Path | None = None,
    feedback: bool = False,
    quiet: bool = False,
) -> None:
    """Send a workload to a running server, each job at its own time, and record what became of every job.

    Example: mosel replay http://127.0.0.1:8000 av-digits workload.csv -o run

    Args:
        url: of the server.
        model: whose labelled samples are sent: a zoo name, or package.module:object.
        workload: the workload.csv.
        output: the run directory.
        also: a further model that the server serves and the workload's column `model` names; may be repeated.
        seed: of the order in which samples are sent.
        answer_limit: seconds without an answer after which a job counts as failed.
        give_up: seconds after the last arrival at which jobs without an answer are given up, and count as
            dropped; by default every answer is waited for.
        wait: seconds that a server may still take to be ready; requests are prepared meanwhile.
        api_key: a file with the key that the server asks for (default: what MOSEL_API_KEY holds, if anything).
        feedback: afterwards, tell the server how right its answers were, and keep what it makes of that; its
            jobs' ids have to be new to the server.
        quiet: print no progress and no table.
    """
    if not 0 < answer_limit < float("inf"):
        raise UsageError(f"--answer-limit {answer_limit}; expected seconds > 0")
    if give_up is not None and not 0 <= give_up < float("inf"):
        raise UsageError(f"--give-up {give_up}; expected seconds ≥ 0")
    if not 0 <= wait < float("inf"):
        raise UsageError(f"--wait {wait}; expected seconds ≥ 0")
    if seed < 0:
        raise UsageError(f"--seed {seed}; expected a whole number from 0")
    found = [find(word) for word in (model, *also)]
    if len({each.name for each in found}) != len(found):
        raise UsageError(f"--also: {', '.join(each.name for each in found)}; expected each model once")
    jobs = read_workload(workload, {each.name: each.modality_names for each in found})
    allow_open_files()
    limits = {
        "answer_limit_s": answer_limit,
        "give_up_s": give_up,
        "wait_s": wait,
        "api_key": _key(api_key, os.environ),
        "feedback": feedback,
    }
    done = _with_progress(url, found, jobs, seed, limits, quiet)
    summary = write_run(done.run, output)
    if not quiet:
        Console(stderr=True).print(summary_table([Named(output.name, summary, done.run.jobs)]))
        _note(done)
    if done.troubles:
        raise ExecutionError(_trouble(done.troubles, len(jobs.jobs), output))


def _key(path: Path | None, environment: Mapping[str, str]) -> str:
    """Return the key to send; empty without one."""
    told = environment.get(KEY_VARIABLE, "").encode() if path is None else read_bytes(path, KEY_LIMIT_BYTES)
    key = told.decode(errors="replace").strip()
    if not (key.isascii() and key.isprintable()) or " " in key or (path is not None and not key):
        raise UsageError(f"{path or KEY_VARIABLE}: holds no API key; expected one word of ASCII")
    return key


def _with_progress(
    url: str, models: list[Model], jobs: Workload, seed: int, limits: dict[str, Any], quiet: bool
) -> Replayed:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("replaying", total=jobs.requests)
        return asyncio.run(
            run_replay(
                url,
                models,
                jobs,
                seed=seed,
                **limits,
                on_answer=lambda requests: progress.advance(task, requests),
            )
        )


def _note(done: Replayed) -> None:
    client = done.run.extra["client"]
    if client["accuracy"] is not None:
        sys.stderr.write(
            f"at the client: accuracy {client['accuracy']:.4f} against the labels "
            f"({client['promised_accuracy']:.4f} promised), {client['late_share']:.1%} of answers late\n"
        )
    lag_ms = client["send_lag_ms"]["p99"]
    if lag_ms > LAG_WORTH_A_WORD_MS:
        sys.stderr.write(
            f"note: the client itself fell behind: 1 job in 100 was sent {lag_ms:.0f} ms late or more\n"
        )


def _trouble(troubles: Counter[str], jobs: int, output: Path) -> str:
    most, _ = troubles.most_common(1)[0]
    return (
        f"{troubles.total():,} of {jobs:,} jobs got no answer and count as failed ({most}); "
        f"what there is stands in {output}"
    )
