"""CMU-MOSEI as the features of its SDK, for Self-MM: computational sequences (.csd), which are HDF5.

    DIR/CMU_MOSEI_Labels.csd         sentiment in the first column
    DIR/CMU_MOSEI_TimestampedWords.csd
    DIR/CMU_MOSEI_COVAREP.csd        74 a time
    DIR/CMU_MOSEI_VisualFacet42.csd  35 a time
    DIR/test.txt                     the test split's videos, one a line (the SDK's standard_test_fold)

Each sequence has one group, in it `data`, by video `intervals` (seconds) and `features`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import FileError, ModelError
from mosel.core.files import read_bytes
from mosel.models.base import Model, Samples
from mosel.models.datasets.media import NEEDED
from mosel.models.datasets.metrics import SENTIMENT
from mosel.models.datasets.reading import TABLE_BYTES, Labelled, Lazy, absent, present
from mosel.models.selfmm import SHAPES, TEXT_BYTES, Branch

LABELS, WORDS, AUDIO, VIDEO = (
    f"CMU_MOSEI_{name}.csd" for name in ("Labels", "TimestampedWords", "COVAREP", "VisualFacet42")
)
FOLD = "test.txt"
AUDIO_HZ, VIDEO_HZ = 20, 15
"""To these rates features are averaged, so that 500 and 375 times are 25 s, as Self-MM was trained on them."""

PAUSE = "sp"
MOST_ROWS = 1_000_000
"""Of one video in one sequence."""

INSTEAD = (
    f"Features of MMSA (unaligned_50.pkl and the like) are made of the SDK's sequences: put {LABELS}, {WORDS}, "
    f"{AUDIO}, {VIDEO} and {FOLD} here instead."
)


@dataclass(frozen=True, slots=True)
class _Segment:
    video: str
    start_s: float
    end_s: float
    sentiment: float
    text: bytes


def read(folder: Path, model: Model) -> Labelled:
    """Return the test segments of CMU-MOSEI as Self-MM takes them; those without a word are left out.

    Raises:
        FileError: a sequence or the list of test videos is missing, or is none.
        ModelError: h5py is not installed.
    """
    for name in (LABELS, WORDS, AUDIO, VIDEO, FOLD):
        if not (folder / name).exists():
            raise absent(folder, f"{name} beside the other sequences of the SDK", INSTEAD)
    shape = SHAPES["full" if model.name == "selfmm" else model.name.removeprefix("selfmm-")]
    segments = list(_segments(folder))
    if not segments:
        raise FileError(f"{folder / FOLD}: none of its videos has a labelled segment with words in {folder}")
    samples = Samples(
        {
            "text": {"text": [np.frombuffer(s.text, np.uint8) for s in segments]},
            "audio": {"audio": _lazy(folder / AUDIO, segments, shape.audio, AUDIO_HZ)},
            "video": {"video": _lazy(folder / VIDEO, segments, shape.video, VIDEO_HZ)},
        },
        np.array([segment.sentiment for segment in segments]),
        f"CMU-MOSEI, {len(segments):,} segments of its test split",
    )
    return Labelled(samples, SENTIMENT)


def _segments(folder: Path) -> Iterator[_Segment]:
    videos = read_bytes(folder / FOLD, TABLE_BYTES).decode(errors="replace").split()
    with _sequence(folder / LABELS) as labels, _sequence(folder / WORDS) as words:
        for video in videos:
            if video not in labels or video not in words:
                continue
            spoken, sentiments = _rows(words, video), _rows(labels, video)
            for (start_s, end_s), row in zip(*sentiments, strict=True):
                if text := _text(spoken, start_s, end_s):
                    yield _Segment(video, float(start_s), float(end_s), float(row[0]), text)


def _text(spoken: tuple[NDArray[Any], NDArray[Any]], start_s: float, end_s: float) -> bytes:
    """Return the words of a segment in UTF-8, pauses left out."""
    intervals, features = spoken
    raw = [bytes(row[0]) for row in features[_within(intervals, start_s, end_s)]]
    words = [word.decode(errors="replace").strip("\0 ") for word in raw]
    return " ".join(word for word in words if word and word != PAUSE).encode()[:TEXT_BYTES]


def _lazy(path: Path, segments: list[_Segment], branch: Branch, rate_hz: float) -> Lazy:
    return Lazy(len(segments), lambda index: _features(path, segments[index], branch, rate_hz))


def _features(path: Path, segment: _Segment, branch: Branch, rate_hz: float) -> NDArray[np.float32]:
    """Return (times, features) of a segment at `rate_hz`; what is no number is 0, and so is what is missing."""
    with _sequence(path) as data:
        if segment.video not in data:
            return present(np.zeros((1, branch.features), np.float32))
        intervals, features = _rows(data, segment.video)
    if features.shape[1] != branch.features:
        raise FileError(f"{path}: {features.shape[1]} features a time; expected {branch.features}")
    inside = _within(intervals, segment.start_s, segment.end_s)
    places = ((intervals[inside].mean(axis=1) - segment.start_s) * rate_hz).astype(int)
    rows = np.nan_to_num(features[inside].astype(np.float64), nan=0, posinf=0, neginf=0)
    times, which = np.unique(places, return_inverse=True)
    if not times.size:
        return present(np.zeros((1, branch.features), np.float32))
    means = np.zeros((len(times), branch.features))
    np.add.at(means, which, rows)
    means /= np.bincount(which)[:, None]
    return present(means[: branch.longest].astype(np.float32))


def _within(intervals: NDArray[Any], start_s: float, end_s: float) -> NDArray[np.bool_]:
    middles = intervals.mean(axis=1)
    inside: NDArray[np.bool_] = (middles >= start_s) & (middles < end_s)
    return inside


def _rows(data: Any, video: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a video's intervals, (rows, 2), and features, (rows, …)."""
    where = f"{data.file.filename}: video {video}"
    try:
        intervals, features = data[video]["intervals"], data[video]["features"]
    except KeyError as error:
        raise FileError(f"{where} lacks its intervals or features: {error}") from error
    if intervals.ndim != 2 or intervals.shape[1] != 2 or features.ndim != 2 or len(intervals) != len(features):
        raise FileError(f"{where} has intervals {intervals.shape} and features {features.shape}")
    if len(intervals) > MOST_ROWS:
        raise FileError(f"{where} has {len(intervals):,} rows; expected at most {MOST_ROWS:,}")
    return np.asarray(intervals[()], np.float64), features[()]


@contextmanager
def _sequence(path: Path) -> Iterator[Any]:
    """Yield the `data` of a computational sequence, by video."""
    try:
        import h5py
    except ImportError as error:
        raise ModelError(f"{path}: cannot be read: {error}; {NEEDED}") from error
    try:
        with h5py.File(path, "r") as file:
            (root,) = file.keys()
            yield file[root]["data"]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise FileError(f"{path}: is no computational sequence that can be read: {error}") from error
