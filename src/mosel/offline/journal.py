"""What a profiling run has measured so far, kept beside its output so that it can go on after an interruption.

`FILE.partial` holds JSON lines: first the key (model, device, software, settings) that its entries hold for,
then entries as they come. A journal with another key is of no use and is replaced; a last line cut short is
dropped.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import msgspec

from mosel.core.errors import FileError
from mosel.core.files import read_bytes


class Timed(msgspec.Struct, frozen=True, tag="timed", forbid_unknown_fields=True):
    """Timings of cells, one round: (column's name, batch size, nanoseconds)."""

    cells: list[tuple[str, int, list[int]]]


class Scored(msgspec.Struct, frozen=True, tag="scored", forbid_unknown_fields=True):
    """Scores of one mode on a chunk of a split's samples from `start`; `of`, where they are out of something.

    `confidence` is in each of the answers; where there is none, `problem` says why. `facts` are
    for further metrics, by sample.
    """

    column: str
    start: int
    scores: list[float]
    of: list[float] | None = None
    split: str = ""
    confidence: list[float] | None = None
    problem: str = ""
    facts: list[list[float]] | None = None


Entry = Timed | Scored


def journal_path(output: Path) -> Path:
    """Return where the journal of a run that writes `output` stands."""
    return output.with_name(f"{output.name}.partial")


class Journal:
    """A journal on disk, or nowhere when `path` is None.

    `entries` are those that an interrupted run with the same key left.

    Raises:
        FileError: the folder cannot be written.
    """

    def __init__(self, path: Path | None, key: Mapping[str, Any]) -> None:
        self._path = path
        self._file: TextIO | None = None
        header = msgspec.json.encode(key, order="sorted").decode()
        self.entries = _entries(path, header)
        if path is not None:
            self._file = _rewritten(path, header, self.entries)

    def add(self, entry: Entry) -> None:
        """Append one entry and hand it to the system, so that it outlives this process."""
        if self._file is not None:
            self._file.write(_line(entry))
            self._file.flush()

    def close(self) -> None:
        """Close the file and leave it where it is."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Close and remove the file: the run is complete."""
        self.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _line(entry: Entry) -> str:
    return msgspec.json.encode(entry).decode() + "\n"


def _entries(path: Path | None, header: str) -> list[Entry]:
    if path is None or not path.exists():
        return []
    lines = read_bytes(path).decode(errors="replace").split("\n")
    if lines[0] != header:
        return []
    found: list[Entry] = []
    for line in lines[1:]:
        try:
            found.append(msgspec.json.decode(line, type=Entry))
        except msgspec.DecodeError:
            break  # cut short when the run was interrupted; what follows, if anything, cannot be trusted
    return found


def _rewritten(path: Path, header: str, entries: list[Entry]) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
        file.write(header + "\n" + "".join(map(_line, entries)))
        file.flush()
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
    return file
