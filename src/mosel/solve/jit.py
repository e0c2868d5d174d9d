"""numba's `njit`, whose results on disk hold as long as all of this package's sources do.

numba keeps machine code by the file of the function that was compiled alone, although what that calls in other
files is compiled into it: after an upgrade that changes only those it would go on running their old code.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache


def compiled(function: Callable[..., Any]) -> Any:
    """Decorate a function to be compiled when it is first called; the result is kept on disk."""
    dispatcher = numba.njit(nogil=True)(function)
    dispatcher._cache = _PackageCache(function)
    return dispatcher


@cache
def sources_hash() -> str:
    """Return what changes with any source of this package."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


class _PackageCache(FunctionCache):  # type: ignore[misc]  # numba ships no types
    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), sources_hash())
