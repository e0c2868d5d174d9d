"""Add up campaigns of `mosel chaos` that were run piece by piece, with seeds that follow one another.

    python scripts/chaos_total.py PIECE... -o FILE

The total has the form of a piece, and goes to the standard output without -o. The exit status is 1 if in any of
them a tally did not come out even.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mosel.core.errors import UsageError
from mosel.core.files import read_bytes, write_atomic

COUNTED = ("outcomes", "injected", "observed")
SUMMED = ("seeds", "sent", "connections_lost", "server_starts", "took_s")


def main() -> None:
    """Add up and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pieces", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    found = total([json.loads(read_bytes(path)) for path in given.pieces])
    raw = (json.dumps(found, indent=2) + "\n").encode()
    if given.output is None:
        sys.stdout.write(raw.decode())
    else:
        write_atomic(given.output, raw)
    sys.exit(1 if found["problems"] else 0)


def total(pieces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the sum of several campaigns.

    Raises:
        UsageError: two of them are of the same seed, so that one is counted twice.
    """
    seeds = [piece["seed"] for piece in pieces]
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"pieces of the seeds {seeds}: two are the same; expected each once")
    counted = {key: _sums(piece[key] for piece in pieces) for key in COUNTED}
    summed = {key: round(sum(piece[key] for piece in pieces), 1) for key in SUMMED}
    problems = [problem for piece in pieces for problem in piece["problems"]]
    return {**pieces[0], **summed, **counted, "problems": problems}


def _sums(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    found = Counter[str]()
    for one in counts:
        found.update(one)
    return dict(found)


if __name__ == "__main__":
    main()
