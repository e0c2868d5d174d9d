"""What the paper's models share before torch is there: precisions, and the version that names their weights."""

import hashlib
from pathlib import Path

from mosel.core.errors import FileError

CHECKPOINT_LIMIT_BYTES = 8 << 30

PRECISIONS = {"cpu": ("float32", "bfloat16", "int8"), "cuda": ("float32", "float16", "bfloat16")}
"""By kind of device, what a transformer is offered at (`precision.py`)."""


def version_of(checkpoint: Path | None, seed: int) -> str:
    """Return a version that changes with the weights: made of the checkpoint's content, or of the seed.

    Raises:
        FileError: the checkpoint cannot be read, or is too large to be one.
    """
    if checkpoint is None:
        return f"random-{seed}"
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
