"""Which piece of a word each token is, and the text that tokens make. Torch is not needed here.

Published vocabularies are lists of a thousand SentencePiece pieces, in which `▁` begins a word; four special
tokens stand before them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mosel.core.errors import FileError
from mosel.core.files import read_bytes
from mosel.models.avhubert.shape import SPECIAL

BEGINS = "▁"
FILE_LIMIT_BYTES = 1 << 22
PUBLISHED_PIECES = 996
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The pieces behind the special tokens, in order."""

    pieces: tuple[str, ...]

    def __len__(self) -> int:
        return SPECIAL + len(self.pieces)

    @property
    def longest_bytes(self) -> int:
        """The bytes of the longest piece."""
        return max(len(piece.encode()) for piece in self.pieces)

    def text(self, tokens: Iterable[int]) -> str:
        """Return what these tokens say; special ones say nothing."""
        joined = "".join(self.pieces[token - SPECIAL] for token in tokens if token >= SPECIAL)
        return joined.replace(BEGINS, " ").strip()


def words(names: Iterable[str]) -> Vocabulary:
    """Return a vocabulary of whole words."""
    return Vocabulary(tuple(BEGINS + name for name in names))


def placeholder() -> Vocabulary:
    """Return as many made-up words as a published vocabulary has pieces, for weights that know none."""
    return words(f"w{number}" for number in range(PUBLISHED_PIECES))


def read_vocabulary(path: Path) -> Vocabulary:
    """Return the vocabulary of a fairseq dictionary: a piece and a count on each line, divided by a blank.

    Raises:
        FileError: it cannot be read, or a line is another; the line is named.
    """
    try:
        lines = read_bytes(path, FILE_LIMIT_BYTES).decode().splitlines()
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: is no UTF-8 text; expected a piece and a count on each line") from error
    pieces = []
    for number, line in enumerate(lines, 1):
        piece, _, count = line.rpartition(" ")
        if not piece or not count.isdecimal():
            raise FileError(f"{path}: line {number} is {line[:40]!r}; expected a piece, a blank and a count")
        pieces.append(piece)
    if not pieces:
        raise FileError(f"{path}: is empty; expected a piece and a count on each line")
    return Vocabulary(tuple(pieces))
