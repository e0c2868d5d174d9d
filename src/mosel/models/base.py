"""What a user writes to serve a model of their own: a `Model` with its modalities, and a way to load it.

    from mosel import Modality, Model, Samples, Tensor

    model = Model(
        name="caption-check",
        modalities=(
            Modality("text", (Tensor("tokens", "INT64", (-1,), limits=(64,), pad=0),)),
            Modality("image", (Tensor("pixels", "FP32", (3, 224, 224)),)),
        ),
        outputs=(Tensor("scores", "FP32", (10,)),),
        load=lambda device, precision: Net().to(device),
        samples=held_out,
    )

`load` returns any callable, an `nn.Module` or a plain function. It is called with one keyword per input tensor
**of the chosen modalities only**, each of shape (batch, *shape), and returns a tensor of shape (batch, …), or a
mapping from output name to such a tensor. Nothing here runs it (`runtime/`), or imports numpy or torch.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mosel.core.errors import ModelError
from mosel.models.agreement import same_class
from mosel.models.tensor import BYTES, DATATYPES, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]
    Score = Callable[[Mapping[str, NDArray[Any]], NDArray[Any]], NDArray[np.float64]]
    Confidence = Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float64]]
    Agreement = Callable[[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]], NDArray[np.float64]]

__all__ = [
    "BYTES", "DATATYPES", "BatchFunction", "Further", "Modality", "Model", "Recipe", "Samples", "Tensor",
    "classification_score", "largest_probability", "largest_softmax", "metric_of",
]  # fmt: skip

BatchFunction = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Modality:
    """One modality: the tensors it arrives in and, optionally, what prepares them.

    `preprocess` maps the arriving arrays (by tensor name, each with the leading request dimension of one job)
    to the arrays that the model takes (`prepared` declares these; without it they are declared as they
    arrive). It runs beside the device, and only when the modality is chosen. Whatever it raises says that
    this modality of this job is corrupt.

    `features` are what the model has made of this modality once it is encoded, where it tells: the batch
    function returns them beside its outputs, by name, and takes them in place of the modality's inputs, for
    the same outputs. A cascade then encodes nothing twice. Their shapes are fixed.
    """

    name: str
    inputs: tuple[Tensor, ...]
    preprocess: "Callable[[Arrays], Arrays] | None" = None
    prepared: tuple[Tensor, ...] = ()
    features: tuple[Tensor, ...] = ()

    @property
    def model_inputs(self) -> tuple[Tensor, ...]:
        """The tensors that reach the model."""
        return self.prepared if self.preprocess and self.prepared else self.inputs


@dataclass(frozen=True, slots=True)
class Samples:
    """Labelled samples: held out from training, they measure accuracy and feed replays.

    Attributes:
        inputs: by modality name, then tensor name: an array of shape (samples, *shape), or a list with one
            array of shape `shape` per sample where lengths differ.
        labels: of shape (samples, …).
        source: what they are, in a few words; kept in the profile.
    """

    inputs: "Mapping[str, Mapping[str, NDArray[Any] | Sequence[NDArray[Any]]]]"
    labels: "NDArray[Any]"
    source: str = ""

    def __len__(self) -> int:
        return len(self.labels)


def classification_score(outputs: "Arrays", labels: "NDArray[Any]") -> "NDArray[np.float64]":
    """Return 1.0 for each sample whose first output is largest at its label, else 0.0; shape (samples,)."""
    scores = next(iter(outputs.values()))
    hits: NDArray[np.float64] = (scores.argmax(axis=-1) == labels).astype("float64")
    return hits


def largest_softmax(outputs: "Arrays") -> "NDArray[np.float64]":
    """Return the largest probability of each request whose first output is its logits; shape (batch,)."""
    logits = next(iter(outputs.values())).astype("float64")
    above = logits - logits.max(axis=-1, keepdims=True)
    shares: NDArray[np.float64] = 1 / (2.718281828459045**above).sum(axis=-1)
    return shares


def largest_probability(outputs: "Arrays") -> "NDArray[np.float64]":
    """Return each request's largest probability, where the first output is probabilities; shape (batch,)."""
    largest: NDArray[np.float64] = next(iter(outputs.values())).max(axis=-1).astype("float64")
    return largest


def metric_of(scores: "NDArray[np.float64]") -> float:
    """Return the metric of what `Model.score` gave samples: the mean, or the share that is right."""
    share = scores.mean() if scores.ndim == 1 else max(0.0, scores[:, 0].sum() / scores[:, 1].sum())
    return float(share)


