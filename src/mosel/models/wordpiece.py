"""From text to the word-pieces of BERT's uncased models, by the vocabulary of a file.

A vocabulary is one piece a line, its number being its line; pieces inside a word begin with `##`. The bundled
one is small and for networks trained with it; a published network needs its own (`vocab.txt`). Nothing is ever
fetched. Torch is not needed here.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import FileError, ModelError
from mosel.core.files import read_bytes, sha256

BUNDLED = Path(__file__).with_name("vocabulary.txt")
READ_LIMIT_BYTES = 1 << 24
PAD, UNKNOWN, FIRST, LAST = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
LONGEST_WORD = 100
"""A longer word is unknown as a whole."""

NO_SPACE = re.compile("[^ \t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
CJK = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF), (0x2A700, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip
"""Ideographs, each of which is a word."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Pieces by number, and numbers by piece. Made by `read_vocabulary`."""

    numbers: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def first(self) -> int:
        """The number of [CLS]."""
        return self.numbers[FIRST]

    def encode(self, text: str, most: int) -> list[int]:
        """Return at most `most` numbers: [CLS], the text's pieces as far as there is room, [SEP]."""
        pieces = islice(self._pieces(text), most - 2)
        return [self.first, *pieces, self.numbers[LAST]]

    def _pieces(self, text: str) -> Iterator[int]:
        for word in _words(text):
            yield from self._of_word(word)

    def _of_word(self, word: str) -> list[int]:
        found: list[int] = []
        start = 0
        while start < len(word):
            end = len(word) if len(word) <= LONGEST_WORD else start
            while end > start and (number := self._number(word, start, end)) is None:
                end -= 1
            if end == start:
                return [self.numbers[UNKNOWN]]
            found.append(number or 0)
            start = end
        return found

    def _number(self, word: str, start: int, end: int) -> int | None:
        return self.numbers.get(f"##{word[start:end]}" if start else word[:end])


@functools.cache
def read_vocabulary(path: Path = BUNDLED) -> Vocabulary:
    """Return the vocabulary of a file.

    Raises:
        FileError: it cannot be read, is no UTF-8, lacks a special piece, or does not begin with [PAD].
    """
    try:
        lines = read_bytes(path, READ_LIMIT_BYTES).decode().splitlines()
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: is no UTF-8: {error}; expected one word-piece a line") from error
    numbers = {piece: number for number, piece in enumerate(lines)}
    missing = [piece for piece in (PAD, UNKNOWN, FIRST, LAST) if piece not in numbers]
    if missing or numbers[PAD]:
        raise FileError(
            f"{path}: expected one word-piece a line, {PAD} in the first and {UNKNOWN}, {FIRST} and {LAST} "
            f"in some other; {'lacks ' + ', '.join(missing) if missing else f'begins with {lines[0]!r}'}"
        )
    if len(numbers) < len(lines):
        raise FileError(f"{path}: holds {len(lines) - len(numbers)} pieces twice; expected each once")
    return Vocabulary(numbers)


def check_vocabulary(model: str, vocabulary: Path, pieces: int, checkpoint: Path | None) -> None:
    """Check that a network with embeddings for so many pieces goes with a vocabulary.

    Raises:
        ModelError: the vocabulary has more pieces; or weights are given, and it has not as many as they have.
        FileError: the vocabulary cannot be read.
    """
    given = len(read_vocabulary(vocabulary))
    if given > pieces or (checkpoint and given != pieces):
        raise ModelError(
            f"model {model}: a vocabulary of {given:,} pieces ({vocabulary.name}) for a network of {pieces:,}; "
            "give the one that its weights were trained with: vocabulary=FILE"
        )


def version_with(vocabulary: Path, version: str) -> str:
    """Return the version of a model whose answers depend on its vocabulary too."""
    if vocabulary == BUNDLED:
        return version
    return f"{version}-{sha256(read_bytes(vocabulary, READ_LIMIT_BYTES))[:6]}"


def encode_all(texts: NDArray[np.uint8], most: int, vocabulary: Path = BUNDLED) -> NDArray[np.int64]:
    """Return the numbers of UTF-8 texts, of shape (requests, pieces), 0 filling up behind each.

    Args:
        texts: of shape (requests, bytes); bytes of 0 behind a text fill it up and count as nothing.
        most: pieces of a text, [CLS] and [SEP] among them; what is beyond is cut off.
        vocabulary: the file of the pieces.

    Raises:
        ValueError: naming the first request that is no UTF-8 or holds no text.
    """
    pieces = read_vocabulary(vocabulary)
    encoded = [pieces.encode(_decoded(text, request), most) for request, text in enumerate(texts)]
    out = np.zeros((len(encoded), max(map(len, encoded))), np.int64)
    for place, numbers in zip(out, encoded, strict=True):
        place[: len(numbers)] = numbers
    return out


def _decoded(text: NDArray[Any], request: int) -> str:
    try:
        found = text.tobytes().rstrip(b"\0").decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"request {request} is no UTF-8 text: {error.reason} at byte {error.start}") from error
    if not found.strip():
        raise ValueError(f"request {request} holds no text; leave this modality out")
    return found


def _words(text: str) -> Iterator[str]:
    """Yield words, ideographs and marks of punctuation, in small letters without accents."""
    for run in NO_SPACE.finditer(text):
        plain = unicodedata.normalize("NFD", "".join(filter(_is_printed, run[0])).lower())
        letters: list[str] = []
        for letter in plain:
            if unicodedata.category(letter) == "Mn":
                continue
            if _stands_alone(letter):
                yield from filter(None, ("".join(letters), letter))
                letters.clear()
            else:
                letters.append(letter)
        if letters:
            yield "".join(letters)


def _is_printed(letter: str) -> bool:
    return letter != "\ufffd" and not unicodedata.category(letter).startswith("C")


def _stands_alone(letter: str) -> bool:
    code = ord(letter)
    if code < 128:
        return not letter.isalnum()
    return unicodedata.category(letter).startswith("P") or any(low <= code <= high for low, high in CJK)
