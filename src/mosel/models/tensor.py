"""How a tensor of a request, or of an answer, is declared: name, type and shape, as on the wire.

What a model makes of tensors is `base.py`'s business. Importing this module imports neither numpy nor torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

DATATYPES: dict[str, str] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "BF16": "float32",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
"""The Open Inference Protocol's data types, and numpy's names of what holds them: of BYTES, Python objects."""

BYTES = "BYTES"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a request, without the leading request dimension.

    Attributes:
        name: its name on the wire and the keyword under which the model receives it.
        datatype: one of `DATATYPES`.
        shape: of one request; −1 marks a variable dimension, any length from 1 to its limit.
        limits: the largest length of each variable dimension, in order.
        pad: the value that fills shorter requests of a batch up to the longest.
        lengths: whether the model also receives `<name>_lengths`, an INT64 tensor of shape (batch,) that
            holds each request's own length along its first variable dimension. Of an output: whether the model
            also returns that, as an output of its own that is declared beside it.
        per_length: how many entries along its first variable dimension one unit of the model's length has; 0 if
            it has no part in it. Only for models with `length_buckets`.
        most_bytes: in one value of an input of BYTES; a request with more is refused.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    limits: tuple[int, ...] = ()
    pad: float = 0
    lengths: bool = False
    per_length: float = 0
    most_bytes: int = 1 << 20

    @property
    def dtype(self) -> str:
        """The numpy name of what holds it."""
        return DATATYPES[self.datatype]

    @property
    def largest_shape(self) -> tuple[int, ...]:
        """The shape of the longest request that is accepted."""
        limits = iter(self.limits)
        return tuple(next(limits) if size == -1 else size for size in self.shape)

    @property
    def filler(self) -> float | bytes:
        """What fills shorter requests."""
        return b"" if self.datatype == BYTES else self.pad

    @property
    def variable_axis(self) -> int:
        """Where its first variable dimension is, the request dimension not counted."""
        return self.shape.index(-1)

    def at_length(self, length: float | None) -> tuple[int, ...]:
        """Return the shape of the longest request of this length; without one, of the longest accepted."""
        sizes = list(self.largest_shape)
        if length is not None and self.per_length:
            sizes[self.variable_axis] = max(1, min(sizes[self.variable_axis], int(length * self.per_length)))
        return tuple(sizes)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the declaration, if anything."""
        if not self.name.isidentifier():
            yield f"tensor name {self.name!r} is no Python identifier"
        if self.datatype not in DATATYPES:
            yield f"tensor {self.name}: datatype {self.datatype!r}; expected one of {', '.join(DATATYPES)}"
        if any(size != -1 and size < 1 for size in self.shape):
            yield f"tensor {self.name}: shape {self.shape}; expected sizes from 1, or -1 where variable"
        variable = sum(size == -1 for size in self.shape)
        if variable != len(self.limits) or any(limit < 1 for limit in self.limits):
            yield (
                f"tensor {self.name}: {variable} variable dimensions and limits {self.limits}; "
                "expected one positive limit for each"
            )
        if self.lengths and not variable:
            yield f"tensor {self.name}: lengths are asked for, but no dimension is variable"
        if self.most_bytes < 1:
            yield f"tensor {self.name}: most_bytes {self.most_bytes}; expected at least 1"
        if self.per_length and not (variable and self.per_length > 0):
            yield (
                f"tensor {self.name}: per_length {self.per_length:g}; expected a positive number of entries of "
                "a variable dimension"
            )