@dataclass(frozen=True, slots=True)
class Further:
    """Metrics beside the one that SLOs are held against, such as a correlation, over all samples at once.

    Attributes:
        facts: what the metrics need to know of each sample, from outputs and labels: of shape (samples, facts).
        metrics: of the facts of all samples the metrics by name, on any scale.
    """

    facts: "Score"
    metrics: "Callable[[NDArray[np.float64]], Mapping[str, float]]"


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be profiled and served.

    Attributes:
        name: on the wire and in files.
        modalities: in the model's own order, which is the order in a mode's name.
        outputs: what the batch function returns, without the request dimension.
        load: `load(device, precision)` returns the batch function, with its weights on that device.
        samples: returns labelled, held-out samples; without it accuracies have to be given from elsewhere.
        score: gives each sample 0..1, higher is better; the metric is the mean of these. Or gives each two
            numbers, how much of it is right and how much there is: the metric is then the sum of the first over
            the sum of the second, as for words, 0 at least.
        metric: the metric's name.
        further: metrics that stand in the profile's `extra` beside it.
        confidence: how sure the model is of each request's answer, shape (batch,), higher is surer, from its
            outputs alone; on any scale. A cascade asks for further modalities where it is low. Without it a
            model that is scored as a classifier counts as one that returns logits; others have none.
        agreement: how far two answers to each request are the same, on 0..1, shape (batch,), from the outputs
            of both. Without it they are where a model scored as a classifier names the same class.
        calibration: returns labelled samples that are neither in training nor in `samples`; on these the
            thresholds of cascades are chosen. Without it there are none.
        allowed: whether a combination of modalities may be used at all ("never without text").
        precisions: those to offer, the usual one first; by kind of device (`cpu`, `cuda`) where they differ.
        framework: `torch`, or `numpy` for functions on arrays that need no device.
        max_batch: the largest batch to profile.
        accuracy_slo: default for requests that name none; None means the least accurate mode.
        latency_slo_s: default for requests that name none.
        length_buckets: ascending upper limits of lengths, in the model's own unit, where latency depends on
            them: it is profiled for each, and requests of one run together. See `Tensor.per_length`.
        version: changes whenever the weights do; a profile of another version is not used.
        replayable: whether a GPU may record and replay it (CUDA graphs): what runs depends on the inputs'
            shapes, on no value or state, and filling requests up to the largest shape changes no answer.
        trained: whether the weights mean anything. Of random ones no accuracy is measured, only latencies.
    """

    name: str
    modalities: tuple[Modality, ...]
    outputs: tuple[Tensor, ...]
    load: Callable[[str, str], BatchFunction]
    samples: Callable[[], Samples] | None = None
    score: "Score" = classification_score
    metric: str = "accuracy"
    further: Further | None = None
    confidence: "Confidence | None" = None
    agreement: "Agreement | None" = None
    calibration: Callable[[], Samples] | None = None
    allowed: Callable[[tuple[str, ...]], bool] = lambda _: True
    precisions: tuple[str, ...] | Mapping[str, tuple[str, ...]] = ("float32",)
    framework: str = "torch"
    max_batch: int = 16
    accuracy_slo: float | None = None
    latency_slo_s: float = 1.0
    length_buckets: tuple[float, ...] = ()
    version: str = "1"
    replayable: bool = False
    trained: bool = True

    def __post_init__(self) -> None:
        problem = next(self._problems(), None)
        if problem:
            raise ModelError(f"model {self.name!r}: {problem}")

    @property
    def modality_names(self) -> tuple[str, ...]:
        """The modalities' names in the model's order."""
        return tuple(modality.name for modality in self.modalities)

    @property
    def confidence_of(self) -> "Confidence | None":
        """What tells how sure the model is of its outputs; None if nothing does."""
        if self.confidence is None and self.score is classification_score:
            return largest_softmax
        return self.confidence

    @property
    def agreement_of(self) -> "Agreement | None":
        """What tells how far two answers agree; None if nothing does."""
        return same_class if self.agreement is None and self.score is classification_score else self.agreement

    def modality(self, name: str) -> Modality:
        """Return the modality called `name`; KeyError if there is none."""
        return next(m for m in self.modalities if m.name == name)

    def encoded(self, modalities: Sequence[str]) -> tuple[str, ...]:
        """Return those of these modalities whose features can be kept for a later stage."""
        return tuple(name for name in modalities if self.modality(name).features)

    def precisions_on(self, kind: str) -> tuple[str, ...]:
        """Return the precisions offered on a kind of device, the usual one first.

        Raises:
            ModelError: the model offers none there.
        """
        if isinstance(self.precisions, tuple):
            return self.precisions
        if kind not in self.precisions:
            raise ModelError(
                f"model {self.name!r}: runs on {' or '.join(self.precisions)}, not on {kind}; "
                "choose another --device"
            )
        return self.precisions[kind]

    def length_of(self, sizes: Mapping[str, Sequence[int]]) -> float | None:
        """Return how long the longest of these requests is, None if no tensor tells.

        Args:
            sizes: by arriving tensor's name, the shape of one request.
        """
        tensors = [t for m in self.modalities for t in m.inputs if t.per_length and t.name in sizes]
        return max((sizes[t.name][t.variable_axis] / t.per_length for t in tensors), default=None)

    def combinations(self) -> tuple[tuple[str, ...], ...]:
        """Return every allowed combination of modalities, smallest first, each in the model's order."""
        names = self.modality_names
        every = (c for n in range(1, len(names) + 1) for c in itertools.combinations(names, n))
        return tuple(combination for combination in every if self.allowed(combination))

    def _problems(self) -> Iterator[str]:
        if not self.name or any(c in self.name for c in "/ \t\n"):
            yield "its name must be a word without slashes or blanks"
        if not self.modalities:
            yield "it has no modalities"
        if any(set("+@;:,") & set(name) for name in self.modality_names):
            yield f"modality names {self.modality_names} must do without + @ ; : ,"
        tensors = [t for m in self.modalities for t in m.inputs]
        features = [t for m in self.modalities for t in m.features]
        for names in (
            self.modality_names,
            [t.name for t in (*tensors, *features)],
            [t.name for t in (*self.outputs, *features)],
        ):
            if not names or len(set(names)) != len(names):
                yield f"names must be given and differ: {', '.join(names)}"
        prepared = [t for m in self.modalities for t in m.prepared]
        for tensor in (*tensors, *prepared, *features, *self.outputs):
            if tensor not in self.outputs or -1 not in tensor.shape:
                yield from tensor.problems()
        if ragged := next((t.name for t in features if -1 in t.shape or t.datatype == BYTES), None):
            yield f"feature {ragged}: expected a fixed shape, and no BYTES"
        yield from self._ragged_problems()
        yield from self._bucket_problems()
        if self.framework not in ("torch", "numpy"):
            yield f"framework {self.framework!r}; expected torch or numpy"
        offered = [self.precisions] if isinstance(self.precisions, tuple) else [*self.precisions.values()]
        if self.max_batch < 1 or not offered or not all(offered):
            yield "max_batch must be at least 1 and precisions must name one"
        if not self.combinations():
            yield "`allowed` refuses every combination of modalities"

    def _ragged_problems(self) -> Iterator[str]:
        for tensor in self.outputs:
            beside = Tensor(f"{tensor.name}_lengths", "INT64", ())
            if tensor.lengths and (-1 not in tensor.shape or beside not in self.outputs):
                yield (
                    f"output {tensor.name}: lengths are announced; expected a variable dimension, and an "
                    f"output {beside.name!r} of INT64 and shape () beside it"
                )

    def _bucket_problems(self) -> Iterator[str]:
        limits = self.length_buckets
        if list(limits) != sorted(set(limits)) or any(limit <= 0 for limit in limits):
            yield f"length_buckets {limits}; expected ascending positive limits"
        for modality in self.modalities:
            for tensors in (modality.inputs, modality.model_inputs):
                measured = [tensor for tensor in tensors if tensor.per_length]
                if bool(measured) != bool(limits):
                    yield (
                        f"modality {modality.name}: per_length in {len(measured)} of its tensors and "
                        f"{len(limits)} length_buckets; expected both or neither"
                    )
            longest = self.length_of({tensor.name: tensor.largest_shape for tensor in modality.inputs})
            if limits and longest is not None and longest > limits[-1]:
                yield f"modality {modality.name}: may be {longest:g} long, over the last bucket {limits[-1]:g}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is made from options, as in `vilt,checkpoint=FILE` on the command line.

    Attributes:
        make: returns the model; called with the options that were given as keywords.
        options: by name, what turns an option's text into its value, or raises ValueError.
    """

    make: Callable[..., Model]
    options: Mapping[str, Callable[[str], object]]
