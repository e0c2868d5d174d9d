from pathlib import Path

import numpy as np
import pytest

from mosel.core.errors import FileError
from mosel.models.avhubert import avhubert
from mosel.models.base import Samples
from mosel.models.datasets import with_data
from tests.models.datasets import made


def clip(folder: Path, *, side: int = 224, rate_hz: int = 25, frames: int = 10) -> None:
    """Write one clip as published, its sound apart."""
    made.video(folder / "test" / "speaker" / "00001.mp4", [120] * frames, side=side, rate_hz=rate_hz)
    (folder / "test" / "speaker" / "00001.txt").write_text("Text:  HELLO  THERE\nConf:  4\n")
    made.sound(folder / "audio" / "test" / "speaker" / "00001.wav", made.tone(0.4, 16_000), 16_000)


def samples_of(folder: Path) -> Samples:
    """Return the samples that are read."""
    found = with_data(avhubert("small"), f"lrs3:{folder}").samples
    assert found is not None
    return found()


def test_a_published_clip_gives_its_mouth_its_sound_and_its_words(tmp_path: Path) -> None:
    """A face is cut to 96 × 96; transcripts are in lower case."""
    clip(tmp_path)
    samples = samples_of(tmp_path)
    assert samples.labels.tolist() == ["hello there"]
    assert samples.inputs["video"]["video"][0].shape == (10, 96, 96)
    assert samples.inputs["audio"]["audio"][0].shape == (6400,)


def test_a_prepared_mouth_is_preferred(tmp_path: Path) -> None:
    """What AV-HuBERT's authors' scripts write is taken as it is."""
    clip(tmp_path)
    made.video(tmp_path / "video" / "test" / "speaker" / "00001.mp4", [60] * 8, side=96)
    mouth = samples_of(tmp_path).inputs["video"]["video"][0]
    assert mouth.shape == (8, 96, 96)
    assert abs(float(mouth.mean()) - 60) < 8


@pytest.mark.parametrize(
    ("side", "rate_hz", "frames", "message"),
    [
        (160, 25, 5, "frames of 160 × 160; expected published faces"),
        (96, 30, 5, "30 frames a second; expected 25"),
        (96, 25, 201, "201 frames; the model takes at most 200"),
    ],
)
def test_a_clip_of_another_size_rate_or_length_is_refused(
    tmp_path: Path, side: int, rate_hz: int, frames: int, message: str
) -> None:
    """The message names the file."""
    clip(tmp_path, side=side, rate_hz=rate_hz, frames=frames)
    with pytest.raises(FileError, match=f"00001.mp4: {message}"):
        samples_of(tmp_path).inputs["video"]["video"][0]


def test_a_transcript_without_words_is_refused(tmp_path: Path) -> None:
    """And so is a folder without clips."""
    with pytest.raises(FileError, match=r"expected test/SPEAKER/CLIP\.mp4"):
        samples_of(tmp_path)
    clip(tmp_path)
    (tmp_path / "test" / "speaker" / "00001.txt").write_text("Conf: 4\n")
    with pytest.raises(FileError, match=r"00001\.txt: expected a first line `Text:`"):
        samples_of(tmp_path)


def test_words_in_error_are_told_beside_the_metric(tmp_path: Path) -> None:
    """One word of three is wrong: WER 1/3."""
    clip(tmp_path)
    further = with_data(avhubert("small"), f"lrs3:{tmp_path}").further
    assert further is not None
    text = np.frombuffer(b"hello there you", np.uint8)[None]
    outputs = {"text": text, "text_lengths": np.array([15])}
    facts = further.facts(outputs, np.array(["hello there who"]))
    assert further.metrics(facts) == {"WER": pytest.approx(1 / 3)}
