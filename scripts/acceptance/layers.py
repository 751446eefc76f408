"""Does a layer give on one device what it gives on another? Forward and backward, for every type that we use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from acceptance.rows import Row
from caffebench.engine.pycaffe import import_caffe

__all__ = ["CASES", "Case", "compare", "layer_rows", "set_device"]

TOLERANCE = 1e-4  # of the largest value: fp32 sums of some thousand products in another order differ by about 1e-6


@dataclass(frozen=True)
class Case:
    """One layer on inputs of the given shapes."""

    name: str
    layer: str
    shapes: tuple[tuple[int, ...], ...] = ((8, 16, 15, 15),)
    labels: int = 0
    """How many classes, where the second bottom holds labels."""
    engine: str = ""
    """Which parameter message has a choice between Caffe's own kernels and cuDNN's; each is compared."""
    phases: tuple[str, ...] = ("TRAIN",)
    backward: bool = True
    in_place: bool = False


_FLAT = ((32, 100),)
_SCORES = ((32, 10), (32,))


def _plain(kind: str, **more: Any) -> Case:
    return Case(kind, f'type: "{kind}"', **more)


CASES = [
    Case(
        "Convolution",
        'type: "Convolution" convolution_param { num_output: 32 kernel_size: 3 pad: 1 }',
        engine="convolution_param",
    ),
    Case(
        "Convolution 11x11, stride 4",
        'type: "Convolution" convolution_param { num_output: 96 kernel_size: 11 stride: 4 }',
        ((4, 3, 127, 127),),
        engine="convolution_param",
    ),
    Case(
        "Convolution 5x5, 2 groups",
        'type: "Convolution" convolution_param { num_output: 64 kernel_size: 5 pad: 2 group: 2 }',
        engine="convolution_param",
    ),
    Case(
        "Convolution 3x3, depthwise",  # of more groups than there are streams to share (caffe_cudnn.h)
        'type: "Convolution" convolution_param { num_output: 64 kernel_size: 3 pad: 1 group: 64 }',
        ((8, 64, 15, 15),),
        engine="convolution_param",
    ),
    Case(
        "Convolution 1x1, no bias",
        'type: "Convolution" convolution_param { num_output: 24 kernel_size: 1 bias_term: false }',
        engine="convolution_param",
    ),
    Case(
        "Deconvolution",
        'type: "Deconvolution" convolution_param { num_output: 8 kernel_size: 4 stride: 2 pad: 1 }',
        engine="convolution_param",
    ),
    Case(
        "Deconvolution, 16 groups",
        'type: "Deconvolution" convolution_param { num_output: 16 kernel_size: 4 stride: 2 pad: 1 group: 16 }',
        engine="convolution_param",
    ),
    Case("InnerProduct", 'type: "InnerProduct" inner_product_param { num_output: 50 }'),
    *(
        Case(
            f"Pooling {method} 3x3, stride 2",
            f'type: "Pooling" pooling_param {{ pool: {method} kernel_size: 3 stride: 2 }}',
            engine="pooling_param",
        )
        for method in ("MAX", "AVE")
    ),
    Case(
        "Pooling AVE, global",
        'type: "Pooling" pooling_param { pool: AVE global_pooling: true }',
        engine="pooling_param",
    ),
    Case("LRN", 'type: "LRN" lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }', engine="lrn_param"),
    Case("BatchNorm", 'type: "BatchNorm"', phases=("TRAIN", "TEST")),
    Case("Scale", 'type: "Scale" scale_param { bias_term: true }'),
    _plain("Bias"),
    _plain("ReLU", engine="relu_param", in_place=True),
    Case("ReLU, leaky", 'type: "ReLU" relu_param { negative_slope: 0.1 }', engine="relu_param"),
    _plain("PReLU"),
    _plain("ELU"),
    _plain("TanH", engine="tanh_param"),
    _plain("Sigmoid", engine="sigmoid_param"),
    Case("Clip", 'type: "Clip" clip_param { min: -0.5 max: 1 }'),
    _plain("BNLL"),
    _plain("AbsVal"),
    _plain("Swish"),
    Case("Power", 'type: "Power" power_param { power: 2 scale: 0.5 shift: 1 }'),
    _plain("Exp"),
    _plain("Split"),
    _plain("Flatten"),
    _plain("Softmax", shapes=_FLAT, engine="softmax_param"),
    _plain("Concat", shapes=((8, 16, 7, 7), (8, 32, 7, 7))),
    *(
        Case(f"Eltwise {one}", f'type: "Eltwise" eltwise_param {{ operation: {one} }}', ((8, 16, 7, 7),) * 2)
        for one in ("SUM", "PROD", "MAX")
    ),
    Case("Slice", 'type: "Slice" slice_param { axis: 1 }', ((8, 16, 7, 7),)),
    Case("Dropout, testing", 'type: "Dropout" dropout_param { dropout_ratio: 0.5 }', phases=("TEST",)),
    _plain("SoftmaxWithLoss", shapes=_SCORES, labels=10),
    _plain("Accuracy", shapes=_SCORES, labels=10, phases=("TEST",), backward=False),
]


def set_device(device: str) -> None:
    """Make ``cpu``, or ``gpu:N``, what Caffe computes on in this process."""
    caffe = import_caffe()

    if device == "cpu":
        caffe.set_mode_cpu()
    else:
        caffe.set_device(int(device.removeprefix("gpu:")))
        caffe.set_mode_gpu()


def _net_text(case: Case, engine: str) -> str:
    bottoms = [f"b{number}" for number in range(len(case.shapes))]
    tops = [bottoms[0]] if case.in_place else ["t0", "t1"] if case.name in ("Slice", "Split") else ["t0"]
    shapes = "".join(f" shape {{ {' '.join(f'dim: {size}' for size in shape)} }}" for shape in case.shapes)
    layer = case.layer
    if engine:
        opening = f"{case.engine} {{"
        if opening in layer:
            layer = layer.replace(opening, f"{opening} engine: {engine}", 1)
        else:
            layer += f" {opening} engine: {engine} }}"
    inputs = "".join(f' top: "{name}"' for name in bottoms)
    wiring = "".join(f' bottom: "{name}"' for name in bottoms) + "".join(f' top: "{name}"' for name in tops)
    force = "force_backward: true" if case.backward else ""
    return f"""{force}
