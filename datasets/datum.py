"""Caffe's record, the ``Datum`` message, without Caffe: who prepares data need not have built it.

The message is the one of ``caffe.proto`` (fields 1 to 7 of ``message Datum``), declared here at run time in a
pool of its own, so that it never collides with the ``caffe_pb2`` of an installed Caffe.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

__all__ = ["Image", "Record", "datum_class", "encoded_record", "raw_record", "read_record"]

Image = NDArray[np.uint8]


@cache
def datum_class() -> Any:
    """The message class ``caffe.Datum``."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffebench/datum.proto", package="caffe", syntax="proto2")
    datum = file.message_type.add(name="Datum")
    fields = [
        ("channels", kinds.TYPE_INT32),
        ("height", kinds.TYPE_INT32),
        ("width", kinds.TYPE_INT32),
        ("data", kinds.TYPE_BYTES),
        ("label", kinds.TYPE_INT32),
        ("float_data", kinds.TYPE_FLOAT),
        ("encoded", kinds.TYPE_BOOL),
    ]
    for number, (name, kind) in enumerate(fields, start=1):
        repeated = name == "float_data"
        label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
        datum.field.add(name=name, number=number, type=kind, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.Datum"))


@dataclass(frozen=True)
class Record:
    """A serialised Datum, with what the totals over a whole LMDB need to know of its image."""

    data: bytes
    shape: tuple[int, ...]
    """Channels, height, width."""
    sums: tuple[int, ...]
    """The sum of all pixels of each channel."""
    checksum: int = 0
    """Of the file that it was made from, and of its place."""
    encoded_anew: bool = False
    """Whether it holds a JPEG made here, not the file as it was."""


def raw_record(image: Image, label: int) -> Record:
    """The record of an image of shape (channels, height, width), pixels 0 to 255."""
    channels, height, width = image.shape
    datum = datum_class()(channels=channels, height=height, width=width, data=image.tobytes(), label=label)
    sums = image.reshape(channels, -1).sum(axis=1, dtype=np.int64)
    return Record(datum.SerializeToString(), image.shape, tuple(sums.tolist()))


def encoded_record(
    content: bytes, label: int, shape: tuple[int, ...], sums: tuple[int, ...], *, anew: bool = False
) -> Record:
    """The record of an image that stays JPEG or PNG: like Caffe's ``ReadFileToDatum`` it states no size.

    ``content`` is the file, or was made ``anew``; ``shape`` and ``sums`` are those of ``Record``, known to who has
    decoded it.
    """
    datum = datum_class()(data=content, label=label, encoded=True)
    return Record(datum.SerializeToString(), shape, sums, encoded_anew=anew)


def read_record(record: bytes) -> tuple[Image | bytes, int]:
    """What a record holds: the pixels, shape (channels, height, width), or the encoded file; and the label."""
    datum = datum_class().FromString(record)
    if datum.encoded:
        return bytes(datum.data), int(datum.label)
    image = np.frombuffer(datum.data, np.uint8).reshape(datum.channels, datum.height, datum.width)
    return image, int(datum.label)
