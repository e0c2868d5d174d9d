"""The live server against the simulator and against the baseline: `python benchmarks/live.py [PROFILE]`.

1. At 0.5, 1 and 2 times the full mode's capacity, the same workload is replayed at a server and simulated; the
   on-time shares are printed side by side.
2. At the load where the simulated baseline serves about half of the requests on time, baseline and default
   policy are replayed in turn, five pairs with a seed each; the ratio of requests on time is printed.

Without PROFILE the bundled model is profiled first. Nothing else should run on the machine.
"""

import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from mosel.core.clock import to_s
from mosel.core.tables import read_profile
from mosel.evaluation.recorded import Recorded, read_run
from mosel.online.policies import DEFAULT

MODEL, BASELINE = "av-digits", "none+batching"
MOSEL = str(Path(sys.executable).with_name("mosel"))
LATENCY_SLO, DURATION = "1.0", "20"
LOADS = (0.5, 1.0, 2.0)
PAIRS = 5


def main(path: str | None = None) -> None:
    """Print both tables."""
    folder = Path(tempfile.mkdtemp(prefix="mosel-live-"))
    profile = Path(path) if path else folder / "profile.json"
    if not path:
        mosel("profile", MODEL, "-o", str(profile), "--quiet")
    print(f"{MODEL} on {read_profile(profile).profile.device.name}; runs in {folder}")
    scale = 1.0
    for policy in (DEFAULT, BASELINE):
        for load in LOADS:
            plan = workload(folder, profile, load, seed=1)
            live = replay(folder, profile, plan, policy)
            made = simulate(folder, profile, plan, policy)
            slower = live.latency_ratio(profile)
            scaled = simulate(folder, profile, plan, policy, slower)
            on_time = f"on time live {live.on_time:.3f}, simulated {made.on_time:.3f}"
            scale = slower
            with_those = f"{scaled.on_time:.3f} with the live run's latencies, {slower:.2f} times the profile's"
            accuracy = f"accuracy {live.accuracy:.4f}, {made.accuracy:.4f}"
            print(f"{policy:14} {load:g} × capacity: {on_time} ({with_those}); {accuracy}", flush=True)
    load = half_load(folder, profile, scale)
    ratios = []
    for seed in range(PAIRS):
        plan = workload(folder, profile, load, seed=10 + seed)
        base, ours = (replay(folder, profile, plan, policy) for policy in (BASELINE, DEFAULT))
        ratios.append(ours.on_time / base.on_time)
        print(
            f"{load:.2f} × capacity, seed {seed}: {BASELINE} {base.on_time:.3f}, {DEFAULT} {ours.on_time:.3f}, "
            f"{ratios[-1]:.2f} times as many",
            flush=True,
        )
    print(f"median of {PAIRS} pairs: {statistics.median(ratios):.2f}")


def half_load(folder: Path, profile: Path, scale: float) -> float:
    """Return the load at which the baseline, simulated as slow as it was live, serves about half on time."""
    low, high = 0.5, 12.0
    for _ in range(6):
        middle = (low + high) / 2
        served = simulate(folder, profile, workload(folder, profile, middle, seed=10), BASELINE, scale).on_time
        low, high = (middle, high) if served > 0.5 else (low, middle)
    return (low + high) / 2


def workload(folder: Path, profile: Path, load: float, seed: int) -> Path:
    """Write a bursty workload."""
    path = folder / f"workload-{load:.3f}-{seed}.csv"
    words = ("--profile", str(profile), "--load", f"{load:.3f}", "--duration", DURATION, "--quiet")
    mosel("workload", "bursty", *words, "--latency-slo", LATENCY_SLO, "--seed", str(seed), "-o", str(path))
    return path


class Shares:
    """On-time share and accuracy of a run, after checking that no job fell below its accuracy SLO."""

    def __init__(self, run: Recorded) -> None:
        self.on_time = run.summary.on_time
        self.accuracy = run.summary.accuracy or 0.0
        self._batches = run.batches
        for job in run.jobs:
            assert job.accuracy is None or job.accuracy >= job.job.accuracy_slo - 1e-9, job

    def latency_ratio(self, profile: Path) -> float:
        """Return by how much longer batches kept their worker than the profile says, in all."""
        table = read_profile(profile).profile
        took, expected = 0.0, 0.0
        for batch in self._batches:
            took += to_s(batch.finish_ns - batch.start_ns)
            expected += table.mode_named(batch.mode).latency_s[batch.size - 1]
        return took / expected


def simulate(folder: Path, profile: Path, plan: Path, policy: str, scale: float = 1.0) -> Shares:
    """Run a workload through the simulator, every latency times `scale`."""
    out = folder / f"simulated-{policy}-{plan.stem}-{scale:.3f}"
    words = ("--policy", policy, "--latency-scale", f"{scale:.4f}", "--quiet")
    mosel("simulate", str(profile), str(plan), *words, "-o", str(out))
    return Shares(read_run(out))


def replay(folder: Path, profile: Path, plan: Path, policy: str) -> Shares:
    """Run a workload against a server of its own."""
    out = folder / f"live-{policy}-{plan.stem}"
    with server(profile, policy) as url:
        mosel("replay", url, MODEL, str(plan), "-o", str(out), "--quiet")
    return Shares(read_run(out))


@contextmanager
def server(profile: Path, policy: str) -> Iterator[str]:
    """Run `mosel serve` until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    words = [MOSEL, "serve", MODEL, "--profile", str(profile), "--policy", policy, "--http", address]
    child = subprocess.Popen([*words, "--quiet"])
    try:
        wait_until_ready(f"http://{address}/v2/health/ready")
        yield f"http://{address}"
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(60)


def wait_until_ready(url: str, limit_s: float = 120) -> None:
    """Return when the server is ready."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise TimeoutError(f"{url} did not answer within {limit_s:g} s")


def mosel(*words: str) -> None:
    """Run a `mosel` command."""
    subprocess.run([MOSEL, *words], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
