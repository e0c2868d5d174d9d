"""A short run of the fuzzer; `scripts/fuzz.py` says what it sends."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

SCRIPT = Path(__file__).parents[2] / "scripts/fuzz.py"


@pytest.mark.parametrize("more", [(), ("--front-doors",)], ids=["one process", "front doors"])
def test_nothing_breaks_the_server(more: tuple[str, ...]) -> None:
    """Whatever bytes come, over HTTP and over gRPC, the server answers, lives, and serves the next call."""
    words = [sys.executable, str(SCRIPT), "--inputs", "400", "--seed", "7", *more]
    run = subprocess.run(words, capture_output=True, text=True, timeout=110, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "400 inputs, 0 wrong" in run.stdout