layer {{ name: "in" type: "Input"{inputs} input_param {{{shapes} }} }}
layer {{ name: "it" {layer}{wiring} }}
"""


def _run(case: Case, phase: str, device: str, engine: str, seed: int) -> dict[str, np.ndarray]:
    """Every blob and its gradient, as copies, after one pass both ways; inputs and weights follow from ``seed``."""
    caffe = import_caffe()

    set_device(device)
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(_net_text(case, engine))
        file.flush()
        net = caffe.Net(file.name, caffe.TRAIN if phase == "TRAIN" else caffe.TEST)
    random = np.random.default_rng(seed)
    for number, shape in enumerate(case.shapes):
        labels = case.labels and number == 1
        values = random.integers(0, case.labels, shape) if labels else random.standard_normal(shape)
        net.blobs[f"b{number}"].data[...] = values
    for number, blob in enumerate(net.params.get("it", ())):
        statistics = case.name == "BatchNorm"  # mean, variance and their weight: not to be negative
        blob.data[...] = 0.5 + number if statistics else 0.1 * random.standard_normal(blob.data.shape)
        blob.diff[...] = 0
    net.forward()
    tops = [name for name in net.blobs if name.startswith("t")] or ["b0"]
    found = {f"{name} forward": net.blobs[name].data.copy() for name in tops}
    if case.name == "BatchNorm":  # its moving averages
        found |= {f"weights {i} forward": blob.data.copy() for i, blob in enumerate(net.params["it"])}
    if not case.backward:
        return found
    for name in () if case.labels else tops:  # a loss has its own start
        net.blobs[name].diff[...] = random.standard_normal(net.blobs[name].diff.shape)
    net.backward()
    found["b0 backward"] = net.blobs["b0"].diff.copy()
    if not case.labels:
        found |= {f"{name} backward": net.blobs[name].diff.copy() for name in net.blobs if name.startswith("b")}
    found |= {f"weights {i} backward": blob.diff.copy() for i, blob in enumerate(net.params.get("it", ()))}
    return found


def compare(reference: dict[str, np.ndarray], other: dict[str, np.ndarray], direction: str) -> float:
    """The largest difference, over the largest value of the blob that it is in.

    NaN where something is not a number, or where all is zero and nothing was compared.
    """
    worst, compared = 0.0, False
    for name, wanted in reference.items():
        if not name.endswith(direction):
            continue
        size = float(np.abs(wanted).max(initial=0.0))
        error = float(np.abs(wanted - other[name]).max(initial=0.0)) / (size or 1.0)
        if not np.isfinite(error):
            return float("nan")
        worst, compared = max(worst, error), compared or size > 0
    return worst if compared else float("nan")


def layer_rows(reference: str, tested: str, cases: Sequence[Case] = tuple(CASES), *, seed: int = 1) -> Iterator[Row]:
    """A row for each case, phase and engine: ``tested`` against ``reference``, both ``cpu`` or ``gpu:N``."""
    for case in cases:
        for phase in case.phases:
            wanted = _run(case, phase, reference, "", seed)
            for engine in ("", "CAFFE") if case.engine else ("",):
                got = _run(case, phase, tested, engine, seed)
                errors = [compare(wanted, got, "forward")]
                if case.backward:
                    errors.append(compare(wanted, got, "backward"))
                yield Row(
                    "layer",
                    case.name + (", Caffe's own kernels" if engine else "") + (", TEST" if phase == "TEST" else ""),
                    " / ".join(f"{error:.1e}" for error in errors),
                    f"<= {TOLERANCE:.0e}",
                    all(error <= TOLERANCE for error in errors),
                )
    yield _dropout_row(tested)


def _dropout_row(device: str, ratio: float = 0.5) -> Row:
    """Dropout draws at random, on each device in its own way: its parts must agree with each other."""
    caffe = import_caffe()

    set_device(device)
    caffe.set_random_seed(1)
    case = Case("Dropout", f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}', ((64, 1000),))
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(_net_text(case, ""))
        file.flush()
        net = caffe.Net(file.name, caffe.TRAIN)
    net.blobs["b0"].data[...] = 1
    net.forward()
    out = net.blobs["t0"].data.copy()
    net.blobs["t0"].diff[...] = 1
    net.backward()
    kept = out != 0
    same_mask = bool(np.array_equal(net.blobs["b0"].diff, out)) and bool(np.allclose(out[kept], 1 / (1 - ratio)))
    share = float(kept.mean())
    deviation = abs(share - (1 - ratio)) / np.sqrt(ratio * (1 - ratio) / out.size)
    measured = f"{share:.4f} kept, {'one mask' if same_mask else 'two masks'}"
    return Row("layer", "Dropout", measured, f"{1 - ratio} within 5 sigma, one mask", bool(same_mask and deviation < 5))
