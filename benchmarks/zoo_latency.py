"""Latency of the published sizes on a CPU, mode by mode: `python benchmarks/zoo_latency.py [MODEL …]`.

Batch 1, float32, two threads, the longest request that is taken (AV-HuBERT: the encoder on a clip of 4 s; TBN:
three segments), preprocessing not counted. The same weights in torch's own modules run in turn. Of each the
fastest run counts: what else the machine does only ever adds. Two minutes where it does nothing else. Writes
docs/results/zoo_latency.json and, from it, the table of docs/models.md; `--redraw` writes that table alone.
Models that are named are measured anew, and the others' results stay if they are of the same machine and day.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _page import machine, where, with_block
from _plain import keep_layout, largest_difference, plain
from torch import Tensor, nn

from mosel.core.files import write_atomic
from mosel.models import selfmm, tvlt, vilt
from mosel.models.avhubert.encoder import SpeechEncoder
from mosel.models.avhubert.frontend import ConvNorm
from mosel.models.avhubert.shape import SHAPES as AVHUBERT
from mosel.models.checkpoints import seeded
from mosel.models.packed import packed
from mosel.models.registry import find
from mosel.models.selfmm.network import SelfMM
from mosel.models.tbn.network import TBN
from mosel.models.tbn.shape import SHAPES as TBN_SHAPES
from mosel.models.tvlt.network import TVLT
from mosel.models.vilt.network import ViLT
from mosel.models.wordpiece import read_vocabulary
from mosel.runtime.runner import prepare

DOCS = Path(__file__).parents[1] / "docs"
RESULTS, PAGE = DOCS / "results" / "zoo_latency.json", DOCS / "models.md"
FORMAT = "mosel.benchmark.zoo_latency/1"
THREADS, SEGMENTS = 2, 3
FEWEST, MOST, WORTH_S = 3, 30, 1.5
"""Each mode is timed so often, as many times as take so long."""

TOLERANCE = 1e-3
"""By how much answers may differ, relative to the largest: the order of additions is another."""

Pair = tuple[nn.Module, nn.Module]


@dataclass(frozen=True, slots=True)
class Case:
    """One model: how it is made, and what a first sketch of it took.

    Attributes:
        word: that names it; its noise is what it runs on.
        title: on the page.
        sketch_ms: by mode, in milliseconds.
        make: returns our network and the plain one.
        sample: which request of the noise.
    """

    word: str
    title: str
    sketch_ms: Mapping[str, float]
    make: Callable[[], Pair]
    sample: int = 0


def transformer(make: Callable[[], nn.Module]) -> Callable[[], Pair]:
    """Return what makes a network, and the same on torch's own transformer."""

    def both() -> Pair:
        network = seeded(make, 0)
        other = plain(network)
        return packed(network.eval()), other

    return both


def tbn_pair() -> Pair:
    """Return TBN with merged normalisations, and without."""
    network = seeded(lambda: TBN(replace(TBN_SHAPES["full"], segments=SEGMENTS)), 0)
    other = plain(network)
    for branch in (other.rgb, other.flow, other.audio):
        keep_layout(branch.conv1)
    network.fuse()
    return network.to(memory_format=torch.channels_last), other


def avhubert_pair() -> Pair:
    """Return AV-HuBERT's encoder as it is served, and on torch's own transformer and usual layout."""
    network = seeded(lambda: SpeechEncoder(AVHUBERT["base"]), 0)
    other = plain(network)
    keep_layout(other.lips.first)
    for module in network.modules():
        if isinstance(module, ConvNorm):
            module.fuse()
    network.lips.to(memory_format=torch.channels_last)
    network.positions.by_spectrum()
    return packed(network.eval()), other


CASES = (
    Case(
        "tvlt,seed=0",
        "TVLT",
        {"audio": 377, "video": 1473, "audio+video": 2065},
        transformer(lambda: TVLT(tvlt.SHAPES["full"])),
    ),
    Case(
        "vilt,seed=0",
        "ViLT",
        {"text": 50, "image": 108, "text+image": 133},
        transformer(lambda: ViLT(vilt.SHAPES["full"], read_vocabulary().first)),
    ),
    Case(
        "avhubert,seed=0",
        "AV-HuBERT base, encoder",
        {"audio": 75, "video": 352, "audio+video": 355},
        avhubert_pair,
        sample=AVHUBERT["base"].buckets.index(100),
    ),
    Case(
        f"tbn,seed=0,segments={SEGMENTS}",
        f"TBN, {SEGMENTS} segments",
        {"audio": 123, "flow": 104, "rgb": 97, "rgb+flow+audio": 345},
        tbn_pair,
    ),
    Case(
        "selfmm,seed=0",
        "Self-MM",
        {"text": 55, "audio": 1.0, "video": 0.8, "text+audio+video": 58},
        transformer(lambda: SelfMM(selfmm.SHAPES["full"])),
    ),
)


