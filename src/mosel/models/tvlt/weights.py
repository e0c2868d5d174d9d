"""The weights of TVLT: random ones, or published ones, and which of their names is which of ours.

Theirs are those of the authors' fine-tuned models (`TVLT-MOSEI-SA.ckpt`), before them perhaps `transformer.`,
as their training leaves it. What belongs to pre-training alone is left aside.
"""

from pathlib import Path

from mosel.models.checkpoints import fill, fill_as_ours, read_state, seeded
from mosel.models.precision import at_precision
from mosel.models.published import in_our_shape
from mosel.models.tvlt import Shape
from mosel.models.tvlt.network import TVLT

PRE_TRAINING = ("decoder_", "mask_token_", "mae_score_", "matching_score.", "text_embeddings.", "mlm_score.")

ONES = {
    "cls": "cls_token",
    "audio.kind": "type_embed_a",
    "audio.time": "pos_embed_a",
    "audio.pitch": "freq_embed",
    "video.kind": "type_embed_v",
    "video.time": "temporal_embed",
    "video.place": "pos_embed_v",
}
"""Embeddings, which are published with a first dimension of 1."""

MODULES = {
    "audio.patches.project": "patch_embed_a.proj",
    "video.patches.project": "patch_embed_v.proj",
    "encoder.norm": "norm",
    "head.0": "classifier.0.dense",
    "head.2": "classifier.1",
    "head.3": "classifier.2",
    "head.5": "classifier.4",
}
LAYER = {
    "norm_1": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.out": "attn.proj",
    "norm_2": "norm2",
    "feed.up": "mlp.fc1",
    "feed.down": "mlp.fc2",
}


def load_network(shape: Shape, checkpoint: Path | None, seed: int, device: str, precision: str) -> TVLT:
    """Return the network ready to infer on `device`: with a checkpoint's weights, or random ones of `seed`.

    Raises:
        ModelError: the precision is not offered on this device.
        FileError: the checkpoint is none of this network.
    """
    return at_precision(network_of(shape, checkpoint, seed), device, precision, "tvlt")


def network_of(shape: Shape, checkpoint: Path | None, seed: int) -> TVLT:
    """Return the network in float32 on the CPU, in eval mode.

    Raises:
        FileError: the checkpoint cannot be trusted, or is none of a network of this size.
    """
    network = seeded(lambda: TVLT(shape), seed)
    if checkpoint is not None:
        read = read_state(checkpoint)
        if fill_as_ours(network, read, checkpoint):
            return network
        state = {name.removeprefix("transformer."): in_our_shape(t) for name, t in read.items()}
        fill(network, state, published_name, checkpoint, lambda name: name.startswith(PRE_TRAINING))
    return network


def published_name(ours: str) -> str:
    """Return the published name of one of our parameters."""
    if ours in ONES:
        return ONES[ours]
    module, _, tensor = ours.rpartition(".")
    if module in MODULES:
        return f"{MODULES[module]}.{tensor}"
    number, _, part = module.removeprefix("encoder.layers.").partition(".")
    return f"blocks.{number}.{LAYER[part]}.{tensor}"
