"""Fit the parameters of `mosel workload daily` to a series of requests in each second, over whole days.

.venv/bin/python scripts/fit_daily.py FILE   # fits, and writes docs/results/daily.json and what is below
.venv/bin/python scripts/fit_daily.py        # writes twitter.py and the table of docs/workloads.md from it

The series was counts alone, 22 days of August 2021 of the archive.org Twitter sample stream, the file
`workload.txt` in `auto_tuner/dataset/twitter_trace/workload.tbz2` of `reconfigurable-ml-pipeline/InfAdapter`.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.files import read_bytes, write_atomic
from mosel.evaluation.daily import Daily, daily_rates, harmonics, quiet_rates, spread_counts
from mosel.evaluation.traces import read_counts

ROOT = Path(__file__).parent.parent
PAGE, RESULTS = ROOT / "docs" / "workloads.md", ROOT / "docs" / "results" / "daily.json"
MODULE = ROOT / "src" / "mosel" / "evaluation" / "twitter.py"
BEGIN, END = "<!-- daily:begin -->", "<!-- daily:end -->"
DAY_S, MINUTES, HARMONICS, SEEDS = 86_400, 1440, 4, 22
SPIKE = 1.3
"""A minute belongs to a spike where it has this many times the requests that its time of day has otherwise."""
QUANTILES = 17
LAGS = (5, 60)
"""Minutes apart, at which the slow wander is fitted."""
SHORT_MIN = 4
"""Spikes up to this long say nothing of their form."""

Floats = NDArray[np.float64]


def days_of(counts: NDArray[np.int64]) -> Floats:
    """Return days, of shape (days, 86400), with NaN in minutes without any request: gaps of the recording."""
    days = -(-len(counts) // DAY_S)
    padded = np.zeros(days * DAY_S)
    padded[: len(counts)] = counts
    minutes = padded.reshape(-1, 60)
    minutes[minutes.sum(axis=1) == 0] = np.nan
    return padded.reshape(days, DAY_S)


def per_minute(days: Floats) -> Floats:
    """Return requests per second in each minute, of shape (days, 1440)."""
    return days.reshape(len(days), MINUTES, 60).mean(axis=2)


def fitted(days: Floats) -> Daily:
    """Return the parameters, rounded to what they are worth."""
    rates = per_minute(days)
    basis = harmonics(HARMONICS)
    quiet = np.isfinite(rates)
    for _ in range(20):
        each = np.broadcast_to(basis, (len(days), *basis.shape))[quiet]
        weights = np.linalg.lstsq(each, rates[quiet], rcond=None)[0]
        base = basis @ weights
        quiet = np.isfinite(rates) & (rates < SPIKE * base) & (rates > base / SPIKE)
    found = list(spikes(rates / base, rates - base))
    shares = np.linspace(0, 1, QUANTILES)
    lengths, heights = [len(run) for run in found], [run.max() for run in found]
    wander, kept = wander_of(np.where(quiet, rates / base, np.nan))
    return Daily(
        day=_rounded(weights, 3),
        spikes_a_day=round(float(len(found) * MINUTES / np.isfinite(rates).sum()), 2),
        lengths_min=_rounded(np.quantile(lengths, shares), 1),
        heights_rps=_rounded(np.quantile(heights, shares), 0),
        held=round(float(np.median([held(run) for run in found if len(run) > SHORT_MIN])), 2),
        wander=round(wander, 4),
        wander_kept=round(kept, 4),
        variance_of_mean=round(dispersion(days), 3),
    )


def held(run: Floats) -> float:
    """Return the share of a spike before its fall: an even fall is half way where its half lasts on average."""
    above = float((run > run.max() / 2).mean())
    return max(0.0, 2 * above - 1)


def _rounded(values: Floats, digits: int) -> tuple[float, ...]:
    return tuple(round(float(value), digits or None) for value in values)


def wander_of(quiet: Floats) -> tuple[float, float]:
    """Return the deviation and the step's correlation of a walk that is correlated as quiet minutes are."""
    near, far = (autocorrelation(quiet, lag) for lag in LAGS)
    kept = (far / near) ** (1 / (LAGS[1] - LAGS[0]))
    return float(np.nanstd(quiet) * (near / kept ** LAGS[0]) ** 0.5), kept


def spikes(ratios: Floats, values: Floats) -> Iterator[Floats]:
    """Yield the values in the minutes of each spike, which ratios to the quiet rate tell."""
    for day, shown in zip(ratios, values, strict=True):
        hot = np.concatenate([[0], np.nan_to_num(day) > SPIKE, [0]]).astype(int)
        yield from (shown[start:end] for start, end in np.flatnonzero(np.diff(hot)).reshape(-1, 2))


def dispersion(days: Floats) -> float:
    """Return the median over minutes of the variance of their 60 seconds' counts, over the mean."""
    minutes = days.reshape(-1, 60)
    minutes = minutes[np.isfinite(minutes).all(axis=1)]
    return float(np.median(minutes.var(axis=1, ddof=1) / minutes.mean(axis=1)))


