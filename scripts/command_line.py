"""Write `docs/command-line.md` from the commands' own help, so that the two cannot differ.

Run it after changing a command: `.venv/bin/python scripts/command_line.py`
"""

import re
from pathlib import Path

from mosel.cli import COMMANDS, app_for

PAGE = Path(__file__).parent.parent / "docs" / "command-line.md"

HEAD = """# Command line

`mosel --help` lists the commands, `mosel COMMAND --help` shows what is below. MODEL is a name from the zoo
(`av-digits`) or `package.module:object`. Results go to stdout or to `-o`, all else to stderr. Progress bars
appear on a terminal only, and not with `--quiet`. A mistake is told in one line, with
[exit status](formats.md#exit-status) 2.

<!-- Written by scripts/command_line.py from the commands' docstrings. -->
"""


def page() -> str:
    """Return the text of the page."""
    return "\n".join([HEAD, *(_section(name) for name in COMMANDS)])


def _section(name: str) -> str:
    command = app_for(name)[name]
    text = command.generate_docs(heading_level=2, recursive=False, usage_name=f"mosel {name}")
    text = re.sub(
        r"^## .*\n\n```console\n(.*?)\n```", rf"## mosel {name}\n\n```text\n\1\n```", text, flags=re.DOTALL
    )
    text = re.sub(r" \*\[default: (False|\(\))\]\*", "", text)  # says nothing
    text = re.sub(r"^Example: (mosel .*)$", r"```text\n\1\n```", text, flags=re.MULTILINE)
    text = re.sub(r", --(no|empty)-[a-z-]+", "", text)  # `app_for` turns these negatives off
    return text.replace("[OPTIONS] [ARGS]", "[OPTIONS]").strip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
