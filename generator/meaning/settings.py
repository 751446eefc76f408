"""A solver's or a layer's settings reduced to what has an effect: defaults filled in, one spelling for each.

Two settings are equal exactly when Caffe does the same with them. Facts are from ``src/caffe/solver.cpp``,
``net.cpp`` and ``layers/*.cpp`` of BVLC Caffe 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from caffebench.common.caffe_facts import DATA_LAYERS
from caffebench.generator.meaning.forms import FORMS, FieldValues, given_shapes, message_settings
from caffebench.generator.meaning.reading import Layer

__all__ = [
    "LAYER_TYPES",
    "RATE_READS",
    "TYPE_READS",
    "has_weights",
    "layer_settings",
    "parameter_count",
    "solver_settings",
]

# Every type that BVLC Caffe 1.0 registers, with the messages of LayerParameter that it reads.
LAYER_TYPES: Mapping[str, tuple[str, ...]] = {
    "AbsVal": (),
    "Accuracy": ("accuracy_param",),
    "ArgMax": ("argmax_param",),
    "BNLL": (),
    "BatchNorm": ("batch_norm_param",),
    "BatchReindex": (),
    "Bias": ("bias_param",),
    "Clip": ("clip_param",),
    "Concat": ("concat_param",),
    "ContrastiveLoss": ("contrastive_loss_param",),
    "Convolution": ("convolution_param",),
    "Crop": ("crop_param",),
    "Data": ("data_param", "transform_param"),
    "Deconvolution": ("convolution_param",),
    "Dropout": ("dropout_param",),
    "DummyData": ("dummy_data_param",),
    "ELU": ("elu_param",),
    "Eltwise": ("eltwise_param",),
    "Embed": ("embed_param",),
    "EuclideanLoss": (),
    "Exp": ("exp_param",),
    "Filter": (),
    "Flatten": ("flatten_param",),
    "HDF5Data": ("hdf5_data_param",),
    "HDF5Output": ("hdf5_output_param",),
    "HingeLoss": ("hinge_loss_param",),
    "Im2col": ("convolution_param",),
    "ImageData": ("image_data_param", "transform_param"),
    "InfogainLoss": ("infogain_loss_param", "loss_param", "softmax_param"),
    "InnerProduct": ("inner_product_param",),
    "Input": ("input_param",),
    "LRN": ("lrn_param",),
    "LSTM": ("recurrent_param",),
    "LSTMUnit": (),
    "Log": ("log_param",),
    "MVN": ("mvn_param",),
    "MemoryData": ("memory_data_param", "transform_param"),
    "MultinomialLogisticLoss": (),
    "PReLU": ("prelu_param",),
    "Parameter": ("parameter_param",),
    "Pooling": ("pooling_param",),
    "Power": ("power_param",),
    "Python": ("python_param",),
    "RNN": ("recurrent_param",),
    "ReLU": ("relu_param",),
    "Reduction": ("reduction_param",),
    "Reshape": ("reshape_param",),
    "SPP": ("spp_param",),
    "Scale": ("scale_param",),
    "Sigmoid": ("sigmoid_param",),
    "SigmoidCrossEntropyLoss": ("loss_param", "sigmoid_param"),
    "Silence": (),
    "Slice": ("slice_param",),
    "Softmax": ("softmax_param",),
    "SoftmaxWithLoss": ("loss_param", "softmax_param"),
    "Split": (),
    "Swish": ("swish_param",),
    "TanH": ("tanh_param",),
    "Threshold": ("threshold_param",),
    "Tile": ("tile_param",),
    "WindowData": ("window_data_param", "transform_param"),
}

_RATE_FIELDS = ("gamma", "power", "stepsize", "stepvalue")
RATE_READS: Mapping[str, tuple[str, ...]] = {
    "fixed": (),
    "step": ("gamma", "stepsize"),
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("gamma", "stepvalue"),
    "poly": ("power",),
    "sigmoid": ("gamma", "stepsize"),
}
_TYPE_FIELDS = ("momentum", "momentum2", "delta", "rms_decay")
TYPE_READS: Mapping[str, tuple[str, ...]] = {
    "SGD": ("momentum",),
    "Nesterov": ("momentum",),
    "AdaGrad": ("delta",),
    "RMSProp": ("delta", "rms_decay"),
    "AdaDelta": ("momentum", "delta"),
    "Adam": ("momentum", "momentum2", "delta"),
}
# Nets are compared as nets; where files lie has no meaning.
_SOLVER_ASIDE = {"net", "net_param", "train_net", "train_net_param", "test_net", "test_net_param"}
_SOLVER_ASIDE |= {"train_state", "test_state", "snapshot_prefix", "solver_type"}


def solver_settings(solver: Any) -> FieldValues:
    """The settings of a ``SolverParameter`` that have an effect, defaults filled in; paths aside."""
    settings = {name: value for name, value in message_settings(solver, "").items() if name not in _SOLVER_ASIDE}
    for fields, reads, key in (
        (_RATE_FIELDS, RATE_READS, solver.lr_policy),
        (_TYPE_FIELDS, TYPE_READS, solver.type),
    ):
        for name in fields:
            if name not in reads.get(key, fields):
                settings.pop(name, None)
    if not solver.weight_decay:
        settings.pop("regularization_type", None)
    if not solver.test_iter:
        for name in ("test_interval", "test_initialization", "test_compute_loss"):
            settings.pop(name, None)
    return settings


def layer_settings(layer: Layer, phase: str) -> FieldValues:
    """The settings of a layer that have an effect in a phase, by dotted name; names and paths aside."""
    return dict(_layer_settings(layer, phase))


@lru_cache(maxsize=4096)  # each phase, rule and comparison asks anew
def _layer_settings(layer: Layer, phase: str) -> FieldValues:
    message = layer.message
    settings: FieldValues = {}
    if message.HasField("phase"):  # a layer may have a phase other than its net's
        own = ("TRAIN", "TEST")[message.phase]
        if own != phase and _asks_for_its_phase(message):
            settings["phase"] = own
        phase = own
    reads = LAYER_TYPES.get(message.type)
    if reads is None:  # a fork's layer: what is written is all that is known
        reads = tuple(d.name for d, _ in message.ListFields() if d.name.endswith("_param"))
    for name in reads:
        settings |= FORMS.get(name, message_settings)(getattr(message, name), f"{name}.")
    _complete(settings, message, phase)
    settings |= _parameters(layer)
    weights = tuple(message.loss_weight)
    if not weights and message.type.endswith("Loss"):
        weights = (1.0,)
    if any(weights):
        settings["loss_weight"] = weights
    if message.propagate_down:
        settings["propagate_down"] = tuple(message.propagate_down)
    return settings


def _asks_for_its_phase(message: Any) -> bool:
    """Whether a layer does something else in TRAIN than in TEST; of BatchNorm it is told as ``use_global_stats``."""
    if message.type in DATA_LAYERS:
        return bool(message.transform_param.crop_size)  # at a random place, or in the middle
    stochastic = message.type == "Pooling" and message.pooling_param.pool == message.pooling_param.STOCHASTIC
    return message.type in ("Dropout", "Python") or stochastic


def parameter_count(message: Any) -> int | None:
    """How many parameter blobs a layer has, None where only Caffe knows."""
    kind = message.type
    if kind in ("Convolution", "Deconvolution"):
        return 1 + int(message.convolution_param.bias_term)
    if kind == "InnerProduct":
        return 1 + int(message.inner_product_param.bias_term)
    if kind == "Embed":
        return 1 + int(message.embed_param.bias_term)
    if kind == "Scale":
        return int(len(message.bottom) == 1) + int(message.scale_param.bias_term)
    if kind == "Bias":
        return int(len(message.bottom) == 1)
    if kind in ("LSTM", "RNN"):
        states = 2 if kind == "LSTM" else 1  # that may be bottoms, beside the sequence, its marks and a static input
        static = len(message.bottom) > 2 + states * message.recurrent_param.expose_hidden
        return (3 if kind == "LSTM" else 5) + int(static)
    if kind == "Python" or kind not in LAYER_TYPES:
        return None
    return {"BatchNorm": 3, "PReLU": 1, "Parameter": 1}.get(kind, 0)


def has_weights(message: Any) -> bool:
    """Whether a layer has parameters; one of a fork, where a message that is written in it speaks of fillers."""
    count = parameter_count(message)
    if count is not None:
        return count > 0
    written = (descriptor.message_type for descriptor, _ in message.ListFields() if descriptor.name.endswith("_param"))
    return any(field.name.endswith("filler") for kind in written for field in kind.fields)


def _complete(settings: FieldValues, message: Any, phase: str) -> None:
    """Defaults that Caffe's code sets and caffe.proto does not, or that hang on the layer's bottoms, tops and phase."""
    if message.type == "BatchNorm" and not message.batch_norm_param.HasField("use_global_stats"):
        settings["batch_norm_param.use_global_stats"] = phase == "TEST"
    if message.type == "SigmoidCrossEntropyLoss":
        loss = message.loss_param
        if not loss.HasField("normalization") and not loss.HasField("normalize"):
            settings["loss_param.normalization"] = "BATCH_SIZE"
    if message.type == "ArgMax" and not message.argmax_param.HasField("axis"):
        settings["argmax_param.axis"] = None
    if message.type in ("Input", "DummyData"):
        name = "input_param" if message.type == "Input" else "dummy_data_param"
        for old in ("num", "channels", "height", "width"):
            settings.pop(f"{name}.{old}", None)
        settings[f"{name}.shape"] = tuple(given_shapes(message))
        fillers = settings.get(f"{name}.data_filler", ()) or ("constant value 0",)
        if message.type == "DummyData":
            settings[f"{name}.data_filler"] = fillers * len(message.top) if len(fillers) == 1 else fillers
    if message.type == "Scale" and len(message.bottom) > 1:
        for name in ("filler", "num_axes"):
            settings.pop(f"scale_param.{name}", None)


def _parameters(layer: Layer) -> FieldValues:
    """Learning-rate and decay multipliers of each parameter blob; a decay at no learning rate does nothing."""
    specs = layer.message.param
    count = parameter_count(layer.message)
    settings: FieldValues = {}
    for index in range(len(specs) if count is None else max(count, len(specs))):
        given = index < len(specs)
        lr = specs[index].lr_mult if given else float(layer.type != "BatchNorm")
        decay = (specs[index].decay_mult if given else 1.0) if lr else 0.0
        settings[f"param[{index}].lr_mult"] = lr
        settings[f"param[{index}].decay_mult"] = decay
        if given and specs[index].share_mode:
            settings[f"param[{index}].share_mode"] = "PERMISSIVE"
    return settings
