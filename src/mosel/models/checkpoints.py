"""Weights of a network: seeded random ones, or a checkpoint that others published, read safely.

Only tensors are read: safetensors, or torch's own files with `weights_only=True`, so that no file can run code.
Which name of theirs is which of ours is each model's business. Imported only where torch is.
"""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mosel.core.errors import FileError, ModelError
from mosel.models.loading import check_size

State = dict[str, Tensor]
N = TypeVar("N", bound=nn.Module)

COUNTED = "num_batches_tracked"
"""What a normalisation counts while it is trained, which nothing reads afterwards."""


def seeded(make: Callable[[], N], seed: int) -> N:
    """Return the network that `make` builds, its random weights being those of `seed`, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def dtype_of(precision: str, device: str, model: str) -> torch.dtype:
    """Return torch's name of a precision.

    Raises:
        ModelError: it is not one of float32, bfloat16 and, on a GPU, float16.
    """
    known = ("float32", "bfloat16") if device == "cpu" else ("float32", "float16", "bfloat16")
    if precision not in known:
        raise ModelError(
            f"model {model}: precision {precision!r} on {device}; expected one of {', '.join(known)}"
        )
    found: torch.dtype = getattr(torch, precision)
    return found


def read_state(path: Path, inside: tuple[str, ...] = ("state_dict", "model")) -> State:
    """Return the tensors of a checkpoint by their published names, on the CPU.

    Args:
        path: a `.safetensors` file, or a file of `torch.save`: a state dict, or a mapping that holds one.
        inside: under which key such a mapping may hold it, the first that is there.

    Raises:
        FileError: it is missing, too large, damaged, or holds anything but tensors and plain values.
    """
    check_size(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    found = _read_torch(path)
    for key in inside:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise FileError(
            f"{path}: holds no state dict; expected tensors by name, at the top or under {' or '.join(inside)}"
        )
    return dict(found)


def fill_as_ours(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> bool:
    """Lay tensors that are named as ours are into `network`, whatever their precision; False if they are not.

    So weights are named that were trained here (`scripts/zoo/train.py`).

    Raises:
        FileError: one is of another shape.
    """
    ours = {name for name in network.state_dict() if not name.endswith(COUNTED)}
    if set(state) != ours:
        return False
    fill(network, state, lambda name: name, path)
    return True


def fill(
    network: nn.Module,
    state: Mapping[str, Tensor],
    published_name: Callable[[str], str],
    path: Path,
    ignored: Callable[[str], bool] = lambda _: False,
) -> None:
    """Lay the tensors of `state` into `network`; every parameter of the network has to be there.

    Args:
        network: takes the tensors, in its own precision and on its own device.
        state: tensors by published name.
        published_name: the published name of a parameter or buffer of ours.
        path: names the file in errors.
        ignored: whether a published tensor may be left over.

    Raises:
        FileError: tensors are missing, of another shape, or left over.
    """
    names = {ours: published_name(ours) for ours in network.state_dict()}
    optional = {ours for ours in names if ours.endswith(COUNTED)}
    missing = [theirs for ours, theirs in names.items() if theirs not in state and ours not in optional]
    if missing:
        raise FileError(f"{path}: lacks {_some(missing)}; is it a checkpoint of this model and size?")
    left_over = [name for name in state if name not in set(names.values()) and not ignored(name)]
    if left_over:
        raise FileError(f"{path}: also holds {_some(left_over)}; is it a checkpoint of this model and size?")
    for ours, place in network.state_dict().items():
        given = state.get(names[ours])
        if given is not None and given.shape != place.shape:
            raise FileError(
                f"{path}: {names[ours]} has shape {tuple(given.shape)}; expected {tuple(place.shape)}: "
                "is it a checkpoint of this size?"
            )
    network.load_state_dict({ours: state[n] for ours, n in names.items() if n in state}, strict=False)


def _read_safetensors(path: Path) -> State:
    try:
        found: State = load_file(path)
    except (OSError, SafetensorError) as error:
        raise FileError(f"{path}: cannot be read as safetensors: {error}") from error
    return found


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileError(
            f"{path}: is damaged, or holds more than tensors, which could run code when it is read. If you "
            "trust it, save its tensors alone where its own software is installed: "
            'torch.save(torch.load(FILE, weights_only=False)["model"], "tensors.pt") '
            '(or ["state_dict"]), and give that file'
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise FileError(f"{path}: cannot be read as a file of torch.save: {error}") from error


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
