"""What benchmarks that write into the docs share: where they ran, and blocks between markers."""

import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

CPU_INFO = Path("/proc/cpuinfo")


def machine(*packages: str) -> dict[str, Any]:
    """Return the processor, its cores, today's date and the versions of packages."""
    software = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    day = datetime.now(UTC).date().isoformat()
    return {"device": next(_names(), "unknown"), "cores": os.cpu_count(), "date": day, "software": software}


def where(results: dict[str, Any]) -> str:
    """Say in words what `machine` put into results."""
    software = ", ".join(f"{name} {number}" for name, number in results["software"].items())
    return f"{results['device']}, {results['cores']} cores, {results['date']}; {software}"


def with_block(page: str, name: str, block: str) -> str:
    """Return the page with what stands between its markers of this name replaced."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, after = page.split(begin)[0], page.split(end)[1]
    return f"{before}{begin}\n{block}\n{end}{after}"


def _names() -> Iterator[str]:
    if CPU_INFO.exists():
        for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                yield line.partition(":")[2].strip()
    yield platform.processor() or platform.machine()
