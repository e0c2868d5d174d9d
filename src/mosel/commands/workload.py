"""`mosel workload`: arrivals, job sizes and SLOs from a seed and a profile, as `workload.csv`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mosel.core.errors import UsageError
from mosel.core.tables import Profile, read_profile
from mosel.evaluation.arrivals import Recipe, capacity_rps, generate
from mosel.evaluation.lengths import parse_lengths, with_lengths
from mosel.evaluation.tenants import Tenant, parse_tenant, with_tenants
from mosel.evaluation.traces import Counts, read_counts
from mosel.evaluation.workload import Workload, format_workload, merged, write_workload

DURATION_S = 40.0


def workload(
    kind: str = "bursty",
    *,
    profile: tuple[Path, ...],
    rate: float | None = None,
    load: float | None = None,
    min_rate: float | None = None,
    max_rate: float | None = None,
    duration: float | None = None,
    trace: Path | None = None,
    start: int = 0,
    speed: int = 1,
    latency_slo: str = "1.0",
    tenant: tuple[str, ...] = (),
    lacking: float = 0.0,
    lengths: str | None = None,
    seed: int = 0,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    quiet: bool = False,
) -> None:
    """Write a workload: arrivals, job sizes and SLOs.

    Example: mosel workload bursty --profile profile.json --load 2 --duration 40 -o workload.csv

    Args:
        kind: constant, poisson, bursty (a day's shape compressed to the duration, with spikes), daily (a
            day like Twitter's real arrivals, compressed likewise), or trace.
        profile: profile.json of the model; accuracy SLOs lie between its modes' lowest and highest accuracy.
            May be repeated: rates are divided evenly among the models, and column `model` names each job's.
        rate: mean requests per second; a trace keeps its own counts where no rate is given.
        load: mean rate as a multiple of one over the full mode's latency at batch size 1.
        min_rate: lowest requests per second of bursty (else a quarter of the mean), daily or trace.
        max_rate: highest requests per second of bursty (else 2.5 times the mean), daily or trace.
        duration: seconds; 40 by default, or all of a trace.
        trace: the recorded arrivals, for one profile: `second count` in two columns, a count for each second,
            Azure's LLM and multi-modal traces, or BurstGPT's.
        start: the trace's second to begin with.
        speed: this many seconds of the trace become one.
        latency_slo: seconds, or a multiple of the job's own latency with all modalities, as in 5x.
        tenant: NAME:SHARE:SLO or NAME:SHARE:SLO:WEIGHT, repeated: a mixture of tenants, each with its share of
            the jobs, its latency SLO (as --latency-slo, which it replaces) and its jobs' weight.
        lacking: share of jobs that lack one modality, 0 to 1.
        lengths: shares of the jobs by length bucket, the shortest first, as in 2,1,1, of the profiles that have
            them; by default every job counts as being as long as the model takes.
        seed: of every draw; the same seed gives the same workload.
        output: the file to write; without it the workload goes to stdout.
        quiet: say nothing on stderr.
    """
    tables = _tables(profile)
    shares = _lengths(lengths, tables)
    slo_s, factor = _latency_slo(latency_slo)
    share = 1 / len(tables)
    series = _series(kind, trace, start, speed, len(tables))
    span_s = duration if duration is not None else DURATION_S if series is None else float(len(series))
    recipes = [
        Recipe(
            kind,
            span_s,
            seed + place,
            _part(_rate(rate, load, table), share),
            _part(min_rate, share),
            _part(max_rate, share),
            slo_s,
            factor,
            lacking,
        )
        for place, table in enumerate(tables)
    ]
    mixture = [parse_tenant(word) for word in tenant]
    each = [
        _made(recipe, table, series, mixture, shares) for recipe, table in zip(recipes, tables, strict=True)
    ]
    made = each[0] if len(each) == 1 else merged(each)
    if output is None:
        sys.stdout.write(format_workload(made))
    else:
        write_workload(made, output)
    if not quiet:
        sys.stderr.write(_note(made, each, span_s, tables) + "\n")


def _lengths(given: str | None, tables: list[Profile]) -> tuple[float, ...]:
    if given is None:
        return ()
    if not any(table.length_buckets for table in tables):
        raise UsageError(f"--lengths {given}: no profile has length buckets; leave it out")
    return parse_lengths(given)


def _made(
    recipe: Recipe, table: Profile, series: Counts | None, mixture: list[Tenant], shares: tuple[float, ...]
) -> Workload:
    made = generate(recipe, table, series)
    if shares and table.length_buckets:
        made = with_lengths(made, shares, table, recipe.latency_factor, recipe.seed)
    return with_tenants(made, mixture, table, recipe.seed) if mixture else made


def _series(kind: str, trace: Path | None, start: int, speed: int, models: int) -> Counts | None:
    if (kind == "trace") != (trace is not None):
        raise UsageError("the kind trace and --trace FILE belong together; give both or neither")
    if trace is None:
        if start or speed != 1:
            raise UsageError("--start and --speed are for a trace; give --trace FILE")
        return None
    if models > 1:
        raise UsageError(f"a trace for {models} profiles; expected one, whose requests it counts")
    if start < 0 or speed < 1:
        raise UsageError(f"--start {start}, --speed {speed}; expected whole numbers from 0 and from 1")
    counts = read_counts(trace)[start:]
    whole = len(counts) // speed
    if not whole:
        raise UsageError(f"--start {start}, --speed {speed}: nothing of the trace is left")
    summed: Counts = counts[: whole * speed].reshape(whole, speed).sum(axis=1)
    return summed


def _tables(paths: tuple[Path, ...]) -> list[Profile]:
    tables = [read_profile(path).profile for path in paths]
    names = [table.model for table in tables]
    if len(set(names)) != len(names):
        raise UsageError(f"profiles of {', '.join(names)}: one model has two; expected one a model")
    return tables


def _part(rate: float | None, share: float) -> float | None:
    return None if rate is None else rate * share


def _latency_slo(text: str) -> tuple[float | None, float | None]:
    try:
        value = float(text.removesuffix("x"))
    except ValueError:
        raise UsageError(f"--latency-slo {text}; expected seconds, or a multiple as in 5x") from None
    return (None, value) if text.endswith("x") else (value, None)


def _rate(rate: float | None, load: float | None, profile: Profile) -> float | None:
    if load is None:
        return rate
    if rate is not None:
        raise UsageError("--rate and --load both set the mean rate; give one of them")
    return load * capacity_rps(profile)


def _note(made: Workload, each: list[Workload], duration_s: float, tables: list[Profile]) -> str:
    load = sum(one.requests / capacity_rps(table) for one, table in zip(each, tables, strict=True)) / duration_s
    return (
        f"{len(made.jobs):,} jobs with {made.requests:,} requests in {duration_s:g} s: "
        f"{made.requests / duration_s:,.1f} a second, "
        f"{load:.2f} times the full mode's capacity at batch size 1"
    )
