"""The paper's data sets in the layouts in which they are published: `mosel profile tvlt --data mosei:DIR`.

The data are the user's own; nothing is fetched. A reader takes a folder and a model and returns labelled
samples of its test split. Clips are decoded when they are asked for. Pickles are never opened: what they hold
is not data but a program. Importing this module imports neither PyAV nor h5py.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from mosel.core.errors import UsageError
from mosel.models.base import Model
from mosel.models.datasets import epic, lrs3, mmimdb, mosei, mosei_features
from mosel.models.datasets.reading import Labelled

Reader = Callable[[Path, Model], Labelled]

READERS: Mapping[str, Mapping[str, Reader]] = {
    "mosei": {"tvlt": mosei.read, "selfmm": mosei_features.read},
    "lrs3": {"avhubert": lrs3.read},
    "epic": {"tbn": epic.read},
    "mmimdb": {"vilt": mmimdb.read},
}
"""By data set, then by model whatever its size."""


def with_data(model: Model, word: str) -> Model:
    """Return the model with labelled samples and further metrics of a data set in place of its own.

    Args:
        model: one of the paper's, of any size.
        word: `KIND:DIR`, the data set and its folder.

    Raises:
        UsageError: there is no such data set, or none of it for this model.
        FileError: the folder is not in the layout in which the data set is published.
    """
    kind, _, folder = word.partition(":")
    if kind not in READERS or not folder:
        raise UsageError(f"--data {word}: expected KIND:DIR, KIND being one of {', '.join(READERS)}")
    family = model.name.split("-")[0]
    if family not in READERS[kind]:
        raise UsageError(f"--data {word}: {kind} is for {' and '.join(READERS[kind])}, not for {model.name}")
    found = READERS[kind][family](Path(folder), model)
    return replace(
        model,
        samples=lambda: found.samples,
        further=found.further,
        calibration=None,
    )
