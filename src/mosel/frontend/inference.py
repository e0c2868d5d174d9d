"""What an inference request and its response hold in the Open Inference Protocol, as JSON says it.

How they are read and written stands in `protocol.py`.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from mosel.frontend.calls import Call
from mosel.frontend.tensors import MOST_DIMENSIONS

Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
Shape = Annotated[list[Size], msgspec.Meta(max_length=MOST_DIMENSIONS)]


class Request(msgspec.Struct, frozen=True):
    """A decoded request body: the call, and which of its outputs are wanted raw."""

    call: Call
    raw: Mapping[str, bool]
    raw_default: bool


class Body(msgspec.Struct, frozen=True):
    """A response body; `header_length` is the length of its JSON object where raw tensors follow, else None."""

    content: bytes
    header_length: int | None


class InputParameters(msgspec.Struct):
    """Of an input; other parameters mean nothing."""

    binary_data_size: Size | None = None
    shared_memory_region: str | None = None


class InputTensor(msgspec.Struct):
    """An input; its `data`, where it has any, is not decoded yet."""

    name: str
    datatype: str
    shape: Shape
    parameters: InputParameters = msgspec.field(default_factory=InputParameters)
    data: msgspec.Raw = msgspec.Raw()


class OutputParameters(msgspec.Struct):
    """Of an output that is asked for."""

    binary_data: bool | None = None
    classification: int = 0
    shared_memory_region: str | None = None


class OutputTensor(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: OutputParameters = msgspec.field(default_factory=OutputParameters)


class RequestBody(msgspec.Struct):
    """The JSON object of a request."""

    inputs: list[InputTensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[OutputTensor] = []
