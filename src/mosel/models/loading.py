"""What the paper's models share before torch is there: precisions, and the version that names their weights."""

import hashlib
from pathlib import Path

from mosel.core.errors import FileError

CHECKPOINT_LIMIT_BYTES = 8 << 30

PRECISIONS = {"cpu": ("float32", "bfloat16", "int8"), "cuda": ("float32", "float16", "bfloat16")}
"""By kind of device, what a transformer is offered at (`precision.py`)."""


SHIPPED = "weights.safetensors"
"""The file, beside each small network, of the weights that ship with it."""


def weights_of(size: str, checkpoint: Path | None, seed: int | None, package: str) -> Path | None:
    """Return the file of a model's weights, None for random ones.

    Args:
        size: only `small` networks have weights that ship.
        checkpoint: goes before those.
        seed: given, it asks for random ones.
        package: `__file__` of the model's package.
    """
    if checkpoint is None and seed is None and size == "small":
        return Path(package).with_name(SHIPPED)
    return checkpoint


def version_of(checkpoint: Path | None, seed: int | None) -> str:
    """Return a version that changes with the weights: made of the checkpoint's content, or of the seed.

    Raises:
        FileError: the checkpoint cannot be read, or is too large to be one.
    """
    if checkpoint is None:
        return f"random-{seed or 0}"
    check_size(checkpoint)
    with checkpoint.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def check_size(checkpoint: Path) -> None:
    """Check that a checkpoint is there and of a size that can be read.

    Raises:
        FileError: it is not.
    """
    try:
        size = checkpoint.stat().st_size
    except OSError as error:
        raise FileError(f"{checkpoint}: cannot be read: {error.strerror or error}") from error
    if size > CHECKPOINT_LIMIT_BYTES:
        raise FileError(
            f"{checkpoint}: holds {size:,} bytes; expected a checkpoint of at most {CHECKPOINT_LIMIT_BYTES:,}"
        )
