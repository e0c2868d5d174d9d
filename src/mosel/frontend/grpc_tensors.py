"""Tensors and parameters of the protocol's messages over gRPC.

A request carries its tensors raw, one entry of `raw_input_contents` for each input, or as lists in `contents`.
The answer's travel as the request's did, unless `binary_data_output` says otherwise; FP16 and BF16 have no
list, so that an answer with one of these travels raw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import InputError
from mosel.frontend.calls import Call, Input, Parameter
from mosel.frontend.tensors import MOST_DIMENSIONS, check_counts, from_raw, from_values, size_problem
from mosel.models.base import BYTES, Tensor
from mosel.models.datatypes import held, to_wire

LISTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where a tensor's values stand in `contents`, by its data type."""

LARGEST_SIZE = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Asked:
    """A decoded request: the call, and whether its outputs are wanted raw."""

    call: Call
    raw: bool


def call_of(request: Any, limit_ns: int | None) -> Asked:
    """Return what a `ModelInferRequest` asks for.

    Args:
        request: the message.
        limit_ns: how long after its arrival the caller gives up.

    Raises:
        InputError: it is not what the protocol asks for.
    """
    parameters = {name: read_parameter(value) for name, value in request.parameters.items()}
    raw = parameters.pop("binary_data_output", not _in_lists(request))
    if not isinstance(raw, bool):
        raise InputError(f"parameter binary_data_output is {raw!r}; expected true or false")
    for output in request.outputs:
        _check_output(output)
    outputs = tuple(output.name for output in request.outputs)
    return Asked(Call(_inputs(request), request.id, parameters, outputs, limit_ns), raw)


def read_parameter(value: Any) -> object:
    """Return the value of a parameter; None if it has none."""
    kind = value.WhichOneof("parameter_choice")
    return None if kind is None else getattr(value, kind)


def write_parameters(target: Any, parameters: Mapping[str, Parameter]) -> None:
    """Put parameters into a message's map."""
    for name, value in parameters.items():
        kind = next(kind for type_, kind in _KINDS if isinstance(value, type_))
        setattr(target[name], kind, value)


def write_outputs(reply: Any, outputs: Sequence[tuple[Tensor, NDArray[Any]]], *, raw: bool) -> None:
    """Put outputs into a `ModelInferResponse`."""
    raw = raw or any(tensor.datatype not in LISTS for tensor, _ in outputs)
    for tensor, values in outputs:
        entry = reply.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=values.shape)
        if raw:
            reply.raw_output_contents.append(to_wire(values, tensor.datatype).tobytes())
        else:
            getattr(entry.contents, LISTS[tensor.datatype]).extend(
                np.asarray(values, tensor.dtype).reshape(-1).tolist()
            )


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "bool_param"),  # before int, which it is too
    (int, "int64_param"),
    (float, "double_param"),
    (str, "string_param"),
)


@dataclass(frozen=True, slots=True)
class _Declared:
    name: str
    datatype: str
    shape: tuple[int, ...]


def _in_lists(request: Any) -> bool:
    return not request.raw_input_contents and len(request.inputs) > 0


def _inputs(request: Any) -> tuple[Input, ...]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InputError(
            f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs; expected one for each, or none"
        )
    declared = [_declared(tensor) for tensor in request.inputs]
    check_counts(declared)
    arrays = (
        [_from_raw(*pair) for pair in zip(declared, request.inputs, raw, strict=True)]
        if raw
        else [_from_lists(*pair) for pair in zip(declared, request.inputs, strict=True)]
    )
    return tuple(
        Input(tensor.name, tensor.datatype, array) for tensor, array in zip(declared, arrays, strict=True)
    )


def _declared(tensor: Any) -> _Declared:
    shape = tuple(tensor.shape)
    if len(shape) > MOST_DIMENSIONS or any(not 0 <= size <= LARGEST_SIZE for size in shape):
        raise InputError(
            f"input {tensor.name!r}: shape is {list(shape)[: MOST_DIMENSIONS + 1]}; "
            f"expected at most {MOST_DIMENSIONS} sizes from 0 to {LARGEST_SIZE}"
        )
    if "shared_memory_region" in tensor.parameters:
        raise InputError(
            f"input {tensor.name!r}: shared memory regions are not supported; send the tensor in the message"
        )
    return _Declared(tensor.name, tensor.datatype, shape)


def _from_raw(declared: _Declared, tensor: Any, raw: bytes) -> NDArray[Any]:
    if tensor.HasField("contents"):
        raise InputError(
            f"input {tensor.name!r}: has both contents and raw_input_contents; expected one of them"
        )
    problem = size_problem(declared, len(raw))
    if problem:
        raise InputError(
            f"input {tensor.name!r}: raw_input_contents has {len(raw)} bytes; "
            f"{declared.datatype} of shape {list(declared.shape)} {problem}"
        )
    return from_raw(declared, raw)


def _from_lists(declared: _Declared, tensor: Any) -> NDArray[Any]:
    wanted = LISTS.get(declared.datatype)
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    if wanted is None:
        size_problem(declared, 0)  # a data type that there is not is another mistake
        raise InputError(
            f"input {tensor.name!r}: {declared.datatype} has no list in contents; use raw_input_contents"
        )
    if any(name != wanted for name in filled):
        raise InputError(
            f"input {tensor.name!r}: contents has {', '.join(filled)}; {declared.datatype} is in {wanted}"
        )
    if declared.datatype == BYTES:
        return from_values(declared, held(tensor.contents.bytes_contents))
    return from_values(declared, np.array(getattr(tensor.contents, wanted), _LIST_DTYPES[wanted]))


_LIST_DTYPES = {
    "bool_contents": "bool",
    "int_contents": "int32",
    "int64_contents": "int64",
    "uint_contents": "uint32",
    "uint64_contents": "uint64",
    "fp32_contents": "float32",
    "fp64_contents": "float64",
}


def _check_output(output: Any) -> None:
    for name in ("shared_memory_region", "classification"):
        if name in output.parameters:
            raise InputError(f"output {output.name!r}: {name} is not supported; ask for the tensor itself")
