"""One self-contained HTML file from run directories: no script, no font, no picture from elsewhere."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from mosel import __version__
from mosel.core.clock import to_s
from mosel.core.errors import UsageError
from mosel.core.files import write_atomic
from mosel.evaluation import plots
from mosel.evaluation.plots import Drawn
from mosel.evaluation.recorded import Recorded, read_run
from mosel.evaluation.results import Summary
from mosel.evaluation.summary import Named, summary_rows

MOST_RUNS = plots.SERIES

OUTCOMES = (
    ("on_time", "on time"),
    ("late", "late"),
    ("dropped", "dropped"),
    ("rejected", "rejected"),
    ("failed", "failed"),
)

FIGURES = (
    ("Load and throughput", "Requests that arrive, and requests answered on time.", plots.load),
    (
        "Violations",
        "Share of requests not answered on time, whatever became of them. Boxes: quartiles; diamonds: means.",
        plots.violations,
    ),
    ("Modes", "Which modalities the requests ran with.", plots.modes),
    ("Accuracy", "Expected accuracy of the jobs that were on time; further right is better.", plots.accuracy),
    ("Completion time", "From arrival to the last answer of a job, late jobs included.", plots.completion),
    ("Slack", "Time left to the deadline when a job was done.", plots.slack),
    ("Queue", "Jobs that have arrived and have no outcome yet.", plots.queue),
)


RELIABILITY = (
    "Reliability of cascades",
    "Answers grouped by the first stage's confidence: those below the line are right less often than expected.",
    plots.reliability,
)
"""Only where a replay gave feedback on answers in cascades."""


def write_report(folders: Sequence[Path], output: Path, title: str = "mosel report") -> None:
    """Read run directories and write the report.

    Raises:
        UsageError: there are none, or too many to tell apart.
        FileError: a run cannot be read, or the report cannot be written.
    """
    if not 1 <= len(folders) <= MOST_RUNS:
        raise UsageError(f"{len(folders)} runs; expected 1 to {MOST_RUNS} in one report")
    runs = [read_run(folder) for folder in folders]
    names = run_names(folders)
    drawn = [Drawn(name, run) for name, run in zip(names, runs, strict=True)]
    write_atomic(output, page(drawn, title))


def run_names(folders: Sequence[Path]) -> list[str]:
    """Return a short name for each folder: its own, with as many parents as tell it from the others."""
    paths = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(len(parts) for parts in paths)):
        names = ["/".join(parts[-depth:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{index + 1}: {folder}" for index, folder in enumerate(folders)]


def page(runs: Sequence[Drawn], title: str) -> str:
    """Return the whole page."""
    figures = [*FIGURES, RELIABILITY] if any(plots.judged_bins(each.run) for each in runs) else FIGURES
    cards = "".join(_card(name, text, draw(runs), wide=draw is plots.modes) for name, text, draw in figures)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1><p>{escape(_subtitle(runs))}</p></header>"
        f"{_outcomes(runs)}{_table(runs)}<div class=figures>{cards}</div>"
        f"<footer>mosel {escape(__version__)}. Shares are of requests; one is on time only if every request "
        "of its job was answered by the job's deadline.</footer></main></body></html>\n"
    )


def _subtitle(runs: Sequence[Drawn]) -> str:
    texts = {_workload_text(each.run) for each in runs}
    many = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    return f"{many} of {texts.pop()}" if len(texts) == 1 else f"{many} of {len(texts)} workloads"


def _workload_text(run: Recorded) -> str:
    jobs = run.jobs
    last_s = to_s(max(row.job.arrival_ns for row in jobs))
    return f"{len(jobs):,} jobs with {run.summary.requests:,} requests in {round(last_s)} s"


def _outcomes(runs: Sequence[Drawn]) -> str:
    rows = "".join(_outcome_row(each.name, each.run.summary) for each in runs)
    legend = "".join(f"<span><i class=o-{key}></i>{label}</span>" for key, label in OUTCOMES)
    return (
        "<section class=card><h2>What became of the requests</h2>"
        f"<div class=bars>{rows}</div><p class=legend>{legend}</p></section>"
    )


def _outcome_row(name: str, summary: Summary) -> str:
    parts = [(key, label, float(getattr(summary, key))) for key, label in OUTCOMES]
    bar = "".join(
        f'<i class=o-{key} style="width:{share:.4%}" title="{label} {share:.1%}"></i>'
        for key, label, share in parts
        if share > 0
    )
    return f"<b>{escape(name)}</b><span class=bar>{bar}</span><strong>{summary.on_time:.1%}</strong>"


def _table(runs: Sequence[Drawn]) -> str:
    named = [Named(each.name, each.run.summary, each.run.jobs) for each in runs]
    head = "".join(
        f'<th><i style="background:var(--s{index})"></i>{escape(each.name)}</th>'
        for index, each in enumerate(runs)
    )
    body = "".join(
        f"<tr><th>{escape(label)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for label, cells in summary_rows(named)
    )
    return (
        "<section class=card><h2>Summary</h2><div class=scroll><table>"
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _card(name: str, text: str, svg: str, *, wide: bool) -> str:
    kind = '"card wide"' if wide else "card"
    return f"<section class={kind}><h2>{escape(name)}</h2><p>{escape(text)}</p>{svg}</section>"


_LIGHT = (
    "--ground:#f6f7f9;--card:#fff;--ink:#1d232c;--soft:#5c6673;--faint:#d9dee5;--line:#e6e9ee;"
    "--s0:#8a94a3;--s1:#d98a1f;--s2:#1769c2;--s3:#18936f;--s4:#8a4fbf;--s5:#c2405a;"
    "--s6:#7a5c3a;--s7:#0f9fb5;--s8:#6d7d12;"
    "--m0:#e3effb;--m1:#c3dcf4;--m2:#98c3ea;--m3:#67a3da;--m4:#3c82c4;--m5:#1f62a3;--m6:#12406f;"
    "--ok:#2a9d78;--late:#e0a33a;--dropped:#b9c1cc;--rejected:#dde2e8;--failed:#c2405a"
)
_DARK = (
    "--ground:#12161c;--card:#1a2028;--ink:#e4e9f0;--soft:#98a3b1;--faint:#37414e;--line:#2a323d;"
    "--s0:#8d98a8;--s1:#f0a945;--s2:#5aa9ff;--s3:#46c79d;--s4:#b98cf0;--s5:#f0708a;"
    "--s6:#c9a27a;--s7:#4fd0e3;--s8:#bccb5a;"
    "--m0:#dcebfb;--m1:#aed2f6;--m2:#7fb6ee;--m3:#5597dd;--m4:#3a78bd;--m5:#295a92;--m6:#1e4068;"
    "--ok:#3fae8a;--late:#f0a945;--dropped:#4d5866;--rejected:#333c47;--failed:#f0708a"
)
CSS = f"""
:root{{color-scheme:light dark;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}}
main{{max-width:1180px;margin:0 auto;padding:32px 20px}}
h1{{font-size:26px;margin:0}} h2{{font-size:16px;margin:0 0 2px}}
header p,.card>p,footer{{color:var(--soft);margin:0 0 10px;font-size:14px}}
header{{margin-bottom:18px}}
.card{{background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:18px 20px;margin-bottom:18px}}
.figures{{display:grid;gap:0 18px;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));
align-items:stretch}}
svg{{display:block;width:100%;height:auto;font-family:inherit;color:var(--soft)}}
.bars{{display:grid;grid-template-columns:max-content 1fr max-content;gap:8px 14px;align-items:center;
margin-top:10px}}
.wide{{grid-column:1/-1}}
.bars b{{font-weight:500}} .bars strong{{font-variant-numeric:tabular-nums}}
.bar{{display:flex;height:22px;border-radius:5px;overflow:hidden;background:var(--line)}}
.bar i{{height:100%}}
.legend{{display:flex;flex-wrap:wrap;gap:4px 18px;margin:12px 0 0!important}}
.legend i,thead i{{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px}}
.o-on_time{{background:var(--ok)}}.o-late{{background:var(--late)}}.o-dropped{{background:var(--dropped)}}
.o-rejected{{background:var(--rejected)}}.o-failed{{background:var(--failed)}}
.scroll{{overflow-x:auto}}
table{{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin-top:8px}}
th,td{{padding:5px 14px 5px 0;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}}
th:first-child{{text-align:left;font-weight:400;color:var(--soft)}} thead th{{font-weight:600}}
tbody tr:last-child>*{{border-bottom:0}}
"""
