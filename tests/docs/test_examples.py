import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import NOT_RUN, PAGES, ROOT, Block, blocks_of, expected_outputs, script_of

LIMIT_S = 280

pytestmark = [pytest.mark.process, pytest.mark.timeout(LIMIT_S + 20)]


@pytest.mark.parametrize("page", [p for p in PAGES if any(b.runs for b in blocks_of(p))], ids=lambda p: p.name)
def test_examples_run_as_shown(page: Path, tmp_path: Path) -> None:
    """Every command and example of the page runs, in order, and prints what the page says."""
    blocks = blocks_of(page)
    address = f"127.0.0.1:{_free_port()}"
    script = script_of(blocks, address)
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=_environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, told = process.communicate(timeout=LIMIT_S)
    finally:
        _end_group(process.pid)
    assert process.returncode == 0, f"{page.name} failed:\n{told[-3000:]}"
    for index, expected in expected_outputs(blocks).items():
        output = (tmp_path / "outputs" / str(index)).read_text()
        assert _matches(expected, output), f"{page.name} shows\n{expected}\nbut it prints\n{output}"


def test_make_targets_of_the_pages_exist() -> None:
    """Every `make` target that a page names is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for line in _not_run("make") for word in line.split()[1:2]}
    assert {"demo", "test"} <= named <= targets


def test_extras_of_the_pages_exist() -> None:
    """Every extra that a page tells to install is declared."""
    declared = (ROOT / "pyproject.toml").read_text()
    named = {extra for line in _not_run("pip") for extra in re.findall(r"mosel\[(\w+)\]", line)}
    assert named
    assert all(re.search(rf"^{extra} = \[", declared, re.MULTILINE) for extra in named)


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        ("a  b", "a b\n", True),
        ("... in ... ms", "0.9 in 4 ms", True),
        ("a ... c", "a b d", False),
        ("a", "a b", False),
        ("a.c", "abc", False),
    ],
)
def test_outputs_are_compared_with_ellipses(expected: str, output: str, same: bool) -> None:
    """Shown output has to match whole, blanks aside, and only `...` stands for anything."""
    assert _matches(expected, output) is same


def test_a_failing_command_fails_its_page(tmp_path: Path) -> None:
    """A block whose command fails ends the page's script with an error."""
    script = script_of([Block("bash", "", "false\n"), Block("bash", "", "true\n")], "127.0.0.1:1")
    assert subprocess.run(["bash", "-c", script], cwd=tmp_path, check=False).returncode != 0


def _matches(expected: str, output: str) -> bool:
    parts = [re.escape(part) for part in " ".join(expected.split()).split("...")]
    return re.fullmatch(".*".join(parts), " ".join(output.split())) is not None


def _not_run(command: str) -> list[str]:
    assert command in NOT_RUN
    lines = [line for page in PAGES for b in blocks_of(page) if b.language == "bash" for line in b.commands]
    return [line for line in lines if line.split()[0] == command]


def _environment(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "HOME": str(home), "MOSEL_CACHE": str(home / "cache")}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _end_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return  # every process of the page has ended by itself
