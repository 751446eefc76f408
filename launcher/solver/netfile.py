"""The net files that a solver names, read as Caffe reads them: an old form is brought to today's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from caffebench.common.errors import InputError
from caffebench.common.files import read_text
from caffebench.engine.locate import caffe_pb2

__all__ = ["NAMING", "old_form", "read_net"]

NAMING = (
    ("transform_param", "mean_file"),
    ("data_param", "source"),
    ("image_data_param", "root_folder"),
    ("image_data_param", "source"),
    ("hdf5_data_param", "source"),
    ("window_data_param", "root_folder"),
    ("window_data_param", "source"),
    ("infogain_loss_param", "source"),
)
"""Where a ``LayerParameter`` names what it reads: a message of it, and the field there."""


def read_net(name: str, solver: Path) -> tuple[Path, Any]:
    """The file that the solver at ``solver`` calls ``name``, and the ``NetParameter`` in it, in today's form.

    Raises ``InputError``: no such file, not a net prototxt, or an old form that Caffe gives up on.
    """
    from google.protobuf import text_format

    beside = solver.parent / name
    file = Path(name) if Path(name).is_file() or not beside.exists() else beside
    try:
        net = text_format.Parse(read_text(file), caffe_pb2().NetParameter())
    except OSError as error:
        raise InputError(f"{solver} names the net {name}, which cannot be read: {error.strerror}") from None
    except InputError as error:
        raise InputError(f"{solver} names the net {name}, but {error}") from None
    except RecursionError:
        raise InputError(f"{file}, the net of {solver}, is nested too deep: it is not a net prototxt") from None
    except text_format.ParseError as error:
        raise InputError(
            f"{file}, the net of {solver}, is not a net prototxt that Caffe can read: line {error}"
        ) from None
    try:
        return file, _upgrade(net) if old_form(net) else net
    except InputError as error:
        raise InputError(f"{file}, the net of {solver}, {error}") from None


def old_form(net: Any) -> str:
    """Where Caffe has to upgrade a ``NetParameter``, as it does in files only: what is old in it, in words.

    Empty where nothing is (``NetNeedsUpgrade``, ``upgrade_proto.cpp``).
    """
    if net.layers:
        first = net.layers[0].name or net.layers[0].layer.name or "its first layer"
        return f"in the layout of before 2015 ({first} and others are 'layers')"
    if net.input:
        return f"of before 2016 (its {net.input[0]} is an 'input', not a layer)"
    for layer in net.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3 and any(one.lr_mult for one in layer.param):
            return f"of before 2016 (the statistics of {layer.name} have a learning rate)"
    return ""


def _upgrade(net: Any) -> Any:
    """A net of an old form in today's, as ``UpgradeNetAsNeeded`` makes it. Raises ``InputError`` where that stops."""
    from caffebench.generator.meaning.upgrade import upgrade_layers

    if net.layers and net.layer:
        raise InputError(
            f"has layers of two layouts, of which Caffe takes one at a time: {net.layer[0].name} is a 'layer', "
            f"{net.layers[0].name or 'another'} is of the 'layers' of before 2015"
        )
    if (net.input_shape or net.input_dim) and (len(net.input_shape) or len(net.input_dim) // 4) < len(net.input):
        raise InputError(f"has no shape for its input {net.input[-1]}: give each input an input_shape")
    upgraded = type(net)()
    upgraded.CopyFrom(net)
    for field in ("layer", "layers", "input", "input_shape", "input_dim"):
        upgraded.ClearField(field)
    upgraded.layer.extend([layer for layer, _ in upgrade_layers(net, caffe_pb2())])
    return upgraded
