"""CMU-MOSEI as clips with their sentiment, for TVLT: two layouts in which its users keep it.

DIR/labels/label_file_test.csv   FileName, sentiment_score (as TVLT's authors have it)
DIR/test/video/NAME.mp4          DIR/test/audio_wav/NAME.wav, or audio/; else the sound of the video

DIR/label.csv                    video_id, clip_id, label, mode (as MMSA has it)
DIR/Raw/VIDEO/CLIP.mp4
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mosel.models.base import Model, Samples
from mosel.models.datasets.media import frames, sound
from mosel.models.datasets.metrics import SENTIMENT
from mosel.models.datasets.reading import Labelled, Lazy, absent, first, number, plain, present, table
from mosel.models.tvlt import SHAPES, Shape

LAYOUT = (
    "labels/label_file_test.csv with test/video/NAME.mp4 (TVLT's layout), or label.csv with Raw/VIDEO/CLIP.mp4 "
    "(MMSA's)"
)


@dataclass(frozen=True, slots=True)
class _Clip:
    video: Path
    audio: Path
    sentiment: float


def read(folder: Path, model: Model) -> Labelled:
    """Return the test clips of CMU-MOSEI as TVLT takes them: eight frames spread over each, and its sound.

    Raises:
        FileError: the folder is in neither layout.
    """
    shape = SHAPES["full" if model.name == "tvlt" else model.name.removeprefix("tvlt-")]
    clips = _clips(folder)
    rates = np.full((len(clips), 1), shape.rate_hz, np.int32)
    waves = Lazy(len(clips), lambda i: present(sound(clips[i].audio, shape.rate_hz, shape.most_samples)))
    pictures = Lazy(len(clips), lambda i: _spread(clips[i].video, shape))
    samples = Samples(
        {"audio": {"audio": waves, "audio_rate": rates}, "video": {"video": pictures}},
        np.array([clip.sentiment for clip in clips]),
        f"CMU-MOSEI, {len(clips):,} clips of its test split",
    )
    return Labelled(samples, SENTIMENT)


def _spread(path: Path, shape: Shape) -> NDArray[np.uint8]:
    def wanted(count: int) -> list[int]:
        places: list[int] = np.linspace(0, count, shape.frames, endpoint=False).astype(int).tolist()
        return places

    return present(frames(path, wanted))


def _clips(folder: Path) -> list[_Clip]:
    if (labels := folder / "labels" / "label_file_test.csv").exists():
        clips = _as_tvlt(folder / "test", labels)
    elif (labels := folder / "label.csv").exists():
        clips = _as_mmsa(folder / "Raw", labels)
    else:
        raise absent(folder, LAYOUT, "Get the raw clips; features in a pickle are of no use to TVLT.")
    if not clips:
        raise absent(folder, f"clips of the test split in {labels.name}")
    return clips


def _as_tvlt(test: Path, labels: Path) -> list[_Clip]:
    return [
        _Clip(
            video := test / "video" / f"{(name := plain(labels, row['FileName']))}.mp4",
            first(test, f"audio_wav/{name}.wav", f"audio/{name}.wav") or video,
            number(labels, row, "sentiment_score"),
        )
        for row in table(labels, ("FileName", "sentiment_score"))
    ]


def _as_mmsa(raw: Path, labels: Path) -> list[_Clip]:
    return [
        _Clip(
            video := raw / plain(labels, row["video_id"]) / f"{plain(labels, row['clip_id'])}.mp4",
            video,
            number(labels, row, "label"),
        )
        for row in table(labels, ("video_id", "clip_id", "label", "mode"))
        if row["mode"] == "test"
    ]
