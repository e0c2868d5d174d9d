"""The weights of AV-HuBERT: random ones, or published ones, and which of their names is which of ours.

Theirs are those of the authors' fine-tuned models in fairseq. Three things are stored otherwise there: queries,
keys and values are matrices of their own, the first convolution has a dimension for its one channel, and the
convolution of positions is divided into length and direction (weight normalisation).
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mosel.core.errors import FileError
from mosel.models.avhubert.network import AVHubert
from mosel.models.avhubert.shape import Shape
from mosel.models.avhubert.vocabulary import Vocabulary
from mosel.models.checkpoints import State, fill, fill_as_ours, read_state, seeded
from mosel.models.precision import at_precision

ENCODER = "encoder.w2v_model."
LIPS = f"{ENCODER}feature_extractor_video.resnet."
FIRST = f"{LIPS}frontend3D.0.weight"
POSITIONS = f"{ENCODER}encoder.pos_conv.0.weight"
UNUSED = (
    f"{ENCODER}mask_emb",
    f"{ENCODER}final_proj.",
    f"{ENCODER}label_embs_concat",
    "decoder.embed_positions.",
)
UNUSED_ENDS = ("version",)

PARTS = {
    "encoder.audio": f"{ENCODER}feature_extractor_audio.proj",
    "encoder.video": f"{ENCODER}feature_extractor_video.proj",
    "encoder.lips.first.conv": f"{LIPS}frontend3D.0",
    "encoder.lips.first.norm": f"{LIPS}frontend3D.1",
    "encoder.lips.bend": f"{LIPS}frontend3D.2",
    "encoder.joined": f"{ENCODER}layer_norm",
    "encoder.narrow": f"{ENCODER}post_extract_proj",
    "encoder.positions": f"{ENCODER}encoder.pos_conv.0",
    "encoder.layers.norm": f"{ENCODER}encoder.layer_norm",
    "decoder.embed": "decoder.embed_tokens",
    "decoder.norm": "decoder.layer_norm",
}
BLOCK = {
    "one.conv": "conv1",
    "one.norm": "bn1",
    "bend_one": "relu1",
    "two.conv": "conv2",
    "two.norm": "bn2",
    "bend_two": "relu2",
    "shortcut.conv": "downsample.0",
    "shortcut.norm": "downsample.1",
}
ENCODER_LAYER = {
    "norm_1": "self_attn_layer_norm",
    "attention.qkv": "self_attn.qkv_proj",
    "attention.out": "self_attn.out_proj",
    "norm_2": "final_layer_norm",
    "feed.up": "fc1",
    "feed.down": "fc2",
}
DECODER_LAYER = {
    "norm_1": "self_attn_layer_norm",
    "qkv": "self_attn.qkv_proj",
    "out": "self_attn.out_proj",
    "norm_2": "encoder_attn_layer_norm",
    "frame_query": "encoder_attn.q_proj",
    "frame_kv": "encoder_attn.kv_proj",
    "frame_out": "encoder_attn.out_proj",
    "norm_3": "final_layer_norm",
    "up": "fc1",
    "down": "fc2",
}


def load_network(
    shape: Shape,
    vocabulary: Vocabulary,
    beam: int,
    checkpoint: Path | None,
    seed: int,
    device: str,
    precision: str,
) -> AVHubert:
    """Return the network ready to infer on `device`: with a checkpoint's weights, or random ones of `seed`.

    Raises:
        ModelError: the precision is not offered on this device.
        FileError: the checkpoint is none of this network.
    """
    network = seeded(lambda: AVHubert(shape, vocabulary, beam), seed)
    if checkpoint:
        lay_in(network, checkpoint)
    network.fuse()
    network.encoder.lips.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ready = at_precision(network, device, precision, "avhubert")
    if device == "cpu":
        ready.encoder.positions.by_spectrum()
    return ready


def lay_in(network: AVHubert, checkpoint: Path) -> None:
    """Lay a checkpoint's weights into a network whose normalisations are not merged yet.

    Raises:
        FileError: the file cannot be trusted, or is no checkpoint of a network of this size and vocabulary.
    """
    read = read_state(checkpoint, ("model", "state_dict"))
    if fill_as_ours(network, read, checkpoint):
        return
    state = _as_ours(read, checkpoint)
    fill(network, state, published_name, checkpoint, _is_unused)


def published_name(ours: str) -> str:
    """Return the published name of one of our parameters; `qkv_proj` and `kv_proj` stand for several."""
    part, _, tensor = ours.rpartition(".")
    if part in PARTS:
        return f"{PARTS[part]}.{tensor}"
    if part.startswith("encoder.lips.blocks."):
        number, layer = part.removeprefix("encoder.lips.blocks.").split(".", 1)
        return f"{LIPS}trunk.layer{int(number) // 2 + 1}.{int(number) % 2}.{BLOCK[layer]}.{tensor}"
    if part.startswith("encoder."):
        number, layer = part.removeprefix("encoder.layers.layers.").split(".", 1)
        return f"{ENCODER}encoder.layers.{number}.{ENCODER_LAYER[layer]}.{tensor}"
    number, layer = part.removeprefix("decoder.layers.").split(".", 1)
    return f"decoder.layers.{number}.{DECODER_LAYER[layer]}.{tensor}"


def _is_unused(name: str) -> bool:
    return name.startswith(UNUSED) or name.endswith(UNUSED_ENDS)


def _as_ours(state: State, path: Path) -> State:
    """Return the state with matrices joined that are one here, by a name of their own."""
    found: State = {}
    for name, tensor in state.items():
        head, _, last = name.rpartition(".")
        if head.endswith(".self_attn.q_proj"):
            found[f"{head.removesuffix('q_proj')}qkv_proj.{last}"] = _joined(state, name, "qkv", path)
        elif head.endswith(".encoder_attn.k_proj"):
            found[f"{head.removesuffix('k_proj')}kv_proj.{last}"] = _joined(state, name, "kv", path)
        elif name == FIRST:
            found[name] = tensor.flatten(1, 2)
        elif name == f"{POSITIONS}_v":
            found[POSITIONS] = _directed(state, path)
        elif not _is_joined_elsewhere(head) and name != f"{POSITIONS}_g":
            found[name] = tensor
    return found


def _is_joined_elsewhere(head: str) -> bool:
    return head.endswith((".self_attn.k_proj", ".self_attn.v_proj", ".encoder_attn.v_proj"))


def _joined(state: Mapping[str, Tensor], name: str, letters: str, path: Path) -> Tensor:
    names = [name.replace(f".{letters[0]}_proj.", f".{letter}_proj.") for letter in letters]
    return torch.cat([_named(state, each, path) for each in names])


def _directed(state: Mapping[str, Tensor], path: Path) -> Tensor:
    """Return the convolution of positions: its direction, at each of its places, times its length there."""
    direction = _named(state, f"{POSITIONS}_v", path)
    length = _named(state, f"{POSITIONS}_g", path)
    found: Tensor = direction * (length / torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True))
    return found


def _named(state: Mapping[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in state:
        raise FileError(f"{path}: lacks {name}; is it a fine-tuned checkpoint of AV-HuBERT?")
    return state[name]
