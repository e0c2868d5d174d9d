import numpy as np
import pytest
from numpy.typing import NDArray

from mosel.models.vilt import SHAPES, noise, vilt
from mosel.models.vilt.preprocess import image, text
from mosel.models.wordpiece import BUNDLED, read_vocabulary
from mosel.runtime.runner import CorruptInputError, prepare
from tests.models.test_images import encoded

SMALL = SHAPES["small"]


def written(*texts: str) -> dict[str, NDArray[np.uint8]]:
    """Return texts as one job's, the shorter ones filled up with zeros."""
    raw = [each.encode() for each in texts]
    longest = max(map(len, raw))
    return {"text": np.stack([np.frombuffer(each.ljust(longest, b"\0"), np.uint8) for each in raw])}


def test_text_becomes_word_pieces_between_two_marks() -> None:
    """[CLS] first, [SEP] last, 0 behind it; a long text is cut where there is no more room."""
    found = text(written("two", "two three " * 60), most=40, vocabulary=BUNDLED)["text"]
    numbers = read_vocabulary(BUNDLED).numbers
    assert found.shape == (2, 40)
    assert found[0, :4].tolist() == [numbers["[CLS]"], numbers["two"], numbers["[SEP]"], 0]
    assert found[1, -1] == numbers["[SEP]"]


def test_an_image_is_made_square_as_a_whole() -> None:
    """Nothing is cut off: the left of a wide image stays on the left. Channels come first."""
    pixels = np.zeros((40, 160, 3), np.uint8)
    pixels[:, :80, 0] = 250
    found = image({"image": encoded(pixels, "PNG")[None]}, side=32)["image"]
    assert found.shape == (1, 3, 32, 32)
    assert (found[0, 0, :, :14] == 250).all()
    assert (found[0, 0, :, 18:] == 0).all()
    assert (found[0, 1:] == 0).all()


@pytest.mark.parametrize(
    ("modality", "raw", "words"),
    [
        ("text", b"caf\xe9", "request 0 is no UTF-8 text"),
        ("text", b"  \n", "request 0 holds no text"),
        ("image", b"not an image", "request 0 is no image that can be read: expected a file of JPEG"),
    ],
)
def test_what_cannot_be_made_sense_of_is_refused(modality: str, raw: bytes, words: str) -> None:
    """The message names the modality and what is wrong with it."""
    arrays = {modality: np.frombuffer(raw, np.uint8)[None]}
    with pytest.raises(CorruptInputError) as raised:
        prepare(vilt("small"), modality, arrays)
    assert raised.value.modality == modality
    assert f"modality {modality!r}" in str(raised.value)
    assert words in str(raised.value)


def test_a_modality_needs_nothing_of_the_other() -> None:
    """Each is prepared from its own tensors alone, so one that is not chosen is never touched."""
    model, samples = vilt("small"), noise(SMALL)
    for name in model.modality_names:
        assert set(prepare(model, name, {name: np.asarray(samples.inputs[name][name][0])[None]})) == {name}
