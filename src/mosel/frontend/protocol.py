"""The Open Inference Protocol over HTTP: the body of an inference request and of its response.

A body is a JSON object; with the binary tensor extension the header `Inference-Header-Content-Length` gives the
object's length and the tensors follow it, raw, little-endian and row by row, in the order in which the object
names them. Raw tensors are views of the body, not copies. What a model expects is not known here
(`checks.py`), nor what an outcome means (`codes.py`).
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from mosel.core.errors import InputError, TooLargeError
from mosel.frontend.calls import Call, Input, Parameter
from mosel.models.base import DATATYPES, Tensor

MOST_DIMENSIONS = 32
JSON_LIMIT_BYTES = 8 << 20

Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
Shape = Annotated[list[Size], msgspec.Meta(max_length=MOST_DIMENSIONS)]


@dataclass(frozen=True, slots=True)
class Request:
    """A decoded request body: the call, and which of its outputs are wanted raw."""

    call: Call
    raw: Mapping[str, bool]
    raw_default: bool


@dataclass(frozen=True, slots=True)
class Body:
    """A response body; `header_length` is the length of its JSON object where raw tensors follow, else None."""

    content: bytes
    header_length: int | None


def decode(body: bytes, header_length: int | None, json_limit: int = JSON_LIMIT_BYTES) -> Request:
    """Decode the body of an inference request.

    Args:
        body: the whole body.
        header_length: of the JSON object, in bytes, where raw tensors follow it; None where none do.
        json_limit: the largest JSON object, in bytes.

    Raises:
        TooLargeError: the JSON object is larger.
        InputError: the body is not what the protocol asks for.
    """
    end = len(body) if header_length is None else header_length
    if not 0 < end <= len(body):
        raise InputError(
            f"Inference-Header-Content-Length is {end}, the body has {len(body)} bytes; "
            "expected the length of the JSON object that the body starts with"
        )
    if end > json_limit:
        raise TooLargeError(
            f"the JSON object has {end:,} bytes, this server takes {json_limit:,}; send tensors raw behind it "
            "(binary_data_size), which is faster too"
        )
    view = memoryview(body)
    found = _decode_json(view[:end])
    inputs = _inputs(found.inputs, view[end:])
    raw_default = found.parameters.pop("binary_data_output", False)
    if not isinstance(raw_default, bool):
        raise InputError(f"parameter binary_data_output is {raw_default!r}; expected true or false")
    for output in found.outputs:
        _check_output(output)
    raw = {o.name: o.parameters.binary_data for o in found.outputs if o.parameters.binary_data is not None}
    call = Call(inputs, found.id, found.parameters, tuple(output.name for output in found.outputs))
    return Request(call, raw, raw_default)


def encode(
    head: Mapping[str, Any],
    parameters: Mapping[str, Parameter],
    outputs: Sequence[tuple[Tensor, NDArray[Any]]],
    request: Request,
) -> Body:
    """Encode an inference response: `head` (model name, version, id), the parameters and the outputs."""
    described: list[dict[str, Any]] = []
    tail: list[memoryview] = []
    for tensor, values in outputs:
        array = np.ascontiguousarray(values, dtype=_wire_dtype(tensor.datatype))
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(array.shape)}
        if request.raw.get(tensor.name, request.raw_default):
            entry["parameters"] = {"binary_data_size": array.nbytes}
            tail.append(array.reshape(-1).view(np.uint8).data)
        else:
            entry["data"] = array.reshape(-1)
        described.append(entry)
    content = orjson.dumps(
        {**head, "parameters": parameters, "outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY
    )
    if not tail:
        return Body(content, None)
    return Body(b"".join((content, *tail)), len(content))


class _InputParameters(msgspec.Struct):
    binary_data_size: Size | None = None
    shared_memory_region: str | None = None


class _InputTensor(msgspec.Struct):
    name: str
    datatype: str
    shape: Shape
    parameters: _InputParameters = msgspec.field(default_factory=_InputParameters)
    data: msgspec.Raw = msgspec.Raw()


class _OutputParameters(msgspec.Struct):
    binary_data: bool | None = None
    classification: int = 0
    shared_memory_region: str | None = None


class _OutputTensor(msgspec.Struct):
    name: str
    parameters: _OutputParameters = msgspec.field(default_factory=_OutputParameters)


class _RequestBody(msgspec.Struct):
    inputs: list[_InputTensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_OutputTensor] = []


_DECODER = msgspec.json.Decoder(_RequestBody)


def _decode_json(raw: memoryview) -> _RequestBody:
    try:
        return _DECODER.decode(raw)
    except msgspec.ValidationError as error:
        raise InputError(f"the request's JSON object: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the request's body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise InputError("the request's JSON object is nested too deeply") from error


def _inputs(tensors: Sequence[_InputTensor], rest: memoryview) -> tuple[Input, ...]:
    found = []
    offset = 0
    for tensor in tensors:
        dtype = _dtype_of(tensor)
        size = tensor.parameters.binary_data_size
        if size is None:
            array = _from_json(tensor, dtype)
        else:
            array = _from_raw(tensor, dtype, rest[offset : offset + size])
            offset += size
        found.append(Input(tensor.name, tensor.datatype, array))
    if offset != len(rest):
        raise InputError(
            f"{len(rest)} bytes follow the JSON object, its inputs' binary_data_size add up to {offset}; "
            "expected the same"
        )
    return tuple(found)


def _dtype_of(tensor: _InputTensor) -> np.dtype[Any]:
    if tensor.parameters.shared_memory_region is not None:
        raise InputError(
            f"input {tensor.name!r}: shared memory regions are not supported; send the tensor in the body"
        )
    if tensor.datatype not in DATATYPES:
        raise InputError(
            f"input {tensor.name!r}: datatype {tensor.datatype!r}; expected one of {', '.join(DATATYPES)}"
        )
    return _wire_dtype(tensor.datatype)


def _wire_dtype(datatype: str) -> np.dtype[Any]:
    return _WIRE_DTYPES[datatype]


_WIRE_DTYPES = {name: np.dtype(numpy_name).newbyteorder("<") for name, numpy_name in DATATYPES.items()}


def _from_raw(tensor: _InputTensor, dtype: np.dtype[Any], raw: memoryview) -> NDArray[Any]:
    wanted = math.prod(tensor.shape) * dtype.itemsize
    if tensor.data:
        raise InputError(f"input {tensor.name!r}: has both data and binary_data_size; expected one of them")
    if tensor.parameters.binary_data_size != wanted:
        raise InputError(
            f"input {tensor.name!r}: binary_data_size is {tensor.parameters.binary_data_size}; "
            f"{tensor.datatype} of shape {tensor.shape} takes {wanted} bytes"
        )
    if len(raw) != wanted:
        raise InputError(f"input {tensor.name!r}: only {len(raw)} of its {wanted} bytes are in the body")
    array: NDArray[Any] = np.frombuffer(raw, dtype)
    if dtype.kind == "b":
        array = np.frombuffer(raw, np.uint8) != 0  # any byte but 0 is true; numpy would keep it as it is
    return _native(_shaped(array, tensor))


def _native(array: NDArray[Any]) -> NDArray[Any]:
    return array if sys.byteorder == "little" else array.astype(array.dtype.newbyteorder("="))


def _from_json(tensor: _InputTensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    array = _parse_data(tensor)
    if array.dtype.kind not in _KINDS[dtype.kind] and array.size:
        raise InputError(
            f"input {tensor.name!r}: data is no list of {_WORDS[dtype.kind]}; expected {tensor.datatype}"
        )
    wanted = math.prod(tensor.shape)
    if array.size != wanted:
        raise InputError(
            f"input {tensor.name!r}: data has {array.size} values; shape {tensor.shape} takes {wanted}"
        )
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise InputError(
                f"input {tensor.name!r}: data is out of range; expected {limits.min} to {limits.max}"
            )
    try:
        with np.errstate(over="raise"):
            return _shaped(array.astype(dtype.newbyteorder("=")), tensor)
    except FloatingPointError as error:
        raise InputError(f"input {tensor.name!r}: data is out of range of {tensor.datatype}") from error


def _shaped(array: NDArray[Any], tensor: _InputTensor) -> NDArray[Any]:
    try:
        return array.reshape(tensor.shape)
    except ValueError as error:  # a size of 0 beside others whose product is beyond any memory
        raise InputError(f"input {tensor.name!r}: shape {tensor.shape} cannot be: {error}") from error


_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "fiu"}
_WORDS = {"b": "true and false", "i": "whole numbers", "u": "whole numbers", "f": "numbers"}


def _parse_data(tensor: _InputTensor) -> NDArray[Any]:
    if not tensor.data:
        raise InputError(f"input {tensor.name!r}: has neither data nor binary_data_size; expected one of them")
    try:
        values = msgspec.json.decode(tensor.data)
        if not isinstance(values, list):
            raise InputError(f"input {tensor.name!r}: data is no list; expected its values row by row")
        return np.asarray(values)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise InputError(f"input {tensor.name!r}: data cannot be read: {error}") from error


def _check_output(output: _OutputTensor) -> None:
    if output.parameters.shared_memory_region is not None:
        raise InputError(f"output {output.name!r}: shared memory regions are not supported; leave it out")
    if output.parameters.classification:
        raise InputError(f"output {output.name!r}: classification is not supported; ask for the tensor itself")
