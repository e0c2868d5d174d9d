"""The fenced blocks of a page, and the shell script that runs them in order."""

import itertools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

ADDRESS = "127.0.0.1:8000"
"""The address that the pages use; the tests put a free port in its place."""

NOT_RUN = ("make", "pip", "git")
"""Commands that install or take minutes: their targets and extras are checked to exist instead."""

_FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language, the file that its title names, its text, and what stands before it."""

    language: str
    title: str
    text: str
    after_block: bool = False
    """Whether nothing but blank lines separates it from the block before."""

    @property
    def runs(self) -> bool:
        """Whether the block is executed: commands, or Python that is no file."""
        return self.language == "bash" or (self.language == "python" and not self.title)

    @property
    def commands(self) -> list[str]:
        """The lines of a block of commands."""
        return [line for line in self.text.splitlines() if line and not line.startswith("#")]


def blocks_of(page: Path) -> list[Block]:
    """Return the page's blocks in order."""
    text, end = page.read_text(encoding="utf-8"), 0
    blocks: list[Block] = []
    for found in _FENCE.finditer(text):
        after_block = bool(blocks) and not text[end : found.start()].strip()
        blocks.append(Block(found[1], found[2] or "", found[3], after_block))
        end = found.end()
    return blocks


def expected_outputs(blocks: list[Block]) -> dict[int, str]:
    """Return, by index of an executed block, the output that the page shows below it."""
    pairs = enumerate(itertools.pairwise(blocks))
    return {i: after.text for i, (block, after) in pairs if block.runs and _is_output(after)}


def _is_output(block: Block) -> bool:
    return block.language == "text" and not block.title and block.after_block


def script_of(blocks: list[Block], address: str) -> str:
    """Return a bash script that runs the blocks; the output of block i goes to the file `outputs/i`."""
    lines = ["set -eu", "mkdir outputs", "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT"]
    for index, block in enumerate(blocks):
        lines.append(f"exec > outputs/{index}")
        lines.extend(_steps(block))
    return "\n".join(lines).replace(ADDRESS, address) + "\n"


def _steps(block: Block) -> list[str]:
    if block.title:
        return [f"cat > {shlex.quote(block.title)} << 'END-OF-BLOCK'", block.text.rstrip("\n"), "END-OF-BLOCK"]
    if block.language == "python":
        return ["python - << 'END-OF-BLOCK'", block.text.rstrip("\n"), "END-OF-BLOCK"]
    if block.language != "bash":
        return []
    return [step for line in block.commands if line.split()[0] not in NOT_RUN for step in _command(line)]


def _command(line: str) -> list[str]:
    if line.startswith("mosel serve") and line.endswith("&"):
        return [line, _WAIT]  # as a reader does, who waits until the server says that it is ready
    return [line]


_WAIT = f"""python - << 'END-OF-BLOCK'
import time, urllib.request
for _ in range(600):
    try:
        urllib.request.urlopen("http://{ADDRESS}/v2/health/ready")
        break
    except OSError:
        time.sleep(0.1)
else:
    raise SystemExit("the server did not become ready")
END-OF-BLOCK"""
