"""Write the small vocabulary that comes with the package, from the words of its own documentation.

It holds every printable ASCII character, inside and at the start of words, so that no English text is unknown,
then the commonest words and ends of words. Networks that were trained with it need it as it is: making it anew
means training them anew. Run it as: `.venv/bin/python scripts/zoo/vocabulary.py`
"""

import collections
import itertools
import re
from pathlib import Path

from mosel.models.wordpiece import BUNDLED, FIRST, LAST, PAD, UNKNOWN

ROOT = Path(__file__).parent.parent.parent
SIZE = 1024
LEAST_LETTERS, LONGEST_END = 2, 4
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def pieces() -> list[str]:
    """Return the vocabulary, `SIZE` pieces."""
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    letters = [character for character in characters if character.isalnum()]
    first = [PAD, UNKNOWN, FIRST, LAST, "[MASK]", *characters, *(f"##{letter}" for letter in letters), *DIGITS]
    return list(itertools.islice(dict.fromkeys(itertools.chain(first, _common())), SIZE))


def _common() -> list[str]:
    """Return whole words and ends of words, those that save most letters first."""
    words = collections.Counter(
        word
        for page in sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
        for word in re.findall(r"[a-z]{2,}", page.read_text(encoding="utf-8").lower())
    )
    saved: collections.Counter[str] = collections.Counter()
    for word, count in words.items():
        saved[word] += count * len(word)
        for length in range(LEAST_LETTERS, min(LONGEST_END, len(word) - 1) + 1):
            saved[f"##{word[-length:]}"] += count * length
    return [piece for piece, _ in sorted(saved.items(), key=lambda item: (-item[1], item[0]))]


if __name__ == "__main__":
    BUNDLED.write_text("\n".join(pieces()) + "\n", encoding="utf-8")
    print(BUNDLED)
