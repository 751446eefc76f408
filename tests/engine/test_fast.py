"""The fast layers against Caffe's own: the same values and gradients, over random shapes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from caffebench.engine import fast
from caffebench.engine.features import caffe_is_there
from caffebench.engine.pycaffe import import_caffe

pytestmark = [
    pytest.mark.caffe,
    pytest.mark.skipif(
        not (caffe_is_there() and fast.is_built()), reason="no Caffe with fast layers beside it: run install-caffe"
    ),
]
PRODUCTS = 1.0
"""Sums of products of standard normal values are of this size and more; where all come to less, it is by chance."""
EXAMPLES = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


@dataclass(frozen=True)
class Outcome:
    """What a layer made of one batch, and the gradients of the output's sum, weighted."""

    input: np.ndarray
    output: np.ndarray
    weights: np.ndarray
    input_diff: np.ndarray
    blob_diffs: list[np.ndarray]
    blobs: list[np.ndarray]


def net_of(text: str, *, on: bool, phase: int = 0):
    """A net of the layers in ``text``, with our layers or Caffe's own."""
    caffe = import_caffe()
    caffe.set_mode_cpu()
    fast.load(on=on)
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(text)
            file.flush()
            return caffe.Net(file.name, phase)
    finally:
        fast.load(on=False)


def net_around(layer: str, shape: tuple[int, ...], *, on: bool, phase: int = 0):
    """A net of ``layer``, from "p" to "y" or in place on "p", with random weights."""
    dims = " ".join(f"dim: {one}" for one in shape)
    # What is computed in place must have come from another layer than the input.
    before = (
        f'force_backward: true layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }} '
        'layer { name: "id" type: "Power" bottom: "x" top: "p" } '
    )
    net = net_of(before + layer, on=on, phase=phase)
    random = np.random.default_rng(1)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = random.normal(size=blob.data.shape)
    if net.layers[-1].type == "BatchNorm":
        net.params["l"][1].data[...] = random.uniform(0.5, 2, size=net.params["l"][1].data.shape)
        net.params["l"][2].data[...] = 1
    return net


def run(layer: str, shape: tuple[int, ...], *, on: bool, phase: int = 0, passes: int = 1) -> Outcome:
    """Run ``layer`` on random values; backwards ``passes`` times, with no gradient cleared in between."""
    net = net_around(layer, shape, on=on, phase=phase)
    random = np.random.default_rng(0)
    values = random.normal(size=shape).astype("f4")
    net.blobs["x"].data[...] = values
    net.forward()
    top = net.blobs[net.outputs[0]]
    output, weights = top.data.copy(), random.normal(size=top.data.shape).astype("f4")
    for _ in range(passes):
        top.diff[...] = weights
        net._backward(len(net.layers) - 1, 0)
    params = [blob for blobs in net.params.values() for blob in blobs]
    return Outcome(
        values,
        output,
        weights,
        net.blobs["x"].diff.copy(),
        [one.diff.copy() for one in params],
        [one.data.copy() for one in params],
    )


def close(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-5, scale: float = 0.0) -> None:
    """Equal up to ``tolerance`` of the largest value, or of ``scale`` where that is more."""
    assert ours.shape == theirs.shape
    most = max(np.abs(theirs).max(initial=0), scale, 1e-20)
    assert np.abs(ours - theirs).max(initial=0) <= tolerance * most, (ours, theirs)


def agree(layer: str, shape: tuple[int, ...], *, phase: int = 0, tolerance: float = 1e-5, scale: float = 0.0) -> None:
    """Both make the same of the same: up to ``tolerance`` of the largest value, or of ``scale`` where that is more."""
    ours, theirs = run(layer, shape, on=True, phase=phase), run(layer, shape, on=False, phase=phase)
    close(ours.output, theirs.output, tolerance, scale)
    close(ours.input_diff, theirs.input_diff, tolerance, scale)
    for one, other in zip(ours.blob_diffs, theirs.blob_diffs, strict=True):
        # Sums of values around zero: what they come to by chance may be much less than what they are rounded at.
        close(one, other, tolerance, scale=(ours.output.size / one.size) ** 0.5)
    for one, other in zip(ours.blobs, theirs.blobs, strict=True):
        close(one, other, tolerance)


