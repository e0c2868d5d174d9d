"""Compile a copy of the package in build/compiled, and run a command that finds it before the sources.

    python scripts/compiled.py pytest tests/online
    python scripts/compiled.py python benchmarks/serving.py

What is compiled stands in setup.py. It is compiled anew where a source has changed, which takes minutes.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPY = ROOT / "build" / "compiled"
SHIPPED = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE", "src")


def main(words: list[str]) -> None:
    """Compile if need be, then become the command, if there is one."""
    if not is_current():
        compile_copy()
    if words:
        os.environ["PYTHONPATH"] = str(COPY / "src")
        os.execvp(words[0], words)


def is_current() -> bool:
    """Whether the copy was compiled, and is of the sources as they are."""
    made = COPY / "made"
    sources = [ROOT / "setup.py", ROOT / "pyproject.toml", *(ROOT / "src").rglob("*.py")]
    return made.exists() and all(source.stat().st_mtime <= made.stat().st_mtime for source in sources)


def compile_copy() -> None:
    """Copy what ships and compile it there."""
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    for name in SHIPPED:
        source, ignored = ROOT / name, shutil.ignore_patterns("__pycache__", "*.egg-info")
        if source.is_dir():
            shutil.copytree(source, COPY / name, ignore=ignored)
        else:
            shutil.copy(source, COPY / name)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(command, cwd=COPY, env={**os.environ, "MOSEL_COMPILE": "1"}, check=True)
    # What numba compiles is kept beside the copy: the first server to start should not have to.
    warm_up = [sys.executable, "-c", "from mosel.solve.warm_up import warm_up; warm_up()"]
    subprocess.run(warm_up, env={**os.environ, "PYTHONPATH": str(COPY / "src")}, check=True)
    (COPY / "made").touch()


if __name__ == "__main__":
    main(sys.argv[1:])