def figures(days: Floats, like: Daily) -> dict[str, float]:
    """Return what is compared between the real series and the made one."""
    ratios = per_minute(days) / quiet_rates(like)
    seconds = days[np.isfinite(days)]
    quiet = ratios[np.isfinite(ratios) & (ratios < SPIKE) & (ratios > 1 / SPIKE)]
    found = list(spikes(ratios, per_minute(days) - quiet_rates(like)))
    return {
        "requests per second, mean": float(seconds.mean()),
        "requests per second, median": float(np.median(seconds)),
        "requests per second, 90th percentile": float(np.quantile(seconds, 0.9)),
        "requests per second, 99th percentile": float(np.quantile(seconds, 0.99)),
        "requests per second, greatest": float(seconds.max()),
        "variance over mean of seconds, within a minute": dispersion(days),
        "variance over mean of seconds, over all": float(seconds.var() / seconds.mean()),
        "share of minutes in spikes": float(np.nanmean(np.where(np.isnan(ratios), np.nan, ratios > SPIKE))),
        "spikes a day": len(found) * MINUTES / float(np.isfinite(ratios).sum()),
        "height of spikes, median (requests per second)": float(np.median([run.max() for run in found])),
        "autocorrelation of minutes, 1 minute apart": autocorrelation(ratios, 1),
        "autocorrelation of minutes, 10 minutes apart": autocorrelation(ratios, 10),
        "residual of the day's shape, RMS over quiet minutes": float(np.sqrt(np.mean((quiet - 1) ** 2))),
    }


def autocorrelation(ratios: Floats, lag: int) -> float:
    """Return the correlation of minutes `lag` apart, the day's shape divided out."""
    before, after = ratios[:, :-lag].ravel(), ratios[:, lag:].ravel()
    known = np.isfinite(before) & np.isfinite(after)
    return float(np.corrcoef(before[known], after[known])[0, 1])


def made_days(like: Daily) -> Floats:
    """Return as many days as the generator makes of seeds 0 onwards, of shape (seeds, 86400)."""
    made = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        made.append(spread_counts(like, daily_rates(like, DAY_S, rng), rng).astype(np.float64))
    return np.stack(made)


def module(results: dict[str, Any]) -> str:
    """Return the text of `twitter.py`."""
    given = [f"    {name}={_literal(value)}," for name, value in results["parameters"].items()]
    lines = [
        '"""What Twitter\'s days of August 2021 are like, as `scripts/fit_daily.py` found and wrote it."""',
        "",
        "from mosel.evaluation.daily import Daily",
        "",
        "TWITTER = Daily(",
        *given,
        ")",
    ]
    return "\n".join(lines) + "\n"


def _literal(value: object) -> str:
    return f"({', '.join(map(str, value))})" if isinstance(value, list) else str(value)


def block(results: dict[str, Any]) -> str:
    """Return the page's table, markers included."""
    rows = [
        f"| {name} | {_shown(real)} | {_shown(results['made'][name])} |"
        for name, real in results["real"].items()
    ]
    apart = results["distance"]
    caption = (
        f"{results['days']} days of the real series beside {SEEDS} made ones. The distribution functions of "
        f"requests per second are at most {apart:.3f} apart (Kolmogorov–Smirnov)."
    )
    return "\n".join([BEGIN, "| | real | made |", "| --- | ---: | ---: |", *rows, "", caption, END])


def _shown(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def distance(first: Floats, second: Floats) -> float:
    """Return the greatest difference between two samples' distribution functions."""
    points = np.unique(np.concatenate([first, second]))
    below = [np.searchsorted(np.sort(sample), points, "right") / len(sample) for sample in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


def with_block(page: str, results: dict[str, Any]) -> str:
    """Return the page with the table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, marker, after = rest.partition(END)
    assert marker, f"{PAGE} has no {BEGIN} … {END}"
    return before + block(results) + after


def committed() -> dict[str, Any]:
    """Return the committed parameters and residuals."""
    found: dict[str, Any] = json.loads(read_bytes(RESULTS))
    return found


def main(words: Sequence[str]) -> None:
    """Fit if a series is named; write the parameters' module and the page's table."""
    if words:
        days = days_of(read_counts(Path(words[0])))
        like = fitted(days)
        made = made_days(like)
        results = {
            "days": len(days),
            "parameters": asdict(like),
            "real": figures(days, like),
            "made": figures(made, like),
            "distance": distance(days[np.isfinite(days)], made.ravel()),
        }
        write_atomic(RESULTS, json.dumps(results, indent=2) + "\n")
    write_atomic(MODULE, module(committed()))
    write_atomic(PAGE, with_block(PAGE.read_text(encoding="utf-8"), committed()))


if __name__ == "__main__":
    main(sys.argv[1:])