sizes = st.integers(1, 17)


@settings(EXAMPLES, max_examples=120)
@given(
    images=st.integers(1, 3),
    group=st.sampled_from([1, 1, 2, 3]),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 9),
    depthwise=st.booleans(),
    height=sizes,
    width=sizes,
    larger=st.sampled_from([0, 16]),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)) | st.just((1, 1)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)) | st.just((1, 1)),
    pad=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
)
def test_convolution(
    images, group, inputs, outputs, depthwise, height, width, larger, kernel, stride, pad, dilation, bias
):
    # From 8x8 on planes are convolved otherwise by 1x1, from 16x16 on without stride by depthwise filters.
    height, width = height + larger, width + larger
    if depthwise:
        group, outputs = group * inputs, group * inputs
    extent = [dilation * (one - 1) + 1 for one in kernel]
    assume(height + 2 * pad[0] >= extent[0] and width + 2 * pad[1] >= extent[1])
    layer = (
        f'layer {{ name: "l" type: "Convolution" bottom: "p" top: "y" convolution_param {{ '
        f"num_output: {outputs if depthwise else outputs * group} group: {group} bias_term: {str(bias).lower()} "
        f"kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} stride_w: {stride[1]} "
        f"pad_h: {pad[0]} pad_w: {pad[1]} dilation: {dilation} }} }}"
    )
    agree(layer, (images, group if depthwise else inputs * group, height, width), scale=PRODUCTS)


@EXAMPLES
@given(
    method=st.sampled_from(["MAX", "AVE"]),
    images=st.integers(1, 3),
    channels=st.integers(1, 20),
    height=sizes,
    width=sizes,
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    pad=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_pooling(method, images, channels, height, width, kernel, stride, pad):
    pad = tuple(p % k for p, k in zip(pad, kernel, strict=True))
    assume(height + 2 * pad[0] >= kernel[0] and width + 2 * pad[1] >= kernel[1])
    # Caffe itself writes outside of its memory for the last window where that begins behind the image.
    for size, k, s, p in zip((height, width), kernel, stride, pad, strict=True):
        assume(-(-(size + 2 * p - k) // s) * s < size + p)
    layer = (
        f'layer {{ name: "l" type: "Pooling" bottom: "p" top: "y" pooling_param {{ pool: {method} '
        f"kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} stride_w: {stride[1]} "
        f"pad_h: {pad[0]} pad_w: {pad[1]} }} }}"
    )
    agree(layer, (images, channels, height, width), tolerance=0 if method == "MAX" else 1e-6)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_global_pooling(method):
    layer = (
        f'layer {{ name: "l" type: "Pooling" bottom: "p" top: "y" '
        f"pooling_param {{ pool: {method} global_pooling: true }} }}"
    )
    agree(layer, (2, 21, 7, 5))


def test_pooling_of_equal_values_takes_the_same_one():
    layer = (
        'layer { name: "r" type: "Power" bottom: "p" top: "q" power_param { scale: 0 } } '
        'layer { name: "l" type: "Pooling" bottom: "q" top: "y" pooling_param { kernel_size: 3 stride: 2 } }'
    )
    agree(layer, (2, 3, 9, 9), tolerance=0)


@EXAMPLES
@given(
    images=st.integers(1, 4),
    channels=st.integers(1, 24),
    height=sizes,
    width=sizes,
    local_size=st.sampled_from([1, 3, 5, 7]),
    beta=st.sampled_from([0.75, 0.5]),
    k=st.sampled_from([1.0, 2.0]),
)
def test_lrn(images, channels, height, width, local_size, beta, k):
    layer = (
        f'layer {{ name: "l" type: "LRN" bottom: "p" top: "y" '
        f"lrn_param {{ local_size: {local_size} alpha: 0.3 beta: {beta} k: {k} }} }}"
    )
    agree(layer, (images, channels, height, width))


@EXAMPLES
@given(
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=4),
    outputs=st.integers(1, 33),
    bias=st.booleans(),
    transpose=st.booleans(),
)
def test_inner_product(shape, outputs, bias, transpose):
    layer = (
        f'layer {{ name: "l" type: "InnerProduct" bottom: "p" top: "y" inner_product_param {{ num_output: {outputs} '
        f"bias_term: {str(bias).lower()} transpose: {str(transpose).lower()} }} }}"
    )
    agree(layer, tuple(shape), scale=PRODUCTS)


@EXAMPLES
@given(
    shape=st.tuples(st.integers(2, 5), st.integers(1, 9), st.integers(1, 7), st.integers(1, 7)),
    flat=st.booleans(),
    in_place=st.booleans(),
    phase=st.sampled_from([0, 1]),
)
def test_batch_norm(shape, flat, in_place, phase):
    layer = f'layer {{ name: "l" type: "BatchNorm" bottom: "p" top: "{"p" if in_place else "y"}" }}'
    # Of few values the variance is often next to nothing, and rounding is all that both divide by it.
    assume(np.prod(shape) // shape[1] >= 8 or phase == 1)
    agree(layer, shape[:2] if flat and shape[0] >= 8 else shape, phase=phase, tolerance=2e-5)


@pytest.mark.parametrize("in_place", [False, True])
def test_batch_norm_of_more_channels_than_are_taken_at_once(in_place):
    layer = f'layer {{ name: "l" type: "BatchNorm" bottom: "p" top: "{"p" if in_place else "y"}" }}'
    agree(layer, (5, 7, 96, 96), tolerance=2e-5)


@EXAMPLES
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 7), st.integers(1, 7)),
    bias=st.booleans(),
    in_place=st.booleans(),
    axis=st.sampled_from([0, 1, 2]),
)
def test_scale(shape, bias, in_place, axis):
    layer = (
        f'layer {{ name: "l" type: "Scale" bottom: "p" top: "{"p" if in_place else "y"}" '
        f"scale_param {{ axis: {axis} bias_term: {str(bias).lower()} }} }}"
    )
    agree(layer, shape)


