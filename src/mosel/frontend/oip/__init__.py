"""The protocol's messages over gRPC, as classes: `messages.Name()`.

They stand in a descriptor pool of their own, since a process that also imports another client of the same
protocol holds messages of the same names.
"""

from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
DESCRIPTORS = "oip.binpb"
"""The compiled `oip.proto`; `scripts/grpc_stubs.py` makes it."""


def message(name: str) -> Any:
    """Return the class of the message `name`, as it is called in `oip.proto`."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"inference.{name}"))


def methods() -> dict[str, tuple[Any, Any]]:
    """Return the classes of request and response of every method of the service."""
    service = _POOL.FindServiceByName(SERVICE)
    return {
        method.name: (message(method.input_type.name), message(method.output_type.name))
        for method in service.methods
    }


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    compiled = descriptor_pb2.FileDescriptorSet.FromString(
        files(__package__).joinpath(DESCRIPTORS).read_bytes()
    )
    for file in compiled.file:
        pool.Add(file)
    return pool


_POOL = _pool()
