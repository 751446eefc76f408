"""Caffe's protobuf messages with or without a Caffe: for what only reads and writes prototxt files."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from caffebench.common.errors import CaffebenchError
from caffebench.engine.locate import caffe_pb2

__all__ = ["caffe_messages"]

# ``caffe.proto`` of BVLC Caffe 1.0 as protobuf itself describes it: the ``serialized_pb`` of its ``caffe_pb2``.
_SHIPPED = Path(__file__).with_name("caffe_messages.binpb")


def caffe_messages() -> ModuleType:
    """The ``caffe_pb2`` of the installed Caffe, which may be a fork with fields of its own; else that of Caffe 1.0."""
    try:
        return caffe_pb2()
    except CaffebenchError:
        return shipped_messages()


@cache
def shipped_messages() -> ModuleType:
    """The messages and enumerations of Caffe 1.0 as attributes, like a generated module has them.

    They live in a pool of their own, so that they never collide with those of a Caffe that is imported later.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

    written = descriptor_pb2.FileDescriptorProto.FromString(_SHIPPED.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(written)
    file: Any = pool.FindFileByName(written.name)
    module = ModuleType("caffe_pb2", "Caffe's messages, of no installed Caffe.")
    names: dict[str, Any] = {"DESCRIPTOR": file}
    for name, message in file.message_types_by_name.items():
        names[name] = message_factory.GetMessageClass(message)
    for name, enumeration in file.enum_types_by_name.items():
        names[name] = EnumTypeWrapper(enumeration)
        names |= {value.name: value.number for value in enumeration.values}
    vars(module).update(names)
    return module