@EXAMPLES
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 7), st.integers(1, 7)),
    layer=st.sampled_from(
        ["", "relu_param { negative_slope: 0.1 }", "clip_param { min: -0.5 max: 0.7 }", "clip_param { min: 0 max: 6 }"]
    ),
    in_place=st.booleans(),
)
def test_relu_and_clip(shape, layer, in_place):
    kind = "Clip" if "clip" in layer else "ReLU"
    agree(f'layer {{ name: "l" type: "{kind}" bottom: "p" top: "{"p" if in_place else "y"}" {layer} }}', shape)


LAYERS = {
    "convolution": 'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 pad: 1 group: 2 }',
    "average": 'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 }',
    "lrn": 'type: "LRN" lrn_param { local_size: 3 alpha: 0.5 }',
    "inner_product": 'type: "InnerProduct" inner_product_param { num_output: 3 }',
    "batch_norm": 'type: "BatchNorm"',
    "scale": 'type: "Scale" scale_param { bias_term: true }',
}


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_are_those_of_the_output(kind):
    """The slope of the weighted output along a random direction, by finite differences and by the backward pass."""
    layer = f'layer {{ name: "l" bottom: "p" top: "y" {LAYERS[kind]} }}'
    shape = (2, 4, 6, 6)
    result = run(layer, shape, on=True)
    direction = np.random.default_rng(2).normal(size=shape)
    net = net_around(layer, shape, on=True)

    def weighted(step: float) -> float:
        net.blobs["x"].data[...] = result.input + step * direction
        net.forward()
        return float((net.blobs["y"].data.astype("f8") * result.weights).sum())

    slope = (weighted(1e-2) - weighted(-1e-2)) / 2e-2
    assert slope == pytest.approx(float((result.input_diff * direction).sum()), rel=5e-3, abs=5e-3)


def test_weight_gradients_add_up():
    """`iter_size` and shared weights count on it."""
    for kind in ("convolution", "inner_product", "scale"):
        layer = f'layer {{ name: "l" bottom: "p" top: "y" {LAYERS[kind]} }}'
        once, twice = (run(layer, (2, 4, 6, 6), on=True, passes=passes) for passes in (1, 2))
        for one, other in zip(once.blob_diffs, twice.blob_diffs, strict=True):
            close(other, 2 * one)


