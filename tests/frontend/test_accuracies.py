from pathlib import Path

import msgspec
import pytest

from mosel.core.errors import FileError, UsageError
from mosel.core.tables import Profile, check_profile
from mosel.frontend.accuracies import check_claimed, with_accuracies


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


def random_weights(profile: Profile) -> Profile:
    """Return the profile as one that claims no accuracy, at two precisions."""
    modes = tuple(
        msgspec.structs.replace(mode, accuracy=0.0, accuracy_low=0.0, samples=0, precision=precision)
        for precision in ("float32", "int8")
        for mode in profile.modes
    )
    return msgspec.structs.replace(profile, modes=modes, extra={"accuracy_source": "none"})


def test_accuracies_of_random_weights_are_not_promised(profile: Profile) -> None:
    """A profile that claims none is refused with the way out; one that measured its own is not."""
    check_claimed(profile)
    with pytest.raises(UsageError, match=r"random weights.*--accuracy FILE"):
        check_claimed(random_weights(profile))


def test_a_name_without_a_precision_stands_for_every_precision(profile: Profile, tmp_path: Path) -> None:
    """What is named with its precision goes before it; then all is claimed."""
    path = tmp_path / "accuracy.json"
    path.write_text('{"text": 0.6, "sound": 0.7, "text+sound": 0.8, "text@int8": 0.5}')
    found = with_accuracies(random_weights(profile), path)
    assert [mode.accuracy for mode in found.modes] == [0.6, 0.7, 0.8, 0.5, 0.7, 0.8]
    check_claimed(found)


def test_random_weights_need_an_accuracy_for_every_mode(profile: Profile, tmp_path: Path) -> None:
    """A mode that is left out would claim 0 as if it were known."""
    path = tmp_path / "accuracy.json"
    path.write_text('{"text": 0.6, "sound@int8": 0.7, "text+sound": 0.8}')
    with pytest.raises(FileError, match="lacks sound@float32; expected every mode"):
        with_accuracies(random_weights(profile), path)
