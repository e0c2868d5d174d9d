"""Write the table of docs/evaluation.md from the committed results, so that no number is typed by hand.

.venv/bin/python scripts/evaluation_page.py FOLDER   # takes headline.csv of `mosel reproduce -o FOLDER`
.venv/bin/python scripts/evaluation_page.py          # writes the page again from docs/results/
"""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from mosel.core.files import read_bytes, write_atomic

DOCS = Path(__file__).parent.parent / "docs"
PAGE, RESULTS = DOCS / "evaluation.md", DOCS / "results" / "headline.csv"
BEGIN, END = "<!-- headline:begin -->", "<!-- headline:end -->"
NOTHING_YET = "No run is committed yet; `mosel reproduce headline` prints this table in its report."
COLUMNS = ("model", "claim", "the paper", "`paper`", "`optimized`", "`joint`", "profile", "why it differs")


def block(results: str | None) -> str:
    """Return the page's table of these results, markers included."""
    if results is None:
        return f"{BEGIN}\n{NOTHING_YET}\n{END}"
    read = list(csv.DictReader(io.StringIO(results)))
    rows = [_row(row) for row in read]
    seeds, usual_s = int(read[0]["seeds"]), float(read[0]["usual_s"])
    many = f"{seeds} seeds" if seeds > 1 else "one seed"
    usual = f"workloads of {usual_s:g} s, shorter for fast models and longer for slow ones"
    caption = f"Simulated: medians over {many}, {usual}."
    head = [f"| {' | '.join(COLUMNS)} |", "| --- | --- | ---: | ---: | ---: | ---: | --- | --- |"]
    return "\n".join([BEGIN, *head, *(f"| {' | '.join(row)} |" for row in rows), "", caption, END])


def _row(row: dict[str, str]) -> list[str]:
    numbers = [row[key] for key in ("the_papers", "paper", "optimized", "joint")]
    shown = [f"{float(number):.3g}" if number else "–" for number in numbers]
    return [row["model"], row["figure"], *shown, row["profile"] or "–", row["why"]]


def committed() -> str | None:
    """Return the committed results, or None where there are none yet."""
    return read_bytes(RESULTS).decode() if RESULTS.exists() else None


def with_block(page: str, results: str | None) -> str:
    """Return the page with the table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, marker, after = rest.partition(END)
    assert marker, f"{PAGE} has no {BEGIN} … {END}"
    return before + block(results) + after


def main(words: Sequence[str]) -> None:
    """Take the results of the folder that is named, if one is, and write the page's table."""
    if words:
        write_atomic(RESULTS, read_bytes(Path(words[0]) / "headline.csv"))
    write_atomic(PAGE, with_block(PAGE.read_text(encoding="utf-8"), committed()))
    print(PAGE)


if __name__ == "__main__":
    main(sys.argv[1:])
