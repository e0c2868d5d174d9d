from pathlib import Path

import h5py
import numpy as np
import pytest

from mosel.core.errors import FileError
from mosel.models.base import Samples
from mosel.models.datasets import with_data
from mosel.models.datasets.epic import moments
from mosel.models.tbn import tbn
from mosel.models.tbn.preprocess import AUDIO_SAMPLES, RATE_HZ
from tests.models.datasets import made

HEADER = "narration_id,video_id,start_frame,stop_frame,verb_class,noun_class"


def annotate(folder: Path, video: str, start: int = 11, stop: int = 40) -> None:
    """Write the annotation of one action."""
    made.table(folder / "EPIC_100_validation.csv", HEADER, (f"{video}_0", video, start, stop, 3, 7))


def published(folder: Path) -> None:
    """One action of a later video as published: frame and flow have the same numbers, sound is in HDF5."""
    annotate(folder, "P01_101")
    for n in range(11, 41):
        name = f"frame_{n:010d}.jpg"
        made.picture(folder / "P01" / "rgb_frames" / "P01_101" / name, 4 * n)
        made.picture(folder / "P01" / "flow_frames" / "P01_101" / "u" / name, 100)
        made.picture(folder / "P01" / "flow_frames" / "P01_101" / "v" / name, 150)
    with h5py.File(folder / "EPIC_audio.hdf5", "w") as file:
        file["P01_101"] = np.linspace(-1, 1, 3 * RATE_HZ, dtype=np.float32)


def samples_of(folder: Path) -> Samples:
    """Return the samples that are read."""
    found = with_data(tbn("small"), f"epic:{folder}").samples
    assert found is not None
    return found()


def test_an_action_gives_frames_flow_and_sound_of_its_segments(tmp_path: Path) -> None:
    """Three moments in the middle of three equal parts; x and y of five frames in turn; 1.279 s around each."""
    published(tmp_path)
    samples = samples_of(tmp_path)
    assert samples.labels.tolist() == [[3, 7]]
    frames = samples.inputs["rgb"]["rgb"][0]
    assert frames.shape == (3, 48, 64, 3)
    assert np.abs(frames.mean(axis=(1, 2, 3)) / 4 - moments(11, 40, 1, 3)).max() < 0.5
    flow = samples.inputs["flow"]["flow"][0]
    assert flow.shape == (3, 10, 48, 64)
    assert np.abs(flow.mean(axis=(0, 2, 3)) - np.tile([100, 150], 5)).max() < 2
    heard = samples.inputs["audio"]["audio"][0]
    assert heard.shape == (3, AUDIO_SAMPLES)
    middle = (moments(11, 40, 1, 3)[2] - 1) / 50 * RATE_HZ
    start = min(max(0, int(middle) - AUDIO_SAMPLES // 2), 3 * RATE_HZ - AUDIO_SAMPLES)
    assert heard[2, 0] == pytest.approx(2 * start / (3 * RATE_HZ - 1) - 1, abs=1e-4)


def test_an_earlier_video_has_half_as_many_frames_of_flow(tmp_path: Path) -> None:
    """As TBN's scripts link them, counted from 0: frames 11 to 40 go with flow 6 to 20; sound is a file."""
    annotate(tmp_path, "P01_11")
    for n in range(11, 41):
        made.picture(tmp_path / "frames" / "P01_11" / f"img_{n - 1:010d}.jpg", 4 * n)
    for n in range(6, 21):
        for axis in "xy":
            made.picture(tmp_path / "frames" / "P01_11" / f"{axis}_{n - 1:010d}.jpg", 8 * n)
    made.sound(tmp_path / "audio" / "P01_11.wav", made.tone(0.5, RATE_HZ), RATE_HZ)
    samples = samples_of(tmp_path)
    flow = samples.inputs["flow"]["flow"][0]
    expected = moments(6, 20, 5, 3)
    assert np.abs(flow[:, 0].mean(axis=(1, 2)) / 8 - expected).max() < 0.5
    frames = samples.inputs["rgb"]["rgb"][0]
    assert np.abs(frames.mean(axis=(1, 2, 3)) / 4 - moments(11, 40, 1, 3)).max() < 0.5
    assert samples.inputs["audio"]["audio"][0].shape == (3, AUDIO_SAMPLES)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Annotations, frames and sound; a pickle of them is never opened."""
    with pytest.raises(FileError, match=r"expected EPIC_100_validation\.csv"):
        samples_of(tmp_path)
    (tmp_path / "audio_dict.pkl").write_bytes(b"")
    with pytest.raises(FileError, match=r"audio_dict\.pkl, a pickle.*in place of audio_dict"):
        samples_of(tmp_path)
    annotate(tmp_path, "P01_101")
    samples = samples_of(tmp_path)
    with pytest.raises(FileError, match=r"expected P01/rgb_frames/P01_101/frame_0000000015\.jpg or frames/"):
        samples.inputs["rgb"]["rgb"][0]
    with pytest.raises(FileError, match=r"Expected audio/P01_101\.wav, or EPIC_audio\.hdf5"):
        samples.inputs["audio"]["audio"][0]


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (9, 5)])
def test_an_action_that_ends_before_it_starts_is_refused(tmp_path: Path, start: int, stop: int) -> None:
    """Frames count from 1."""
    annotate(tmp_path, "P01_101", start, stop)
    with pytest.raises(FileError, match=f"an action from frame {start} to {stop}"):
        samples_of(tmp_path)
