"""Builds the package; with MOSEL_COMPILE=1 the modules that every call passes through are compiled, by mypyc.

That takes a C compiler, and mypy beside setuptools: `MOSEL_COMPILE=1 pip install --no-build-isolation .`
The same sources run uncompiled and do the same (`make compiled`).
"""

import os
from pathlib import Path

from setuptools import Extension, setup

COMPILED = """
    core/arrays core/build core/clock frontend/answered frontend/best frontend/bodies
    frontend/checks frontend/connection frontend/heads frontend/history frontend/http
    frontend/known_calls frontend/metrics frontend/parameters frontend/protocol frontend/quotas
    frontend/receipts frontend/replies frontend/repository frontend/running frontend/service
    frontend/statistics frontend/tallies frontend/tensors online/admission online/amortised
    online/backlog online/batch_worker online/cells online/cellular online/columns online/covers
    online/crew online/decisions online/demand online/drift online/engine online/estimator
    online/execution online/fairness online/frames online/growing online/jobs online/kinds
    online/lanes online/policies/joint online/process_channel online/progress online/queue
    online/resuming online/rows online/scheduler online/slab online/staff online/stages
    online/tables online/tensors online/turns online/watched_channel runtime/padding runtime/runner
    solve/idle solve/reaching
"""
"""Modules of plain functions and classes. Those that define msgspec's structs are no faster compiled: a struct
is C already, and mypyc cannot make one. Generator expressions become lists there: none may be without end.
"""


def extensions() -> list[Extension]:
    """Return what is to be compiled; nothing unless that is asked for."""
    if os.environ.get("MOSEL_COMPILE", "0") != "1":
        return []
    from mypyc.build import mypycify  # needed for this alone

    folder = Path("src/mosel")
    modules = [str(folder / f"{name}.py") for name in COMPILED.split()]
    found: list[Extension] = mypycify(
        ["--config-file", "pyproject.toml", *modules], opt_level="1", debug_level="0", group_name="mosel"
    )
    return found


setup(ext_modules=extensions())
