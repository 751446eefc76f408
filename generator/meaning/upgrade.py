"""Old forms of a net or a solver, brought to today's: what ``src/caffe/util/upgrade_proto.cpp`` does in Caffe.

Works on the protobuf messages, in place where they are of today's types already.
"""

from __future__ import annotations

from typing import Any

from caffebench.common.caffe_facts import SOLVER_TYPES

__all__ = ["upgrade_layers", "upgrade_solver"]

# V1LayerParameter.LayerType to LayerParameter.type, where it is more than dropping the underscores.
_V1_TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "IM2COL": "Im2col",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}
# V0LayerParameter.type to LayerParameter.type and the message that takes the layer's own settings.
_V0_TYPES = {
    "accuracy": ("Accuracy", ""),
    "bnll": ("BNLL", ""),
    "concat": ("Concat", "concat_param"),
    "conv": ("Convolution", "convolution_param"),
    "data": ("Data", "data_param"),
    "dropout": ("Dropout", "dropout_param"),
    "euclidean_loss": ("EuclideanLoss", ""),
    "flatten": ("Flatten", ""),
    "hdf5_data": ("HDF5Data", "hdf5_data_param"),
    "hdf5_output": ("HDF5Output", "hdf5_output_param"),
    "im2col": ("Im2col", ""),
    "images": ("ImageData", "image_data_param"),
    "infogain_loss": ("InfogainLoss", "infogain_loss_param"),
    "innerproduct": ("InnerProduct", "inner_product_param"),
    "lrn": ("LRN", "lrn_param"),
    "multinomial_logistic_loss": ("MultinomialLogisticLoss", ""),
    "pool": ("Pooling", "pooling_param"),
    "relu": ("ReLU", ""),
    "sigmoid": ("Sigmoid", ""),
    "softmax": ("Softmax", ""),
    "softmax_loss": ("SoftmaxWithLoss", ""),
    "split": ("Split", ""),
    "tanh": ("TanH", ""),
    "window_data": ("WindowData", "window_data_param"),
}
_V0_RENAMED = {
    "biasterm": "bias_term",
    "kernelsize": "kernel_size",
    "batchsize": "batch_size",
    "shuffle_images": "shuffle",
    "det_fg_threshold": "fg_threshold",
    "det_bg_threshold": "bg_threshold",
    "det_fg_fraction": "fg_fraction",
    "det_context_pad": "context_pad",
    "det_crop_mode": "crop_mode",
}
_V0_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
_TRANSFORM = ("scale", "mean_file", "crop_size", "mirror")
_TRANSFORMING = ("data_param", "image_data_param", "window_data_param")
_SOLVERS = {name.upper(): name for name in SOLVER_TYPES}


def upgrade_solver(solver: Any) -> None:
    """Turn the ``solver_type`` enum of a ``SolverParameter`` into the ``type`` string, in place."""
    if solver.HasField("solver_type"):
        name = type(solver).SolverType.Name(solver.solver_type)
        solver.type = _SOLVERS[name]
        solver.ClearField("solver_type")


def upgrade_layers(net: Any, pb: Any) -> list[tuple[Any, int | None]]:
    """The layers of a ``NetParameter`` as messages ``LayerParameter`` of today, in order.

    Each comes with its index in ``net.layer`` (or ``net.layers``), None for the Input layer that stands for
    the deprecated ``input`` fields.
    """
    layers: list[tuple[Any, int | None]] = []
    if net.layers:
        pads = _padding_layers(net)
        for index, old in enumerate(net.layers):
            if index not in pads:
                upgraded = _from_v0(old, pads, pb) if old.HasField("layer") else _from_v1(old, pb)
                layers.append((upgraded, index))
    for index, layer in enumerate(net.layer):
        copy = pb.LayerParameter()
        copy.CopyFrom(layer)
        layers.append((copy, index))
    for layer, _ in layers:
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            for spec in layer.param:
                spec.lr_mult = spec.decay_mult = 0
    if net.input and (net.input_shape or net.input_dim):
        layers.insert(0, (_input_layer(net, pb), None))
    return layers


def _input_layer(net: Any, pb: Any) -> Any:
    layer = pb.LayerParameter(name="input", type="Input", top=net.input)
    for index in range(len(net.input)):
        dims = net.input_shape[index].dim if net.input_shape else net.input_dim[4 * index : 4 * index + 4]
        layer.input_param.shape.add(dim=dims)
    return layer


def _from_v1(old: Any, pb: Any) -> Any:
    layer = pb.LayerParameter(name=old.name, bottom=old.bottom, top=old.top, loss_weight=old.loss_weight)
    name = pb.V1LayerParameter.LayerType.Name(old.type)
    layer.type = _V1_TYPES.get(name, name.title().replace("_", ""))
    layer.include.MergeFrom(old.include)
    layer.exclude.MergeFrom(old.exclude)
    _multipliers(layer, old)
    for index, shared in enumerate(old.param):
        _spec(layer, index).name = shared
    for index, mode in enumerate(old.blob_share_mode):
        _spec(layer, index).share_mode = mode
    for descriptor, value in old.ListFields():
        if descriptor.name.endswith("_param"):
            getattr(layer, descriptor.name).CopyFrom(value)
    for name in _TRANSFORMING:
        if layer.HasField(name):
            inner = getattr(layer, name)
            for key in _TRANSFORM:
                if inner.HasField(key):
                    setattr(layer.transform_param, key, getattr(inner, key))
                    inner.ClearField(key)
    return layer


def _multipliers(layer: Any, old: Any) -> None:
    for index, value in enumerate(old.blobs_lr):
        _spec(layer, index).lr_mult = value
    for index, value in enumerate(old.weight_decay):
        _spec(layer, index).decay_mult = value


def _spec(layer: Any, index: int) -> Any:
    while len(layer.param) <= index:
        layer.param.add()
    return layer.param[index]


def _padding_layers(net: Any) -> dict[int, tuple[str, str, int]]:
    """Index of each V0 padding layer, with its top, its bottom and its pad."""
    return {
        index: (old.top[0], old.bottom[0], old.layer.pad)
        for index, old in enumerate(net.layers)
        if old.layer.type == "padding" and old.top and old.bottom
    }


def _from_v0(old: Any, pads: dict[int, tuple[str, str, int]], pb: Any) -> Any:
    inner = old.layer
    kind, own = _V0_TYPES.get(inner.type, (inner.type, ""))
    layer = pb.LayerParameter(name=inner.name, type=kind, bottom=old.bottom, top=old.top)
    _multipliers(layer, inner)
    settings = getattr(layer, own) if own else None
    for descriptor, value in inner.ListFields():
        name = descriptor.name
        if name in _V0_TRANSFORM:
            setattr(layer.transform_param, _V0_TRANSFORM[name], value)
        elif name == "hdf5_output_param":
            layer.hdf5_output_param.CopyFrom(value)
        elif settings is not None:
            _set(settings, _V0_RENAMED.get(name, name), value)
    for top, bottom, pad in pads.values():
        for index, name in enumerate(layer.bottom):
            if name == top:
                layer.bottom[index] = bottom
                if settings is not None:
                    _set(settings, "pad", pad)
    return layer


def _set(message: Any, name: str, value: Any) -> None:
    """Set a field of a V0 layer in the message that has taken its place; Caffe drops what has none."""
    descriptor = message.DESCRIPTOR.fields_by_name.get(name)
    if descriptor is None:
        return
    if descriptor.message_type is not None:
        getattr(message, name).CopyFrom(value)
    elif isinstance(getattr(message, name), (int, float, str, bool)):
        setattr(message, name, value)
    else:
        getattr(message, name).append(value)
