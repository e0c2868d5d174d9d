"""The weights of Self-MM: random ones, or published ones, and which of their names is which of ours.

Theirs are those of the authors' code (`text_model.model.…`, BERT as the transformers library names it;
`audio_model.rnn.weight_ih_l0`; `post_fusion_layer_1.weight`), before them perhaps `Model.`. Where their LSTMs
and heads are of other widths, as in their first release, the network is built to fit. BERT alone, as published,
starts a training.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from mosel.core.errors import FileError
from mosel.models.checkpoints import State, fill, fill_as_ours, read_state, seeded
from mosel.models.precision import at_precision
from mosel.models.published import TOGETHER, joined
from mosel.models.selfmm import Branch, Shape
from mosel.models.selfmm.network import SelfMM

BERT = "text_model.model."
NOT_READ = re.compile(
    r"(bert\.|text_model\.model\.)?(pooler\..*|embeddings\.position_ids)|cls\..*|(audio|video)_classifier\..*"
)
"""BERT's pooler, the heads of its pre-training, and two layers for tests that Self-MM's first release holds."""

MODULES = {
    "words.pieces": "embeddings.word_embeddings",
    "words.places": "embeddings.position_embeddings",
    "words.kinds": "embeddings.token_type_embeddings",
    "words.norm": "embeddings.LayerNorm",
}
LAYER = {
    "attention.qkv": f"attention.self.{TOGETHER}",
    "attention.out": "attention.output.dense",
    "norm_1": "attention.output.LayerNorm",
    "feed.up": "intermediate.dense",
    "feed.down": "output.dense",
    "norm_2": "output.LayerNorm",
}
OLD_NORMS = {"gamma": "weight", "beta": "bias"}
"""How the first BERT names the two tensors of a norm."""


def load_network(shape: Shape, checkpoint: Path | None, seed: int, device: str, precision: str) -> SelfMM:
    """Return the network ready to infer on `device`: with a checkpoint's weights, or random ones of `seed`.

    Raises:
        ModelError: the precision is not offered on this device.
        FileError: the checkpoint is none of this network.
    """
    return at_precision(network_of(shape, checkpoint, seed), device, precision, "selfmm")


def network_of(shape: Shape, checkpoint: Path | None, seed: int) -> SelfMM:
    """Return the network in float32 on the CPU, in eval mode.

    Raises:
        FileError: the checkpoint cannot be trusted, or is none of a network of this size.
    """
    if checkpoint is None:
        return seeded(lambda: SelfMM(shape), seed)
    found = read_state(checkpoint)
    plain = seeded(lambda: SelfMM(shape), seed)
    if fill_as_ours(plain, found, checkpoint):
        return plain
    state = joined({name.removeprefix("Model."): tensor for name, tensor in found.items()})
    network = seeded(lambda: SelfMM(_fitting(shape, state, checkpoint)), seed)
    fill(network, state, published_name, checkpoint, _is_not_read)
    return network


def start_from_bert(network: SelfMM, checkpoint: Path) -> None:
    """Lay BERT as published (`bert-base-uncased`) into the text's branch; all else of the network stays.

    Raises:
        FileError: the file cannot be trusted, or is no BERT of this size.
    """
    read = {_new_norm(name.removeprefix("bert.")): tensor for name, tensor in read_state(checkpoint).items()}
    fill(network.text, joined(read), _name_in_bert, checkpoint, _is_not_read)


def published_name(ours: str) -> str:
    """Return the published name of one of our parameters."""
    branch, _, rest = ours.partition(".")
    if branch == "text":
        return BERT + _name_in_bert(rest)
    if branch == "heads":
        name, number, tensor = rest.split(".")
        return f"post_{'fusion' if name == 'fused' else name}_layer_{int(number) // 2 + 1}.{tensor}"
    module, _, tensor = rest.partition(".")
    return f"{branch}_model.{'rnn' if module == 'lstm' else 'linear_1'}.{tensor}"


def _name_in_bert(ours: str) -> str:
    module, _, tensor = ours.rpartition(".")
    if module in MODULES:
        return f"{MODULES[module]}.{tensor}"
    number, _, part = module.removeprefix("encoder.layers.").partition(".")
    return f"encoder.layer.{number}.{LAYER[part]}.{tensor}"


def _fitting(shape: Shape, state: State, path: Path) -> Shape:
    return replace(
        shape,
        audio=_fitting_branch("audio", shape.audio, state, path),
        video=_fitting_branch("video", shape.video, state, path),
        text_head=_rows("post_text_layer_1.weight", state, path),
        fused=_rows("post_fusion_layer_1.weight", state, path),
    )


def _fitting_branch(name: str, branch: Branch, state: State, path: Path) -> Branch:
    return replace(
        branch,
        hidden=_rows(f"{name}_model.rnn.weight_ih_l0", state, path) // 4,
        out=_rows(f"{name}_model.linear_1.weight", state, path),
        head=_rows(f"post_{name}_layer_1.weight", state, path),
    )


def _rows(name: str, state: Mapping[str, Tensor], path: Path) -> int:
    if name not in state:
        raise FileError(f"{path}: lacks {name}; is it a checkpoint of Self-MM, and of this size?")
    return len(state[name])


def _new_norm(name: str) -> str:
    module, _, tensor = name.rpartition(".")
    return f"{module}.{OLD_NORMS.get(tensor, tensor)}" if module.endswith("LayerNorm") else name


def _is_not_read(name: str) -> bool:
    return bool(NOT_READ.fullmatch(name))
