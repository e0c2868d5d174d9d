"""Five made-up profiles shaped like the paper's five models, for benchmarks that need no device.

    .venv/bin/python benchmarks/shapes.py [FOLDER]      (with FOLDER writes tvlt.json, avhubert.json, …)

The paper prints few latencies and accuracies, so the numbers below are made up. From the paper are the models
with their modalities (table 1), that TVLT's audio alone is 11 times as fast as both and loses little accuracy
(§3), and the kind of trade that each offers. Speech recognition by AVHuBERT needs little but audio, and video
costs most. TBN has much between its cheapest and its dearest mode. Nearly all of Self-MM's cost and accuracy is
its text. ViLT has two modalities that are each far from the accuracy of both. A batch takes a fixed part, and a
part for each of its requests.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from mosel.core.tables import PROFILE_FORMAT, Device, Mode, Profile, write_profile

Modes = Mapping[str, tuple[float, float]]
"""Latency at batch size 1 in milliseconds and accuracy, by the mode's name."""


def shaped(model: str, modalities: str, modes: Modes, largest: int, fixed: float) -> Profile:
    """Return a profile whose batches of b take latency × (fixed + (1 − fixed) × b)."""
    sizes = tuple(range(1, largest + 1))
    found = []
    for name, (latency_ms, accuracy) in modes.items():
        latency_s = tuple(latency_ms / 1000 * (fixed + (1 - fixed) * size) for size in sizes)
        names = tuple(name.split("+"))
        found.append(Mode(names, accuracy, accuracy, 0, latency_s, latency_s, (0,) * largest))
    device = Device("made up", "host")
    return Profile(
        PROFILE_FORMAT,
        model,
        tuple(modalities.split("+")),
        "accuracy",
        sizes,
        tuple(found),
        device,
        "float32",
        {},
        "2026-11-22T00:00:00Z",
    )


SHAPES: dict[str, Profile] = {
    "tvlt": shaped(
        "tvlt",
        "audio+video",
        {"audio": (4, 0.66), "video": (30, 0.70), "audio+video": (44, 0.754)},
        32,
        0.5,
    ),
    "avhubert": shaped(
        "avhubert",
        "audio+video",
        {"audio": (30, 0.93), "video": (70, 0.65), "audio+video": (80, 0.96)},
        32,
        0.3,
    ),
    "tbn": shaped(
        "tbn",
        "audio+video+image",
        {
            "audio": (9, 0.25),
            "video": (11, 0.40),
            "image": (10, 0.33),
            "audio+video": (19, 0.45),
            "audio+image": (18, 0.40),
            "video+image": (20, 0.46),
            "audio+video+image": (28, 0.50),
        },
        32,
        0.4,
    ),
    "selfmm": shaped(
        "selfmm",
        "text+audio+video",
        {
            "text": (8.5, 0.79),
            "audio": (0.6, 0.60),
            "video": (0.7, 0.58),
            "text+audio": (9, 0.80),
            "text+video": (9, 0.80),
            "audio+video": (1.2, 0.62),
            "text+audio+video": (9.8, 0.81),
        },
        64,
        0.8,
    ),
    "vilt": shaped(
        "vilt",
        "text+image",
        {"text": (7, 0.45), "image": (14, 0.50), "text+image": (18, 0.62)},
        32,
        0.25,
    ),
}


def main() -> None:
    """Write the profiles into the folder that is named, or print what there is."""
    for name, profile in SHAPES.items():
        if len(sys.argv) > 1:
            folder = Path(sys.argv[1])
            write_profile(profile, folder / f"{name}.json")
        modes = ", ".join(
            f"{profile.name_of(mode)} {mode.latency_s[0] * 1e3:g} ms {mode.accuracy:g}"
            for mode in profile.modes
        )
        print(f"{name}: batches up to {profile.batch_sizes[-1]}; {modes}")


if __name__ == "__main__":
    main()
