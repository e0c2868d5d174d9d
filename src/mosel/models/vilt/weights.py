"""The weights of ViLT: random ones, or published ones, and which of their names is which of ours.

There are two ways to name them: the authors' own (`transformer.blocks.0.attn.qkv.weight`) and that of the
transformers library (`vilt.encoder.layer.0.attention.attention.query.weight`), as `dandelin/vilt-b32-…` has it.
What other tasks need alone is left aside.
"""

import re
from collections.abc import Callable
from pathlib import Path

from mosel.models.checkpoints import fill, fill_as_ours, read_state, seeded
from mosel.models.precision import at_precision
from mosel.models.published import TOGETHER, in_our_shape, joined
from mosel.models.vilt import Shape
from mosel.models.vilt.network import ViLT
from mosel.models.wordpiece import read_vocabulary

OTHER_TASKS = re.compile(
    r"(mlm_score|itm_score|mpp_score|rank_output|cls)\..*|.*\.position_ids|.*\.token_type_ids"
)
HEAD = re.compile(r"(?:\w+_)?classifier\.(?:(\d)\.)?(weight|bias)")
"""The head of a task, one layer (`classifier.weight`) or several (`vqa_classifier.0.weight`)."""

AUTHORS = {
    "words.pieces": "text_embeddings.word_embeddings",
    "words.places": "text_embeddings.position_embeddings",
    "words.kinds": "text_embeddings.token_type_embeddings",
    "words.norm": "text_embeddings.LayerNorm",
    "kind": "token_type_embeddings",
    "patches.project": "transformer.patch_embed.proj",
    "image_first": "transformer.cls_token",
    "place": "transformer.pos_embed",
    "encoder.layers": "transformer.blocks",
    "norm_1": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.out": "attn.proj",
    "norm_2": "norm2",
    "feed.up": "mlp.fc1",
    "feed.down": "mlp.fc2",
    "encoder.norm": "transformer.norm",
    "pooler": "pooler.dense",
}
LIBRARY = {
    "words.pieces": "vilt.embeddings.text_embeddings.word_embeddings",
    "words.places": "vilt.embeddings.text_embeddings.position_embeddings",
    "words.kinds": "vilt.embeddings.text_embeddings.token_type_embeddings",
    "words.norm": "vilt.embeddings.text_embeddings.LayerNorm",
    "kind": "vilt.embeddings.token_type_embeddings",
    "patches.project": "vilt.embeddings.patch_embeddings.projection",
    "image_first": "vilt.embeddings.cls_token",
    "place": "vilt.embeddings.position_embeddings",
    "encoder.layers": "vilt.encoder.layer",
    "norm_1": "layernorm_before",
    "attention.qkv": f"attention.attention.{TOGETHER}",
    "attention.out": "attention.output.dense",
    "norm_2": "layernorm_after",
    "feed.up": "intermediate.dense",
    "feed.down": "output.dense",
    "encoder.norm": "vilt.layernorm",
    "pooler": "vilt.pooler.dense",
}


def load_network(
    shape: Shape, checkpoint: Path | None, vocabulary: Path, seed: int, device: str, precision: str
) -> ViLT:
    """Return the network ready to infer on `device`: with a checkpoint's weights, or random ones of `seed`.

    Raises:
        ModelError: the precision is not offered on this device.
        FileError: the checkpoint is none of this network.
    """
    first = read_vocabulary(vocabulary).first
    return at_precision(network_of(shape, first, checkpoint, seed), device, precision, "vilt")


def network_of(shape: Shape, first: int, checkpoint: Path | None, seed: int) -> ViLT:
    """Return the network in float32 on the CPU, in eval mode; its head is as deep as the checkpoint's.

    Raises:
        FileError: the checkpoint cannot be trusted, or is none of a network of this size.
    """
    if checkpoint is None:
        return seeded(lambda: ViLT(shape, first), seed)
    read = read_state(checkpoint)
    plain = seeded(lambda: ViLT(shape, first), seed)
    if fill_as_ours(plain, read, checkpoint):
        return plain
    state = {_plain_head(name): in_our_shape(t) for name, t in joined(read).items()}
    network = seeded(lambda: ViLT(shape, first, middle="classifier.3.weight" in state), seed)
    by_library = any(name.startswith("vilt.") for name in state)
    names = naming(LIBRARY if by_library else AUTHORS)
    fill(network, state, names, checkpoint, lambda name: bool(OTHER_TASKS.fullmatch(name)))
    return network


def naming(table: dict[str, str]) -> Callable[[str], str]:
    """Return the function from our names to published ones that a table of their parts makes."""

    def published_name(ours: str) -> str:
        if ours in table:
            return table[ours]
        module, _, tensor = ours.rpartition(".")
        layer = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", module)
        if layer:
            return f"{table['encoder.layers']}.{layer[1]}.{table[layer[2]]}.{tensor}"
        head = module.removeprefix("head.")
        return f"classifier.{head}.{tensor}" if head != module else f"{table[module]}.{tensor}"

    return published_name


def _plain_head(name: str) -> str:
    """Return the name of a head's tensor without its task, its layer always told."""
    found = HEAD.fullmatch(name)
    return f"classifier.{found[1] or 0}.{found[2]}" if found else name