def measured(case: Case) -> Iterator[dict[str, Any]]:
    """Yield of each mode the times of both networks, in milliseconds.

    Raises:
        SystemExit: they do not answer alike.
    """
    ours, theirs = case.make()
    prepared = inputs(case)
    for mode in case.sketch_ms:
        given = {name: array for modality in mode.split("+") for name, array in prepared[modality].items()}
        _, one = timed(ours, given)
        took_s, other = timed(theirs, given)
        if largest_difference(one, other) > TOLERANCE:
            raise SystemExit(f"{case.title}, {mode}: the plain network answers otherwise; nothing to compare")
        times: dict[str, list[float]] = {"ours_ms": [], "plain_ms": []}
        for _ in range(max(FEWEST, min(MOST, int(WORTH_S / took_s)))):
            for name, network in zip(times, (ours, theirs), strict=True):
                times[name].append(round(timed(network, given)[0] * 1e3, 3))
        yield {"model": case.title, "mode": mode, "sketch_ms": case.sketch_ms[mode], **times}


def timed(network: nn.Module, given: Mapping[str, Tensor]) -> tuple[float, list[Tensor]]:
    """Run a network; return the seconds that it took, and its outputs."""
    began_s = time.perf_counter()
    with torch.inference_mode():
        found = network(**given)
    took_s = time.perf_counter() - began_s
    if isinstance(found, Tensor):
        return took_s, [found]
    values = found.values() if isinstance(found, Mapping) else found
    return took_s, [value for value in values if value is not None]


def inputs(case: Case) -> dict[str, dict[str, Tensor]]:
    """Return by modality what the network takes of one request of noise."""
    model = find(case.word)
    assert model.samples is not None
    noise = model.samples().inputs
    found = {}
    for name in model.modality_names:
        arrays = {t: np.asarray(values[case.sample])[None] for t, values in noise[name].items()}
        found[name] = {t: torch.from_numpy(a.copy()) for t, a in prepare(model, name, arrays).items()}
    return found


def block(results: dict[str, Any]) -> str:
    """Return what the page shows of the results."""
    lines = [
        "| model | mode | ms | torch's modules, ms | ours / theirs | of all modalities | sketch, ms | of all |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows = results["rows"]
    for before, row in zip([{"model": ""}, *rows], rows, strict=False):
        whole = [other for other in rows if other["model"] == row["model"]][-1]
        ours, theirs = (min(row[name]) for name in ("ours_ms", "plain_ms"))
        title = "" if row["model"] == before["model"] else row["model"]
        share, sketched = ours / min(whole["ours_ms"]), row["sketch_ms"] / whole["sketch_ms"]
        lines.append(
            f"| {title} | {row['mode']} | {ours:,.1f} | {theirs:,.1f} | {ours / theirs:.2f} | {share:.3f} "
            f"| {row['sketch_ms']:,} | {sketched:.3f} |"
        )
    text = f"Batch 1, float32, {results['threads']} threads, the fastest of {_counts(rows)} runs"
    absent = [case.title for case in CASES if case.title not in {row["model"] for row in rows}]
    missing = f" Not measured yet: {', '.join(absent)}." if absent else ""
    return "\n".join([*lines, "", f"{text}. {where(results)}.{missing}"])


def _counts(rows: list[dict[str, Any]]) -> str:
    counts = [len(row["ours_ms"]) for row in rows]
    return f"{min(counts)} to {max(counts)}"


def redraw(results: dict[str, Any]) -> None:
    """Write the table into the page."""
    write_atomic(PAGE, with_block(PAGE.read_text(encoding="utf-8"), "latencies", block(results)))


def joined(rows: list[dict[str, Any]], here: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows and those of other models that were measured here today, in the order of `CASES`."""
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    alike = all(before.get(name) == value for name, value in here.items())
    measured_now = {row["model"] for row in rows}
    kept = [row for row in before["rows"] if row["model"] not in measured_now] if alike else []
    titles = [case.title for case in CASES]
    return sorted([*rows, *kept], key=lambda row: titles.index(row["model"]))


if __name__ == "__main__":
    names = {case.word.partition(",")[0]: case for case in CASES}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "models", nargs="*", help=f"some of {', '.join(names)}; by default all", metavar="MODEL"
    )
    parser.add_argument("--quick", action="store_true", help="ViLT and Self-MM alone; nothing is written")
    parser.add_argument("--redraw", action="store_true", help="write the page from the results that are there")
    given = parser.parse_args()
    if given.redraw:
        redraw(json.loads(RESULTS.read_text(encoding="utf-8")))
        raise SystemExit
    if unknown := set(given.models) - set(names):
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(names)}")
    chosen = given.models or (["vilt", "selfmm"] if given.quick else names)
    torch.set_num_threads(THREADS)
    rows = [row for name in chosen for row in measured(names[name])]
    here = {"format": FORMAT, **machine("torch"), "threads": THREADS}
    if given.quick:
        print(block({**here, "rows": rows}))
        raise SystemExit
    results = {**here, "rows": joined(rows, here)}
    print(block(results))
    write_atomic(RESULTS, json.dumps(results, indent=1) + "\n")
    redraw(results)
