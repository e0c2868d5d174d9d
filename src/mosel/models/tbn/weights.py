"""The weights of TBN: random ones, or published ones, and which of their names is which of ours.

Theirs are those of Caffe's BN-Inception (`inception_3a_3x3_reduce`, its normalisation `…_bn`), one set for each
of `rgb`, `flow` and `spec`, before them perhaps `module.`, as training on several GPUs leaves it. They project
what blocks 4c and 4d pool to 128 channels, where the paper of BN-Inception has 96: the network is built to fit.
"""

from dataclasses import replace
from pathlib import Path

import torch

from mosel.core.errors import FileError
from mosel.models.checkpoints import dtype_of, fill, fill_as_ours, read_state, seeded
from mosel.models.tbn.network import TBN
from mosel.models.tbn.shape import Shape

BRANCHES = {"rgb": "rgb", "flow": "flow", "audio": "spec"}
HEADS = {"fusion": "fc1", "verb": "fc_verb", "noun": "fc_noun"}
STEM = {"conv1": "conv1_7x7_s2", "conv2_reduce": "conv2_3x3_reduce", "conv2": "conv2_3x3"}
LAYERS = {
    "one": "1x1",
    "three.0": "3x3_reduce",
    "three.1": "3x3",
    "twice.0": "double_3x3_reduce",
    "twice.1": "double_3x3_1",
    "twice.2": "double_3x3_2",
    "project": "pool_proj",
}
MIDDLE = "rgb.inception_4c_pool_proj.weight"


def load_network(shape: Shape, checkpoint: Path | None, seed: int, device: str, precision: str) -> TBN:
    """Return the network ready to infer on `device`: with a checkpoint's weights, or random ones of `seed`.

    Raises:
        ModelError: the precision is not offered on this device.
        FileError: the checkpoint is none of this network.
    """
    dtype = dtype_of(precision, device, "tbn")
    network = load_checkpoint(checkpoint, shape) if checkpoint else seeded(lambda: TBN(shape), seed)
    network.fuse()
    return network.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def load_checkpoint(path: Path, shape: Shape) -> TBN:
    """Return a network with the weights of a checkpoint, in eval mode; its `middle` is the checkpoint's.

    Raises:
        FileError: the file cannot be trusted, or is no checkpoint of a network of this size.
    """
    read = read_state(path)
    plain = TBN(shape)
    if fill_as_ours(plain, read, path):
        return plain.eval()
    state = {name.removeprefix("module."): tensor for name, tensor in read.items()}
    if MIDDLE not in state:
        raise FileError(f"{path}: lacks {MIDDLE}; is it a checkpoint of TBN with three modalities?")
    network = TBN(replace(shape, middle=len(state[MIDDLE]) * shape.divisor))
    fill(network, state, published_name, path)
    return network.eval()


def published_name(ours: str) -> str:
    """Return the published name of one of our parameters."""
    first, _, rest = ours.partition(".")
    if first in HEADS:
        return f"fusion_classification_net.{HEADS[first]}.{rest}"
    layer, kind, tensor = rest.rsplit(".", 2)
    suffix = "_bn" if kind == "norm" else ""
    return f"{BRANCHES[first]}.{_published_layer(layer)}{suffix}.{tensor}"


def _published_layer(ours: str) -> str:
    if ours in STEM:
        return STEM[ours]
    _, block, layer = ours.split(".", 2)
    return f"inception_{block}_{LAYERS[layer]}"
