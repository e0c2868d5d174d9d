import subprocess
import sys

from mosel.models.registry import zoo

CODE = """
import sys
from mosel.models.registry import find
for name in {names}:
    find(name)
print("torch" in sys.modules)
"""


def test_a_model_is_declared_without_torch() -> None:
    """Finding every model of the zoo imports no torch: that is the worker's business."""
    found = subprocess.run(
        [sys.executable, "-c", CODE.format(names=zoo())], check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == "False"
