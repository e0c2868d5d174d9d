"""Error and cost of smart sampling against the whole table: `python benchmarks/profile_sampling.py [MODEL]`.

Profiles the model exhaustively, smartly and exhaustively again, without accuracies, so that only timing counts.
The second exhaustive table tells how far two measurements of the same thing lie apart on this machine: no
sampling can be nearer to the first than that. Interpolation alone is what the same choice of sizes makes of the
first table's own figures, free of what the machine did meanwhile.
"""

import sys
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mosel.core.tables import Profile
from mosel.models.registry import find
from mosel.offline.accuracy import Accuracy
from mosel.offline.profiler import make_profile
from mosel.offline.sampling import Search, coarse_grid, interpolate
from mosel.offline.settings import Settings
from mosel.runtime.device import default_device


def main(word: str = "av-digits") -> None:
    """Print the error (median, worst) over all cells and the share of the time."""
    model = find(word)
    settings = Settings(default_device(model.framework))
    given = dict.fromkeys(model.combinations(), Accuracy(0.5, 0.5, 0))
    first, smart, second = (
        make_profile(model, replace(settings, exhaustive=exhaustive), given=given, say=tell)
        for exhaustive in (True, False, True)
    )
    measured = sum(sum(mode.measured) for mode in smart.modes)
    cells = sum(len(mode.measured) for mode in smart.modes)
    print(f"{model.name} on {smart.device.name}: {cells} cells, {measured} timed by smart sampling")
    report("smart sampling", errors(smart, first))
    report("interpolation alone", interpolation_errors(first))
    report("whole table again", errors(second, first))
    print(f"time: {seconds(smart):.1f} s of {seconds(first):.1f} s ({seconds(smart) / seconds(first):.0%})")


def errors(profile: Profile, truth: Profile) -> NDArray[np.float64]:
    """Return the relative error of every cell's latency."""
    pairs = zip(profile.modes, truth.modes, strict=True)
    return np.concatenate([np.abs(np.divide(a.latency_s, b.latency_s) - 1) for a, b in pairs])


def interpolation_errors(truth: Profile) -> NDArray[np.float64]:
    """Return the relative error of every cell if only the sizes that the search asks for were known."""
    errors_: list[float] = []
    for mode in truth.modes:
        whole = dict(enumerate(mode.latency_s, start=1))
        search = Search(coarse_grid(len(whole)))
        while search.checks():
            search.settle(whole, dict.fromkeys(whole, 0.0))
        known = {size: whole[size] for size in search.measured}
        errors_ += [abs(interpolate(known, size) / value - 1) for size, value in whole.items()]
    return np.asarray(errors_)


def report(name: str, error: NDArray[np.float64]) -> None:
    """Print a line of errors."""
    print(f"{name}: error {np.median(error):.2%} (median), {error.max():.2%} (worst)")


def seconds(profile: Profile) -> float:
    """Return how long the timing took."""
    return float((profile.extra or {})["seconds"]["timing"])


def tell(text: str) -> None:
    """Print a note of the profiler."""
    print(f"note: {text}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:2])
