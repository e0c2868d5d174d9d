"""`solve/jit.py`: machine code on disk is as fresh as all sources beside it."""

import shutil
import subprocess
import sys
from pathlib import Path

from mosel.solve import jit

CALLER = """
from package.helper import helper
from package.jit import compiled

@compiled
def caller(x):
    return helper(x)
"""


def helper_of(result: int) -> str:
    """Source of the function that is called: it adds `result`."""
    return f"from package.jit import compiled\n\n@compiled\ndef helper(x):\n    return x + {result}\n"


def test_what_is_compiled_in_is_compiled_anew_when_its_file_changes(tmp_path: Path) -> None:
    """By itself numba goes on with the old helper, as the caller's own file is the same."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(str(jit.__file__), package / "jit.py")
    (package / "caller.py").write_text(CALLER)
    said = "from package.caller import caller; print(caller(1), len(caller.stats.cache_hits))"
    found = []
    for result in (1, 1, 2):
        (package / "helper.py").write_text(helper_of(result))
        done = subprocess.run([sys.executable, "-c", said], cwd=tmp_path, capture_output=True, check=True)
        found.append(done.stdout.decode().split())
    assert found == [["2", "0"], ["2", "1"], ["3", "0"]]
