from pathlib import Path

import numpy as np
import pytest

from mosel.core.errors import FileError
from mosel.models.wordpiece import BUNDLED, encode_all, read_vocabulary

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "hello",
    "##lo",
    "hel",
    "un",
    "##able",
    ",",
    "!",
    "cafe",
    "漢",
    "##s",
    "a",
]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    """Return a file of `PIECES`."""
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, HELLO!", ["hello", ",", "hello", "!"]),
        ("hellos", ["hello", "##s"]),
        ("unable", ["un", "##able"]),
        ("unlike a", ["[UNK]", "a"]),
        ("Caf\u00e9 cafe\u0301s", ["cafe", "cafe", "##s"]),
        ("a漢a", ["a", "漢", "a"]),
        ("a\u00a0a\u3000a\u2028a", ["a", "a", "a", "a"]),
        ("he\u200bl\x00lo\x85", ["hello"]),
        ("a" * 101 + " a", ["[UNK]", "a"]),
    ],
)
def test_text_is_cut_as_berts_uncased_models_cut_it(vocabulary: Path, text: str, expected: list[str]) -> None:
    """Small letters, no accents, punctuation and ideographs alone, the longest piece first."""
    numbers = read_vocabulary(vocabulary).encode(text, 40)
    assert [PIECES[number] for number in numbers] == ["[CLS]", *expected, "[SEP]"]


def test_a_long_text_is_cut_off(vocabulary: Path) -> None:
    """The marks at both ends are among the pieces that there is room for."""
    found = read_vocabulary(vocabulary).encode("hello " * 100, 6)
    assert [PIECES[number] for number in found] == ["[CLS]", "hello", "hello", "hello", "hello", "[SEP]"]


def test_texts_of_a_job_are_filled_up_with_zeros(vocabulary: Path) -> None:
    """A text is encoded as if it were alone."""
    texts = np.frombuffer(b"hello\0\0hello a", np.uint8).reshape(2, 7)
    assert encode_all(texts, 40, vocabulary).tolist() == [[2, 4, 3, 0], [2, 4, 14, 3]]


def test_no_english_text_is_unknown_to_the_bundled_vocabulary() -> None:
    """Every printable ASCII character is a piece, inside a word too; [PAD] is 0."""
    bundled = read_vocabulary(BUNDLED)
    everything = "".join(map(chr, range(33, 127))) + " Zyzzyva quux3 7up"
    assert bundled.numbers["[UNK]"] not in bundled.encode(everything, 500)
    assert bundled.numbers["[PAD]"] == 0
    assert len(bundled) == 1024


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "lacks [PAD], [UNK], [CLS], [SEP]"),
        (b"[PAD]\n[UNK]\n[CLS]\n", "lacks [SEP]"),
        (b"[UNK]\n[PAD]\n[CLS]\n[SEP]\n", "begins with '[UNK]'"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\na\n", "holds 1 pieces twice"),
        (b"\xff\xfe", "is no UTF-8"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path, raw: bytes, words: str) -> None:
    """The file is named, and what is wrong with it."""
    path = tmp_path / "vocab.txt"
    path.write_bytes(raw)
    with pytest.raises(FileError) as raised:
        read_vocabulary(path)
    assert str(path) in str(raised.value)
    assert words in str(raised.value)
