"""The weights in a ``.caffemodel``: which layers there are, whether they are whole, and whether they fit a net."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffebench.common.errors import InputError
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.solver.nets import numbered
from caffebench.launcher.state.paths import BrokenSnapshotError

__all__ = [
    "WAY_OUT",
    "Weights",
    "check_shapes",
    "file_content",
    "parse_message",
    "parse_weights",
    "read_weights",
    "restore_namesakes",
]

HDF5 = b"\x89HDF\r\n\x1a\n"
"""What its files begin with; ``snapshot_format: HDF5`` has Caffe write them."""
WAY_OUT = "start over with --fresh, or choose another folder with --snapshots DIR"
"""Where the weights of a run are of another network."""


@dataclass(frozen=True)
class Weights:
    """The layers of a ``.caffemodel`` that have blobs: name -> shapes of the blobs."""

    shapes: dict[str, list[tuple[int, ...]]]


def read_weights(path: Path) -> Weights:
    """Read the layers and shapes of a ``.caffemodel``.

    Raises ``BrokenSnapshotError`` for an empty, cut-off or foreign file, ``OSError`` where it cannot be read.
    """
    return parse_weights(path, file_content(path))


def file_content(path: Path) -> bytes:
    """The bytes of a file that must not be empty. Raises ``BrokenSnapshotError`` and ``OSError``."""
    content = path.read_bytes()
    if not content:
        raise BrokenSnapshotError(f"{path} is empty")
    return content


def parse_weights(path: Path, content: bytes) -> Weights:
    """The same of what ``path`` holds. Raises ``BrokenSnapshotError``."""
    if content.startswith(HDF5):
        raise BrokenSnapshotError(
            f"{path} is in HDF5, which run-caffe cannot read: in Python, net = caffe.Net(NET, caffe.TEST), "
            "net.copy_from(FILE) and net.save('w.caffemodel') make a .caffemodel of it"
        )
    net = parse_message(content, caffe_pb2().NetParameter())
    layers = [] if net is None else list(net.layer) or list(net.layers)
    if not layers:
        state = parse_message(content, caffe_pb2().SolverState())
        if state is not None and state.HasField("iter") and state.history:
            raise BrokenSnapshotError(f"{path} is a solver state, not weights: give the .caffemodel beside it")
        raise BrokenSnapshotError(f"{path} holds no whole Caffe weights: it is cut off, or something else")
    shapes = {layer.name: [_shape(blob) for blob in layer.blobs] for layer in layers if layer.blobs}
    for layer in layers:
        for blob, shape in zip(layer.blobs, shapes.get(layer.name, []), strict=False):
            size = 1
            for extent in shape:
                size *= extent
            if max(len(blob.data), len(blob.double_data)) != size:
                raise BrokenSnapshotError(f"{path} is damaged: the blobs of layer {layer.name} are not whole")
    return Weights(shapes)


def _shape(blob: Any) -> tuple[int, ...]:
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    if not (blob.HasField("num") or blob.HasField("height")):
        return ()  # one number: Caffe writes no shape for a blob without axes
    return (blob.num, blob.channels, blob.height, blob.width)


def parse_message(content: bytes, message: Any) -> Any:
    """The message in a file's content; None where it is cut off, or was not written by Caffe."""
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(content)
    except DecodeError:
        return None
    return message


def check_shapes(net: Any, path: Path, *, must_all_fit: bool) -> None:
    """Compare a ``.caffemodel`` with a net, layer by layer. Raises ``InputError`` with the first that differs.

    Fine-tuning may leave layers out on both sides (that is how a new classifier is trained), a resume may not.
    """
    saved = read_weights(path).shapes
    wanted = {name: [tuple(blob.shape) for blob in net.params[name]] for name in net.params}
    for name, shapes in wanted.items():
        if name not in saved:
            if must_all_fit:
                raise InputError(f"{path} is of another network: it has no layer {name}; {WAY_OUT}")
        elif [_squeeze(shape) for shape in saved[name]] != [_squeeze(shape) for shape in shapes]:
            raise InputError(
                f"{path} is of another network: its layer {name} has shapes {_show_shapes(saved[name])}, "
                f"this net's {_show_shapes(shapes)}; {WAY_OUT if must_all_fit else 'rename the layer to leave it out'}"
            )
    surplus = sorted(saved.keys() - wanted.keys())
    if must_all_fit and surplus:
        raise InputError(f"{path} is of another network: this net has no layer {surplus[0]}; {WAY_OUT}")
    if not saved.keys() & wanted.keys():
        raise InputError(f"{path} has no layer in common with this net, so it would change nothing")


def restore_namesakes(net: Any, path: Path) -> None:
    """Put the weights of layers that are called alike back from a ``.caffemodel``, each to its own.

    Caffe finds layers by name, and puts all of a name into the first one.
    """
    names = Counter(net._layer_names)
    if names.total() == len(names):
        return
    content = parse_message(file_content(path), caffe_pb2().NetParameter())
    saved = dict(zip(numbered(layer.name for layer in content.layer), content.layer, strict=True))
    for layer, key in zip(net.layers, numbered(net._layer_names), strict=True):
        if names[key[0]] > 1 and key in saved:
            for blob, values in zip(layer.blobs, saved[key].blobs, strict=True):
                blob.data.flat = values.data


def _squeeze(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shapes as Caffe compares them: its old files pad with leading ones."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _show_shapes(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes)
