"""What training one of the zoo's small networks takes, and the tensors that a network takes of samples."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, l1_loss
from torch.nn.utils.rnn import pad_sequence

from mosel.core.types import mode_name
from mosel.models import selfmm, tvlt, vilt
from mosel.models.av_digits.data import Split, Varying, balanced, written
from mosel.models.av_digits.vary import another_voice
from mosel.models.avhubert import digits as avhubert_digits
from mosel.models.avhubert import preprocess
from mosel.models.avhubert.network import AVHubert
from mosel.models.avhubert.shape import EOS, PAD, SPECIAL
from mosel.models.avhubert.shape import SHAPES as AVHUBERT_SHAPES
from mosel.models.avhubert.vocabulary import DIGITS, words
from mosel.models.base import Model, Samples
from mosel.models.layers import only_if_hiding
from mosel.models.registry import find
from mosel.models.selfmm import digits as selfmm_digits
from mosel.models.selfmm.network import SelfMM
from mosel.models.tbn import digits as tbn_digits
from mosel.models.tbn.network import TBN
from mosel.models.tbn.shape import SHAPES as TBN_SHAPES
from mosel.models.tvlt import digits as tvlt_digits
from mosel.models.tvlt.network import TVLT
from mosel.models.vilt import digits as vilt_digits
from mosel.models.vilt.network import ViLT
from mosel.models.wordpiece import read_vocabulary
from mosel.runtime.padding import assemble
from mosel.runtime.runner import prepare

PLACES = {"place", "time", "pitch", "kind", "cls", "image_first"}
PLACE_STD = 0.5
Draw = Callable[[Split, int, np.random.Generator, Varying | None], Samples]


class Task:
    """A network and what it learns from.

    Attributes:
        model: what prepares its inputs and says which combinations of modalities there are.
        network: what is trained and shipped.
        extra: what helps to train it and is thrown away.
        weights: of the losses of combinations that count for other than 1.
    """

    steps, batch, rate = 800, 64, 1e-3
    watched = 300
    weights: ClassVar[dict[str, float]] = {}
    draw: Draw

    def __init__(self, model: Model) -> None:
        self.model = model
        self.network: nn.Module = self.make()
        self.extra = nn.ModuleDict()

    def make(self) -> nn.Module:
        """Return the network with random weights."""
        raise NotImplementedError

    def prepare(self, _rng: np.random.Generator) -> None:
        """Do what comes before the first step."""

    def step(self, rng: np.random.Generator) -> Tensor:
        """Return the loss of one step, on samples of the training split."""
        return self.loss(self.draw(Split.TRAINING, self.batch, rng, another_voice))

    def loss(self, samples: Samples) -> Tensor:
        """Return the mean over every combination of modalities of the loss on these samples."""
        labels = torch.from_numpy(samples.labels)
        whole = inputs(self.model, samples, self.model.modality_names, range(len(samples)))
        losses = [
            self.weights.get(mode_name(mode), 1) * self.loss_of(given(self.model, whole, mode), labels)
            for mode in self.model.combinations()
        ]
        return torch.stack(losses).mean()

    def loss_of(self, tensors: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Return the loss in one combination of modalities."""
        raise NotImplementedError


