from pathlib import Path

import pytest

from mosel.core.errors import FileError
from mosel.core.tables import Profile, check_profile
from mosel.frontend.accuracies import with_accuracies


def test_accuracies_of_a_file(profile: Profile, tmp_path: Path) -> None:
    """The modes that the file names take its accuracies, the others keep theirs; the source is recorded."""
    path = tmp_path / "accuracy.json"
    path.write_text('{"text": 0.65, "text+sound": 1}')
    found = with_accuracies(profile, path)
    check_profile(found, "found")
    assert [mode.accuracy for mode in found.modes] == [0.65, 0.8, 1.0]
    assert [mode.samples for mode in found.modes] == [0, 100, 0]
    assert found.extra == {"accuracy_source": str(path)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"video": 0.5}', "key `video` is no mode of model 'm'; expected some of text, sound, text\\+sound"),
        ('{"text": 1.5}', "key `text` is 1.5; expected an accuracy from 0 to 1"),
        ('{"text": "high"}', "Expected `float`"),
        ('{"text": NaN}', "malformed"),
        ("[0.5]", "expected {"),
        ("[" * 100_000, "expected {"),
    ],
)
def test_bad_files(profile: Profile, tmp_path: Path, text: str, said: str) -> None:
    """A file that does not fit is refused by name, with the key and what was expected."""
    path = tmp_path / "accuracy.json"
    path.write_text(text)
    with pytest.raises(FileError, match=said) as caught:
        with_accuracies(profile, path)
    assert str(path) in str(caught.value)
