"""How long `mosel --help` takes: it is to stay under half a second, because nothing heavy is imported."""

import statistics
import subprocess
import sys
import time

RUNS = 15


def main() -> None:
    """Start the command several times and print the median and the longest time."""
    took_s = [_start() for _ in range(RUNS)]
    print(f"mosel --help: median {statistics.median(took_s):.3f} s, longest {max(took_s):.3f} s of {RUNS}")


def _start() -> float:
    begin_s = time.perf_counter()
    command = [sys.executable, "-c", "from mosel.cli import main; main(['--help'])"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin_s


if __name__ == "__main__":
    main()
