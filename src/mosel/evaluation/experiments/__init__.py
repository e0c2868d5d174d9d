"""The paper's evaluation and what it leaves out, one named function each (§3, §7, appendices C and D)."""

from collections.abc import Callable

from mosel.evaluation.experiments.beyond import sensitivity, share, tenants
from mosel.evaluation.experiments.cascade import cascade
from mosel.evaluation.experiments.fig1 import fig1
from mosel.evaluation.experiments.fig5 import fig5, fig6, jct
from mosel.evaluation.experiments.fig7 import fig7
from mosel.evaluation.experiments.fig8 import fig8
from mosel.evaluation.experiments.headline import headline
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.live import live
from mosel.evaluation.experiments.month import month
from mosel.evaluation.experiments.offline import overhead, table2
from mosel.evaluation.experiments.section import Section

EXPERIMENTS: dict[str, Callable[[Lab], Section]] = {
    "headline": headline,
    "fig1": fig1,
    "fig5": fig5,
    "fig6": fig6,
    "fig7": fig7,
    "fig8": fig8,
    "table2": table2,
    "overhead": overhead,
    "jct": jct,
    "share": share,
    "sensitivity": sensitivity,
    "tenants": tenants,
    "cascade": cascade,
    "month": month,
    "live": live,
}
"""In the order in which the report shows them."""

__all__ = ["EXPERIMENTS", "Lab", "Section"]
