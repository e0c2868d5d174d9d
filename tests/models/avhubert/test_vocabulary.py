from pathlib import Path

import pytest

from mosel.core.errors import FileError
from mosel.models.avhubert.vocabulary import placeholder, read_vocabulary, words


def test_pieces_join_to_words() -> None:
    """A piece with the mark begins a word; special tokens say nothing."""
    vocabulary = words(["one", "two"])
    assert vocabulary.text([0, 4, 1, 5, 3, 4, 2]) == "one two one"
    assert vocabulary.text([]) == ""


def test_a_dictionary_of_fairseq_is_read(tmp_path: Path) -> None:
    """Pieces in the order of their lines, behind four special tokens."""
    file = tmp_path / "dict.wrd.txt"
    file.write_text("▁the 1\ns 1\n▁a 1\n' 12\n")
    vocabulary = read_vocabulary(file)
    assert len(vocabulary) == 8
    assert vocabulary.text([4, 5, 6, 7]) == "thes a'"
    assert vocabulary.longest_bytes == len("▁the".encode())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected a piece and a count"),
        (b"\xff\xfe", "is no UTF-8 text"),
        ("▁the 1\n▁a\n".encode(), "line 2 is '▁a'; expected a piece, a blank and a count"),
        ("▁the one\n".encode(), "line 1 is '▁the one'"),
    ],
)
def test_what_is_no_dictionary_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """The file and the line are named."""
    file = tmp_path / "dict.txt"
    file.write_bytes(content)
    with pytest.raises(FileError, match=f"dict.txt: {message}"):
        read_vocabulary(file)


def test_the_placeholder_is_as_large_as_a_published_one() -> None:
    """A thousand entries, special ones included, so that random weights cost what real ones do."""
    assert len(placeholder()) == 1000
