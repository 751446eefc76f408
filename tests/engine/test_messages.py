"""Caffe's messages where no Caffe is: the same as Caffe's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, text_format

from caffebench.common.errors import CaffebenchError
from caffebench.engine import messages
from caffebench.engine.locate import caffe_pb2

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.caffe
def test_what_is_shipped_is_what_caffe_has() -> None:
    """To write it anew: ``Path(messages._SHIPPED).write_bytes(caffe_pb2().DESCRIPTOR.serialized_pb)``."""
    files = [descriptor_pb2.FileDescriptorProto.FromString(messages._SHIPPED.read_bytes())]
    files.append(descriptor_pb2.FileDescriptorProto.FromString(caffe_pb2().DESCRIPTOR.serialized_pb))
    for file in files:
        file.ClearField("name")  # depends on where protoc was called
    assert files[0] == files[1]


@pytest.mark.caffe
def test_an_installed_caffe_comes_first() -> None:
    assert messages.caffe_messages() is caffe_pb2()


def test_they_read_and_write_without_caffe(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise CaffebenchError("Caffe is not installed")

    monkeypatch.setattr(messages, "caffe_pb2", missing)
    pb = messages.caffe_messages()
    assert pb is messages.shipped_messages()
    assert (pb.TRAIN, pb.TEST, pb.Phase.Name(1)) == (0, 1, "TEST")
    assert pb.V1LayerParameter.LayerType.Value("CONVOLUTION") == pb.V1LayerParameter.CONVOLUTION
    solver = text_format.Parse((ROOT / "prototxt" / "bs128.prototxt").read_text(), pb.SolverParameter())
    assert solver.net_param.layer[0].include[0].phase == pb.TRAIN
    assert pb.SolverParameter.FromString(solver.SerializeToString()) == solver