class ViltTask(Task):
    """Traits of digits from words and pictures."""

    steps, batch, rate = 1100, 64, 1e-3
    weights: ClassVar[dict[str, float]] = {"image": 3}
    draw = staticmethod(lambda split, count, rng, _vary: vilt_digits.drawing(split, count, rng))

    def make(self) -> nn.Module:
        """Return the network with random weights."""
        return spread(ViLT(vilt.SHAPES["small"], read_vocabulary().first))

    def loss_of(self, tensors: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Return the cross-entropy of each trait."""
        return binary_cross_entropy_with_logits(self.network(**tensors), labels.float())


class TbnTask(Task):
    """Moving digits, one segment of each at a time; all three branches run once for all combinations."""

    steps, batch, rate = 320, 32, 3e-3
    watched = 200
    draw = staticmethod(partial(tbn_digits.drawing, segments=1))

    def make(self) -> nn.Module:
        """Return the network with random weights; the model that prepares inputs takes one segment."""
        self.model = find(f"{self.model.name},segments=1,seed=0")
        return TBN(TBN_SHAPES["small"]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(self, samples: Samples) -> Tensor:
        """Return the mean cross-entropy of verb and noun over all combinations."""
        names = self.model.modality_names
        seen = self.network.features_of(**inputs(self.model, samples, names, range(len(samples))))
        verbs, nouns = torch.from_numpy(samples.labels).T
        losses = []
        for mode in self.model.combinations():
            scores = self.network.fuse_features({name: seen[name] for name in mode}, len(samples), 1)
            losses.append(cross_entropy(scores["verb"], verbs) + cross_entropy(scores["noun"], nouns))
        return torch.stack(losses).mean()


class SelfmmTask(Task):
    """Sentiment of digits; while it is trained, each branch also tells the digit, by a layer thrown away."""

    steps, batch, rate = 1000, 64, 2e-3
    watched = 500
    draw = staticmethod(selfmm_digits.drawing)

    def make(self) -> nn.Module:
        """Return the network with random weights."""
        return SelfMM(selfmm.SHAPES["small"])

    def prepare(self, _rng: np.random.Generator) -> None:
        """Make the layers that tell the digit."""
        self.extra.update({name: nn.Linear(size, 10) for name, size in self.network.sizes.items()})

    def loss(self, samples: Samples) -> Tensor:
        """Return the mean loss over all combinations and branches."""
        names = self.model.modality_names
        tensors = inputs(self.model, samples, names, range(len(samples)))
        labels = torch.from_numpy(samples.labels).float()
        seen = {name: self.network.get_submodule(name)(tensors[name]) for name in names}
        losses = [
            sentiment_loss(self.network.answer({name: seen[name] for name in mode}), labels)
            for mode in self.model.combinations()
        ]
        told = [cross_entropy(self.extra[name](seen[name]), digits_of(labels)) for name in names]
        return torch.stack(losses).mean() + 0.5 * torch.stack(told).mean()


class TvltTask(Task):
    """Sentiment of digits; while it is trained, [CLS] also tells the digit, by a layer thrown away."""

    steps, batch, rate = 700, 32, 1e-3
    watched = 300
    draw = staticmethod(tvlt_digits.drawing)

    def make(self) -> nn.Module:
        """Return the network with random weights."""
        return spread(TVLT(tvlt.SHAPES["small"]))

    def prepare(self, _rng: np.random.Generator) -> None:
        """Make the layer that tells the digit."""
        self.extra["digit"] = nn.Linear(tvlt.SHAPES["small"].width, 10)

    def loss_of(self, tensors: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Return the loss of the sentiment, and of the digit."""
        tokens, visible = self.network.tokens(**tensors)
        first = self.network.encoder(tokens, only_if_hiding(visible), queries=1)[:, 0]
        told = cross_entropy(self.extra["digit"](first), digits_of(labels))
        return sentiment_loss(self.network.head(first), labels.float()) + 0.5 * told


class AvhubertTask(Task):
    """Rows of digits. The picture's front-end learns first, on single digits, and then stays as it is.

    What it makes of a pool of clips is kept, so that a step is as quick as without it. While they are trained,
    states also tell the digit of their frame, by a layer thrown away.
    """

    steps, batch, rate = 600, 16, 2e-3
    watched = 40
    lips_steps, lips_batch, lips_frames, lips_rate = 100, 64, 5, 3e-3
    pool = 900
    draw = staticmethod(avhubert_digits.drawing)

    def make(self) -> nn.Module:
        """Return the network with random weights."""
        return AVHubert(AVHUBERT_SHAPES["small"], words(DIGITS))

    def prepare(self, rng: np.random.Generator) -> None:
        """Train the picture's front-end, and make the pool."""
        shape = AVHUBERT_SHAPES["small"]
        self.extra["frame"] = nn.Linear(shape.width, 10)
        for module in self.network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0  # there is too little training for the network to learn by heart
        self._train_lips(rng)
        self.clips = [self._clip(rng) for _ in range(self.pool)]

    def step(self, rng: np.random.Generator) -> Tensor:
        """Return the mean loss over all combinations, on clips of the pool."""
        chosen = [self.clips[index] for index in rng.choice(self.pool, self.batch, replace=False)]
        audio, lips, digits = (
            pad_sequence([clip[i] for clip in chosen], batch_first=True, padding_value=(0, 0, -100)[i])
            for i in range(3)
        )
        masked(audio, rng)
        real, encoder = digits != -100, self.network.encoder
        heard = encoder.audio(audio)
        losses = []
        for given in ((heard, None), (None, lips), (heard, lips)):
            states = encoder.joined_states(*given, real)
            told = cross_entropy(self.extra["frame"](states).flatten(0, 1), digits.flatten())
            losses.append(told + self._decoded(states, real, [clip[3] for clip in chosen]))
        return torch.stack(losses).mean()

    def _decoded(self, states: Tensor, real: Tensor, said: list[Tensor]) -> Tensor:
        ends = torch.tensor([EOS])
        tokens = pad_sequence([torch.cat((ends, each)) for each in said], batch_first=True, padding_value=PAD)
        wanted = pad_sequence([torch.cat((each, ends)) for each in said], batch_first=True, padding_value=PAD)
        logits = self.network.decoder(tokens, states, real)
        return cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=PAD)

    def _train_lips(self, rng: np.random.Generator) -> None:
        lips = self.network.encoder.lips.to(memory_format=torch.channels_last)
        told = nn.Linear(lips.features, 10)
        parameters = [*lips.parameters(), *told.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=self.lips_rate, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.lips_rate, total_steps=self.lips_steps, pct_start=0.15
        )
        for step in range(1, self.lips_steps + 1):
            labels = balanced(self.lips_batch, rng)
            images = written(Split.TRAINING, labels, rng)
            frames = avhubert_digits.shown(images, self.lips_frames, rng)
            found = told(lips.train()(torch.from_numpy(avhubert_digits.enlarged(frames)), None))
            loss = cross_entropy(
                found.flatten(0, 1), torch.from_numpy(labels).repeat_interleave(self.lips_frames)
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 20 == 0:
                print(f"lips, step {step}/{self.lips_steps} · loss {loss.item():.3f}", flush=True)

    @torch.inference_mode()
    def _clip(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return sound (frames, features), what lips see, the digit of each frame, and the tokens."""
        drawn = avhubert_digits.aligned(Split.TRAINING, 1, rng, another_voice)
        video = torch.from_numpy(drawn.samples.inputs["video"]["video"][0])[None]
        lips = self.network.encoder.lips.eval()(video, None)[0].clone()
        wave = {"audio": drawn.samples.inputs["audio"]["audio"][0][None], "audio_rate": np.full((1, 1), 16_000)}
        sound = torch.from_numpy(preprocess.audio(wave)["audio"][0])[: len(lips)]
        sound = torch.nn.functional.pad(sound, (0, 0, 0, len(lips) - len(sound)))
        tokens = [SPECIAL + DIGITS.index(word) for word in str(drawn.samples.labels[0]).split()]
        return sound, lips, torch.from_numpy(drawn.digits[0]), torch.tensor(tokens)


def masked(audio: Tensor, rng: np.random.Generator) -> None:
    """Set a stretch of time and a few features of each clip, (clips, frames, features), to nothing."""
    for clip in audio:
        frame, feature = int(rng.integers(0, len(clip))), int(rng.integers(0, 26))
        clip[frame : frame + int(rng.integers(0, 4))] = 0
        clip.unflatten(1, (4, 26))[:, :, feature : feature + int(rng.integers(0, 4))] = 0


def spread(network: nn.Module) -> nn.Module:
    """Draw a network's own tokens and places anew, as far apart as patches are, and return it.

    Published networks start with places nearly alike; with few samples to learn from this one would not tell
    them apart.
    """
    for name, parameter in network.named_parameters():
        if name.rpartition(".")[2] in PLACES:
            nn.init.normal_(parameter, std=PLACE_STD)
    return network


def sentiment_loss(found: Tensor, labels: Tensor) -> Tensor:
    """Return how far sentiments (batch, 1) are from labels (batch,), above all in their sign."""
    positive = (labels > 0).float()
    return binary_cross_entropy_with_logits(2 * found[:, 0], positive) + 0.2 * l1_loss(found[:, 0], labels)


def digits_of(sentiments: Tensor) -> Tensor:
    """Return the digits that sentiments (batch,) are made of."""
    return (sentiments * selfmm_digits.STEP + selfmm_digits.MIDDLE).round().long()


TASKS: dict[str, type[Task]] = {
    "avhubert-small": AvhubertTask,
    "selfmm-small": SelfmmTask,
    "tbn-small": TbnTask,
    "tvlt-small": TvltTask,
    "vilt-small": ViltTask,
}


def given(model: Model, tensors: dict[str, Tensor], mode: Sequence[str]) -> dict[str, Tensor]:
    """Return those of `tensors` that belong to the modalities of `mode`."""
    names = {tensor.name for name in mode for tensor in model.modality(name).model_inputs}
    return {name: tensor for name, tensor in tensors.items() if name.removesuffix("_lengths") in names}


def inputs(model: Model, samples: Samples, modalities: Sequence[str], chosen: Sequence[int]) -> dict[str, Any]:
    """Return the network's keywords for these samples, prepared one by one and padded together."""
    tensors = [tensor for name in modalities for tensor in model.modality(name).model_inputs]
    parts: dict[str, list[Any]] = {tensor.name: [] for tensor in tensors}
    for index in chosen:
        for name in modalities:
            request = {key: np.asarray(values[index])[None] for key, values in samples.inputs[name].items()}
            for tensor, array in prepare(model, name, request).items():
                parts[tensor].append(array)
    return {name: torch.from_numpy(array.copy()) for name, array in assemble(tensors, parts).items()}
