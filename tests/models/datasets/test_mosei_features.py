from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from mosel.core.errors import FileError
from mosel.models.base import Samples
from mosel.models.datasets import with_data
from mosel.models.datasets.mosei_features import AUDIO, FOLD, LABELS, VIDEO, WORDS
from mosel.models.selfmm import selfmm


def sequence(path: Path, root: str, intervals: Any, features: NDArray[Any]) -> None:
    """Write a computational sequence of one video, `vid`."""
    with h5py.File(path, "w") as file:
        group = file.create_group(f"{root}/data/vid")
        group["intervals"] = np.asarray(intervals, np.float32)
        group["features"] = features


def small(folder: Path) -> None:
    """One video of two segments, the second without a word; sound at 100 Hz, the face at 30."""
    sequence(folder / LABELS, "All Labels", [(0, 2), (2, 3)], np.array([[1.0, 0], [-2.0, 0]], np.float32))
    spoken = np.array([[b"so"], [b"sp"], [b"good"]])
    sequence(folder / WORDS, "words", [(0, 0.4), (0.4, 0.6), (0.6, 1.9)], spoken)
    heard = np.repeat(np.arange(300.0, dtype=np.float32)[:, None], 74, axis=1)
    heard[0, 0] = -np.inf
    sequence(folder / AUDIO, "COVAREP", [(t / 100, (t + 1) / 100) for t in range(300)], heard)
    sequence(
        folder / VIDEO, "FACET 4.2", [(t / 30, (t + 1) / 30) for t in range(90)], np.ones((90, 35), np.float32)
    )
    (folder / FOLD).write_text("vid\nnot-there\n")


def samples_of(folder: Path) -> Samples:
    """Return the samples that are read."""
    found = with_data(selfmm("small"), f"mosei:{folder}").samples
    assert found is not None
    return found()


def test_segments_have_their_words_and_features_averaged_over_time(tmp_path: Path) -> None:
    """Pauses are no words; 100 rows a second become 20, what is no number 0; a wordless segment is left out."""
    small(tmp_path)
    samples = samples_of(tmp_path)
    assert samples.labels.tolist() == [1.0]
    assert bytes(samples.inputs["text"]["text"][0]) == b"so good"
    heard = samples.inputs["audio"]["audio"][0]
    assert heard.shape == (40, 74)
    assert heard[0].tolist() == [2.0] * 74
    assert heard[1, 5] == 7.0
    assert samples.inputs["video"]["video"][0].shape == (30, 35)


def test_a_segment_without_a_face_has_next_to_nothing_there(tmp_path: Path) -> None:
    """Where the sequence lacks the video, one time stands for it that is not all zeros."""
    small(tmp_path)
    sequence(tmp_path / VIDEO, "FACET 4.2", np.zeros((0, 2)), np.zeros((0, 35), np.float32))
    seen = samples_of(tmp_path).inputs["video"]["video"][0]
    assert seen.shape == (1, 35)
    assert 0 < seen.max() < 1e-5


@pytest.mark.parametrize("name", [LABELS, WORDS, AUDIO, VIDEO, FOLD])
def test_a_missing_sequence_is_named_and_a_pickle_never_opened(tmp_path: Path, name: str) -> None:
    """The message says which sequences stand in place of a pickle of features."""
    small(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileError, match=f"xpected {name}"):
        samples_of(tmp_path)
    (tmp_path / "unaligned_50.pkl").write_bytes(b"")
    with pytest.raises(FileError, match=r"unaligned_50\.pkl, a pickle.*are made of the SDK's sequences"):
        samples_of(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no HDF5", "is no computational sequence"), (None, "intervals .* and features")],
)
def test_a_damaged_sequence_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    """No HDF5, or rows that do not fit their intervals."""
    small(tmp_path)
    if content is None:
        sequence(tmp_path / LABELS, "All Labels", [(0, 1)], np.zeros((2, 7), np.float32))
    else:
        (tmp_path / LABELS).write_bytes(content)
    with pytest.raises(FileError, match=rf"{LABELS}: .*{message}"):
        samples_of(tmp_path)


def test_features_of_another_width_are_refused(tmp_path: Path) -> None:
    """OpenFace's features, say, in place of FACET's."""
    small(tmp_path)
    sequence(tmp_path / VIDEO, "OpenFace_2", [(0, 1)], np.ones((1, 713), np.float32))
    with pytest.raises(FileError, match="713 features a time; expected 35"):
        samples_of(tmp_path).inputs["video"]["video"][0]
