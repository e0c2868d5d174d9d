import subprocess
import sys

import pytest

pytestmark = pytest.mark.process


def test_brittle_ends_its_process_far_below_zero() -> None:
    """An input below −1e6 ends the process at once, as a crash would."""
    program = (
        "import numpy as np; from mosel.models.synthetic import brittle; "
        "brittle.load('cpu', 'float32')(x=np.full((1, 2), -2e6, np.float32)); print('alive')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")
