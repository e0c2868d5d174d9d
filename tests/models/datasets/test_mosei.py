import re
from pathlib import Path

import numpy as np
import pytest

from mosel.core.errors import FileError
from mosel.models.datasets import with_data
from mosel.models.tvlt import SHAPES, tvlt
from tests.models.datasets import made

SMALL = SHAPES["small"]


def as_tvlt(folder: Path) -> None:
    """Two clips as TVLT's authors keep them: one with a file of sound, one silent."""
    rows = (("a_1", 1.5), ("b_0", -0.5))
    made.table(folder / "labels" / "label_file_test.csv", "FileName,sentiment_score", *rows)
    for name, _ in rows:
        made.video(folder / "test" / "video" / f"{name}.mp4", list(range(40, 200, 10)))
    made.sound(folder / "test" / "audio_wav" / "a_1.wav", made.tone(0.5, 44_100), 44_100)
    made.sound(folder / "test" / "audio_wav" / "b_0.wav", np.zeros(8000), 16_000)


def test_the_layout_of_the_models_authors_is_read(tmp_path: Path) -> None:
    """Frames are spread over the clip, sound is resampled to the model's rate, labels keep their order."""
    as_tvlt(tmp_path)
    found = with_data(tvlt("small"), f"mosei:{tmp_path}").samples
    assert found is not None
    samples = found()
    assert samples.labels.tolist() == [1.5, -0.5]
    frames = samples.inputs["video"]["video"][0]
    assert frames.shape == (SMALL.frames, 64, 64, 3)
    assert np.abs(frames.mean(axis=(1, 2, 3)) - np.arange(40, 200, 20)).max() < 8
    wave = samples.inputs["audio"]["audio"][0]
    assert wave.dtype == np.float32
    assert abs(len(wave) - SMALL.rate_hz // 2) < 50
    assert 0.45 < np.abs(wave).max() < 0.55
    assert samples.source == "CMU-MOSEI, 2 clips of its test split"


def test_silence_of_the_data_set_is_a_sample_like_any_other(tmp_path: Path) -> None:
    """A clip without a sound is not refused as what fills a job up would be."""
    as_tvlt(tmp_path)
    model = with_data(tvlt("small"), f"mosei:{tmp_path}")
    assert model.samples is not None
    wave = model.samples().inputs["audio"]["audio"][1]
    rates = np.full((1, 1), SMALL.rate_hz, np.int32)
    prepare = model.modality("audio").preprocess
    assert prepare is not None
    assert prepare({"audio": wave[None], "audio_rate": rates})["audio"].shape[0] == 1


def test_the_layout_of_mmsa_is_read_and_only_its_test_split(tmp_path: Path) -> None:
    """Clips lie in a folder a video; those of other modes are passed over."""
    rows = (("vid", 0, "hm", -1.0, "train"), ("vid", 1, "ah", 2.0, "test"))
    made.table(tmp_path / "label.csv", "video_id,clip_id,text,label,mode", *rows)
    made.video(tmp_path / "Raw" / "vid" / "1.mp4", [100] * 10)
    samples = with_data(tvlt("small"), f"mosei:{tmp_path}").samples
    assert samples is not None
    assert samples().labels.tolist() == [2.0]
    assert samples().inputs["video"]["video"][0].shape[0] == SMALL.frames
    with pytest.raises(FileError, match=r"1\.mp4: holds no sound"):
        samples().inputs["audio"]["audio"][0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("features.pkl", "", "holds features.pkl, a pickle"),
        ("label.csv", "video_id,clip_id\na,1\n", "has no column label, mode"),
        ("label.csv", "video_id,clip_id,label,mode\na,1,nan,test\n", "expected a finite number"),
        ("label.csv", "video_id,clip_id,label,mode\n../a,1,0,test\n", "names '../a'; expected the plain name"),
        ("label.csv", "video_id,clip_id,label,mode\na,1,0,train\n", "expected clips of the test split"),
        ("label.csv", "video_id,clip_id,label,mode\na,1\n", "row 2 has fewer columns"),
        ("readme.txt", "", "expected labels/label_file_test.csv"),
    ],
)
def test_a_folder_in_no_known_layout_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    """The message names the file and what is expected; a pickle is never opened."""
    (tmp_path / name).write_text(text)
    with pytest.raises(FileError, match=re.escape(message)):
        with_data(tvlt("small"), f"mosei:{tmp_path}")


def test_a_damaged_clip_is_told_by_its_name(tmp_path: Path) -> None:
    """It is when its clip is asked for that a file is found to be damaged."""
    as_tvlt(tmp_path)
    (tmp_path / "test" / "video" / "a_1.mp4").write_bytes(b"no film")
    samples = with_data(tvlt("small"), f"mosei:{tmp_path}").samples
    assert samples is not None
    with pytest.raises(FileError, match=r"a_1\.mp4: cannot be decoded"):
        samples().inputs["video"]["video"][0]