def test_a_shape_that_changes_is_taken():
    net = net_of(
        'layer { name: "in" type: "Input" top: "p" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } } '
        'layer { name: "l" type: "Convolution" bottom: "p" top: "y" '
        'convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }',
        on=True,
    )
    net.blobs["p"].data[...] = 1
    small = net.forward()["y"].copy()
    net.blobs["p"].reshape(5, 3, 12, 9)
    net.blobs["p"].data[...] = 1
    large = net.forward()["y"]
    assert large.shape == (5, 4, 10, 7)
    close(large[0, :, 0, 0], small[0, :, 0, 0])


def test_plain_caffe_stays_plain():
    """Nothing is replaced until `load` is called."""
    script = (
        "from caffebench.engine.pycaffe import import_caffe; import_caffe(); "
        "print(any('libcaffebench_fast' in line for line in open('/proc/self/maps')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


STEPS = """
layer { name: "in" type: "DummyData" top: "x" top: "label" dummy_data_param {
  shape { dim: 8 dim: 6 } shape { dim: 8 } data_filler { type: "gaussian" std: 3 } data_filler { type: "constant" } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" inner_product_param { num_output: 3
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "b" bottom: "label" top: "loss" }
"""


@settings(max_examples=25, deadline=None)
@given(
    momentum=st.sampled_from([0, 0.5, 0.9]),
    decay=st.sampled_from([0, 0.01]),
    iter_size=st.integers(1, 3),
    clip=st.booleans(),
    kind=st.sampled_from(["L2", "L1"]),
)
def test_sgd_updates_as_caffe_does(momentum, decay, iter_size, clip, kind):
    found = {}
    for on in (False, True):
        caffe = import_caffe()
        caffe.set_mode_cpu()
        caffe.set_random_seed(1)
        fast.load(on=on)
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(
                f"net_param {{ {STEPS} }} base_lr: 0.05 lr_policy: 'step' stepsize: 3 gamma: 0.5 momentum: {momentum} "
                f"weight_decay: {decay} iter_size: {iter_size} regularization_type: '{kind}' max_iter: 10 "
                f"random_seed: 1 snapshot_after_train: false {'clip_gradients: 0.5' if clip else ''}"
            )
            file.flush()
            solver = caffe.get_solver(file.name)
        fast.load(on=False)
        solver.step(7)
        assert solver.iter == 7
        blobs = [blob for blobs in solver.net.params.values() for blob in blobs]
        found[on] = [one.copy() for blob in blobs for one in (blob.data, blob.diff)]
    for ours, theirs in zip(found[True], found[False], strict=True):
        close(ours, theirs)
        assert np.abs(theirs).max() > 0


SIGNALS = """
import signal, sys, time
from pathlib import Path
import numpy as np
from caffebench.engine import fast
from caffebench.engine.pycaffe import import_caffe

caffe = import_caffe()
caffe.set_mode_cpu()
fast.load()
net = caffe.Net(sys.argv[1], caffe.TEST)
net.blobs["p"].data[...] = np.random.default_rng(1).standard_normal(net.blobs["p"].data.shape)
right = net.forward()["y"].copy()
came = 0
def count(*_):
    global came
    came += 1
signal.signal(signal.SIGALRM, count)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
end = time.monotonic() + 5
while time.monotonic() < end:
    for _ in range(20):
        assert (net.forward()["y"] == right).all()
signal.setitimer(signal.ITIMER_REAL, 0)
def masks(name):
    files = Path("/proc/self/task").glob("*/status")
    return [int(line.split()[1], 16) for one in files for line in one.read_text().splitlines() if line.startswith(name)]
print(came, sum(bool(mask >> (signal.SIGALRM - 1) & 1) for mask in masks("SigBlk:")))
"""


def test_signals_do_not_write_into_memory(tmp_path):
    """oneDNN has the stack pointer in the heap while it computes a product of this shape: see signals.cpp."""
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "p" type: "Input" top: "p" input_param { shape { dim: 50 dim: 1152 } } }\n'
        'layer { name: "y" type: "InnerProduct" bottom: "p" top: "y" inner_product_param { num_output: 32 '
        'weight_filler { type: "xavier" } } }\n'
    )
    command = [sys.executable, "-c", SIGNALS, str(tmp_path / "net.prototxt")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "2"})
    assert done.returncode == 0, done.stderr[-2000:]
    came, blocked = map(int, done.stdout.split())
    assert came > 500
    assert blocked == 1, "OpenMP's second thread holds them back"
