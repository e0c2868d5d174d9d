"""The Open Inference Protocol over HTTP: the body of an inference request and of its response.

A body is a JSON object; with the binary tensor extension the header `Inference-Header-Content-Length` gives the
object's length and the tensors follow it, raw, little-endian and row by row, in the order in which the object
names them. Raw tensors are views of the body, not copies. What a model expects is not known here
(`checks.py`), nor what an outcome means (`codes.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from mosel.core.errors import InputError, TooLargeError
from mosel.frontend.calls import Call, Input, Parameter, of_tenant
from mosel.frontend.inference import Body, InputTensor, OutputTensor, Request, RequestBody
from mosel.frontend.offers import OfferBody
from mosel.frontend.tensors import (
    check_counts,
    from_raw,
    from_texts,
    from_values,
    size_problem,
)
from mosel.models.base import BYTES, Tensor
from mosel.models.datatypes import to_wire

JSON_LIMIT_BYTES = 8 << 20
OFFER_LIMIT_BYTES = 64 << 10


def decode(body: bytes | memoryview, header_length: int | None, json_limit: int = JSON_LIMIT_BYTES) -> Request:
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


def decode_offer(body: bytes, tenant: str | None) -> OfferBody:
    """Decode the body of an offer, as one of the tenant whose key it came with, if it did.

    Raises:
        TooLargeError: it is larger than an offer ever is.
        InputError: it is not what an offer looks like.
    """
    if len(body) > OFFER_LIMIT_BYTES:
        raise TooLargeError(f"an offer has {len(body):,} bytes; expected at most {OFFER_LIMIT_BYTES:,}")
    try:
        found = msgspec.json.decode(body, type=OfferBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f'the offer: {error}; expected {{"requests": 1, "parameters": {{…}}}}') from error
    if tenant is not None:
        found.parameters = of_tenant(Call((), "", found.parameters), tenant).parameters  # type: ignore[assignment]
    return found


def encode(
    head: Mapping[str, Any],
    parameters: Mapping[str, Parameter],
    outputs: Sequence[tuple[Tensor, NDArray[Any]]],
    request: Request,
) -> Body:
    """Encode an inference response: `head` (model name, version, id), the parameters and the outputs.

    An output of BYTES that is no text travels raw, whatever was asked for: JSON cannot hold it.
    """
    described: list[dict[str, Any]] = []
    tail: list[memoryview] = []
    for tensor, values in outputs:
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(values.shape)}
        wanted = request.raw.get(tensor.name, request.raw_default)
        texts = None if wanted or tensor.datatype != BYTES else _texts(values)
        if wanted or (tensor.datatype == BYTES and texts is None):
            array = to_wire(values, tensor.datatype)
            entry["parameters"] = {"binary_data_size": array.nbytes}
            tail.append(array.reshape(-1).view(np.uint8).data)
        elif texts is not None:
            entry["data"] = texts
        else:
            entry["data"] = np.ascontiguousarray(values, tensor.dtype).reshape(-1)
        described.append(entry)
    content = orjson.dumps(
        {**head, "parameters": parameters, "outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY
    )
    if not tail:
        return Body(content, None)
    return Body(b"".join((content, *tail)), len(content))


_DECODER = msgspec.json.Decoder(RequestBody)


def _decode_json(raw: memoryview) -> RequestBody:
    try:
        return _DECODER.decode(raw)
    except msgspec.ValidationError as error:
        raise InputError(f"the request's JSON object: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the request's body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise InputError("the request's JSON object is nested too deeply") from error


def _inputs(tensors: Sequence[InputTensor], rest: memoryview) -> tuple[Input, ...]:
    found = []
    offset = 0
    check_counts(tensors)
    for tensor in tensors:
        if tensor.parameters.shared_memory_region is not None:
            raise InputError(
                f"input {tensor.name!r}: shared memory regions are not supported; send the tensor in the body"
            )
        size = tensor.parameters.binary_data_size
        if size is None:
            array = _from_json(tensor)
        else:
            array = _from_body(tensor, size, rest[offset : offset + size])
            offset += size
        found.append(Input(tensor.name, tensor.datatype, array))
    if offset != len(rest):
        raise InputError(
            f"{len(rest)} bytes follow the JSON object, its inputs' binary_data_size add up to {offset}; "
            "expected the same"
        )
    return tuple(found)


def _from_body(tensor: InputTensor, size: int, raw: memoryview) -> NDArray[Any]:
    problem = size_problem(tensor, size)
    if tensor.data:
        raise InputError(f"input {tensor.name!r}: has both data and binary_data_size; expected one of them")
    if problem:
        raise InputError(
            f"input {tensor.name!r}: binary_data_size is {size}; "
            f"{tensor.datatype} of shape {tensor.shape} {problem}"
        )
    if len(raw) != size:
        raise InputError(f"input {tensor.name!r}: only {len(raw)} of its {size} bytes are in the body")
    return from_raw(tensor, raw)


def _from_json(tensor: InputTensor) -> NDArray[Any]:
    if not tensor.data:
        raise InputError(f"input {tensor.name!r}: has neither data nor binary_data_size; expected one of them")
    try:
        values = msgspec.json.decode(tensor.data)
        if not isinstance(values, list):
            raise InputError(f"input {tensor.name!r}: data is no list; expected its values row by row")
        array = None if tensor.datatype == BYTES else np.asarray(values)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise InputError(f"input {tensor.name!r}: data cannot be read: {error}") from error
    return from_texts(tensor, values) if array is None else from_values(tensor, array)


def _texts(values: NDArray[Any]) -> list[str] | None:
    """Return values of BYTES as texts; None if one is no UTF-8."""
    try:
        return [value.decode() for value in values.reshape(-1).tolist()]
    except UnicodeDecodeError:
        return None


def _check_output(output: OutputTensor) -> None:
    if output.parameters.shared_memory_region is not None:
        raise InputError(f"output {output.name!r}: shared memory regions are not supported; leave it out")
    if output.parameters.classification:
        raise InputError(f"output {output.name!r}: classification is not supported; ask for the tensor itself")
