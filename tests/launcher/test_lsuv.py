from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

os.environ.setdefault("GLOG_minloglevel", "2")  # read when pycaffe is imported: its net dumps drown a failure

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.events import InitEvent, SkippedInitEvent
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.init.lsuv import LINEAR, METHODS, frozen_layers, initialise
from caffebench.launcher.init.ortho import Orthonormal

pytestmark = pytest.mark.caffe


@pytest.fixture(scope="module", autouse=True)
def import_caffe() -> None:
    """Not with this module, which is collected where no test of it is wanted."""
    global caffe
    caffe = pytest.importorskip("caffe", reason="needs real Caffe: run install-caffe")


# Everything that LSUV must find its way through: an in-place activation on a convolution's own blob, BatchNorm,
# Scale, PReLU, groups, a depthwise convolution, a bias filler that is not zero, branches, a residual sum,
# a transposed convolution, dropout, a layer of one output.
EVERYTHING = """
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.01 mean_value: 78 }
        data_param { source: "SOURCE" backend: LMDB batch_size: 128 } }
layer { name: "stem" type: "Convolution" bottom: "data" top: "stem" convolution_param {
        num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "stem_relu" type: "ReLU" bottom: "stem" top: "stem" }
layer { name: "stem_bn" type: "BatchNorm" bottom: "stem" top: "stem_bn" }
layer { name: "stem_scale" type: "Scale" bottom: "stem_bn" top: "stem_bn" scale_param { bias_term: true } }
layer { name: "grouped" type: "Convolution" bottom: "stem_bn" top: "grouped" convolution_param {
        num_output: 16 kernel_size: 3 pad: 1 group: 2 weight_filler { type: "gaussian" std: 0.01 }
        bias_filler { type: "gaussian" std: 0.5 } } }
layer { name: "slopes" type: "PReLU" bottom: "grouped" top: "grouped" }
layer { name: "depthwise" type: "Convolution" bottom: "grouped" top: "depthwise" convolution_param {
        num_output: 16 kernel_size: 3 pad: 1 group: 16 bias_term: false weight_filler { type: "msra" } } }
layer { name: "wide" type: "Convolution" bottom: "grouped" top: "wide" convolution_param {
        num_output: 64 kernel_size: 1 weight_filler { type: "msra" } bias_filler { type: "constant" value: 1 } } }
layer { name: "narrow" type: "Convolution" bottom: "wide" top: "narrow" convolution_param {
        num_output: 16 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "sum" type: "Eltwise" bottom: "depthwise" bottom: "narrow" bottom: "stem_bn" top: "sum" }
layer { name: "pool" type: "Pooling" bottom: "sum" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up" convolution_param {
        num_output: 8 kernel_size: 4 stride: 2 pad: 1 group: 2 weight_filler { type: "msra" } } }
layer { name: "concat" type: "Concat" bottom: "up" bottom: "sum" top: "concat" }
layer { name: "fc" type: "InnerProduct" bottom: "concat" top: "fc" inner_product_param {
        num_output: 512 weight_filler { type: "msra" } } }
layer { name: "fc_relu" type: "ReLU" bottom: "fc" top: "fc" }
layer { name: "dropout" type: "Dropout" bottom: "fc" top: "dropout" }
layer { name: "score" type: "InnerProduct" bottom: "dropout" top: "score" inner_product_param {
        num_output: 10 transpose: true weight_filler { type: "msra" } } }
layer { name: "single" type: "InnerProduct" bottom: "fc" top: "single" inner_product_param {
        num_output: 1 weight_filler { type: "msra" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
layer { name: "silence" type: "Silence" bottom: "single" }
"""
INITIALISED = ["stem", "grouped", "depthwise", "wide", "narrow", "up", "fc", "score", "single"]

NOISE = """
layer { name: "data" type: "DummyData" top: "data" dummy_data_param {
        shape { dim: 64 dim: 4 dim: 6 dim: 6 } data_filler { type: "gaussian" std: 2 } } }
"""
CONVOLUTION = """
layer { name: "NAME" type: "Convolution" bottom: "BOTTOM" top: "NAME" convolution_param {
        num_output: 8 kernel_size: 3 weight_filler { type: "msra" } MORE } }
"""


def convolution(name: str, bottom: str, more: str = "") -> str:
    return CONVOLUTION.replace("NAME", name).replace("BOTTOM", bottom).replace("MORE", more)


def build(text: str, folder: Path, weights: Path | None = None) -> Any:
    path = folder / "net.prototxt"
    path.write_text(text)
    caffe.set_random_seed(3)
    return caffe.Net(str(path), caffe.TRAIN, **({"weights": str(weights)} if weights else {}))


def everything(root: Path) -> str:
    return EVERYTHING.replace("SOURCE", str(root / "digits" / "train_lmdb"))


def variances_measured_anew(text: str, weights: Path, folder: Path) -> dict[str, float]:
    """For each linear layer a net of its own that ends there: nothing after it can touch what it put out."""
    whole = caffe_pb2().NetParameter()
    text_format.Parse(text, whole)
    found = {}
    for end, layer in enumerate(whole.layer):
        if layer.type in LINEAR:
            part = caffe_pb2().NetParameter()
            part.layer.extend(whole.layer[: end + 1])
            net = build(text_format.MessageToString(part), folder, weights)
            net.forward()
            found[layer.name] = float(np.var(net.blobs[layer.top[0]].data, dtype=np.float64))
    return found


def matrices(weight: np.ndarray, groups: int) -> np.ndarray:
    """The groups of a layer's weights as matrices of full row rank."""
    found = weight.reshape(groups, weight.shape[0] // groups, -1)
    return found if found.shape[1] <= found.shape[2] else found.transpose(0, 2, 1)


@pytest.mark.parametrize("method", ["lsuv", "ortho-lsuv"])
def test_every_output_has_unit_variance(digits_root: Path, tmp_path: Path, method: str) -> None:
    net = build(everything(digits_root), tmp_path)
    assert not all(0.95 < v < 1.05 for v in (np.var(b.data) for b in net.blobs.values()))
    reports: list[Any] = []
    initialise(net, method=method, seed=1, report=reports.append)
    net.save(str(tmp_path / "net.caffemodel"))

    found = variances_measured_anew(everything(digits_root), tmp_path / "net.caffemodel", tmp_path)
    assert list(found) == INITIALISED
    assert found == pytest.approx(dict.fromkeys(INITIALISED, 1), abs=0.05)

    done = {report.layer: report for report in reports if isinstance(report, InitEvent)}
    assert list(done) == INITIALISED
    for name, report in done.items():
        assert report.variance_after == pytest.approx(1, abs=1e-4), name
        if name != "grouped":  # whose biases put it off the square law
            assert report.scale == pytest.approx(report.variance_before**-0.5, rel=1e-4), name
    assert done["depthwise"].shape == (16, 1, 3, 3)
    skipped = {report.layer: report.type for report in reports if isinstance(report, SkippedInitEvent)}
    assert skipped == {"stem_bn": "BatchNorm", "stem_scale": "Scale", "slopes": "PReLU"}


@pytest.mark.parametrize("method", METHODS)
def test_each_group_of_weights_is_orthonormal_up_to_its_layers_scale(
    digits_root: Path, tmp_path: Path, method: str
) -> None:
    net = build(everything(digits_root), tmp_path)
    reports: list[Any] = []
    initialise(net, method=method, seed=1, report=reports.append)
    groups = {"grouped": 2, "depthwise": 16, "up": 2}
    for report in reports:
        if isinstance(report, SkippedInitEvent):
            continue
        assert (report.scale is None) == (method == "ortho")
        for matrix in matrices(net.params[report.layer][0].data, groups.get(report.layer, 1)):
            unit = matrix.astype(np.float64) / (report.scale or 1)
            np.testing.assert_allclose(unit @ unit.T, np.eye(len(unit)), atol=1e-5, err_msg=report.layer)


@pytest.mark.parametrize("method", METHODS)
def test_everything_but_the_weights_is_as_it_was(digits_root: Path, tmp_path: Path, method: str) -> None:
    net = build(everything(digits_root), tmp_path)

    def others() -> dict[tuple[str, int], np.ndarray]:
        return {
            (name, i): blob.data.copy()
            for name, blobs in net.params.items()
            for i, blob in enumerate(blobs)
            if name not in INITIALISED or i > 0
        }

    before = others()
    assert before["grouped", 1].any()
    initialise(net, method=method, seed=1)
    after = others()
    assert [key for key in before if not np.array_equal(before[key], after[key])] == []


def test_one_batch_one_forward_of_each_layer_and_one_check(digits_root: Path, tmp_path: Path) -> None:
    fresh = build(everything(digits_root), tmp_path)
    batches = [fresh.forward(end="data")["data"].copy() for _ in range(2)]
    net = build(everything(digits_root), tmp_path)
    runs: Counter[str] = Counter()
    net.after_forward(lambda index: runs.update([net._layer_names[index]]))
    initialise(net, method="lsuv", seed=1)
    last = list(net._layer_names).index("single")
    assert runs == {name: 2 if name in INITIALISED else 1 for name in net._layer_names[: last + 1]}
    np.testing.assert_array_equal(net.blobs["data"].data, batches[0])
    np.testing.assert_array_equal(net.forward(end="data")["data"], batches[1])


@pytest.mark.parametrize("linear", [convolution("conv", "images"), ""], ids=["behind the last", "without one"])
def test_all_data_layers_stay_together(digits_root: Path, tmp_path: Path, linear: str) -> None:
    text = "".join(
        f"""layer {{ name: "{name}" type: "Data" top: "{name}" top: "{name}_label" data_param {{
            source: "{digits_root}/digits/train_lmdb" backend: LMDB batch_size: 32 }} }} {behind}"""
        for name, behind in (("images", linear), ("late", ""))
    )
    net = build(text, tmp_path)
    fresh = build(text, tmp_path)
    fresh.forward()
    initialise(net, method="lsuv", seed=1)
    for one in (net, fresh):
        one.forward()
        np.testing.assert_array_equal(one.blobs["images_label"].data, one.blobs["late_label"].data)
    np.testing.assert_array_equal(net.blobs["late"].data, fresh.blobs["late"].data)


def test_orthonormal_alone_runs_nothing(digits_root: Path, tmp_path: Path) -> None:
    net = build(everything(digits_root), tmp_path)
    runs: list[int] = []
    net.after_forward(runs.append)
    initialise(net, method="ortho", seed=1)
    assert runs == []


def test_the_seed_decides_and_nothing_else(digits_root: Path, tmp_path: Path) -> None:
    state = itertools.count()

    def weights(seed: int) -> dict[str, bytes]:
        net = build(everything(digits_root), tmp_path)
        caffe.set_random_seed(next(state))  # which the dropout masks must not depend on
        initialise(net, method="lsuv", seed=seed)
        return {name: net.params[name][0].data.tobytes() for name in INITIALISED}

    first = weights(1)
    assert weights(1) == first
    assert not set(weights(2).values()) & set(first.values())


def test_a_layer_starts_the_same_whatever_else_is_in_the_net(tmp_path: Path) -> None:
    one = build(NOISE + convolution("b", "data"), tmp_path)
    two = build(NOISE + convolution("a", "data") + convolution("b", "data"), tmp_path)
    for net in (one, two):
        initialise(net, method="ortho", seed=7)
    np.testing.assert_array_equal(one.params["b"][0].data, two.params["b"][0].data)
    assert not np.array_equal(two.params["a"][0].data, two.params["b"][0].data)


FIVE = 'layer { name: "five" type: "Power" bottom: "data" top: "last" power_param { scale: 0 shift: 5 } }'
DEAD = convolution("dead", "data", "bias_filler { value: -1e3 }")
DEAD += 'layer { name: "relu" type: "ReLU" bottom: "dead" top: "last" }'


@pytest.mark.parametrize(
    ("before", "bottom"),
    [(NOISE.replace("gaussian", "constant"), "data"), (NOISE + FIVE, "last"), (NOISE + DEAD, "last")],
    ids=["all zero", "all five", "dead activation"],
)
def test_no_variance_is_refused_with_the_layers_name(tmp_path: Path, before: str, bottom: str) -> None:
    single = f"""layer {{ name: "blind" type: "InnerProduct" bottom: "{bottom}" top: "blind" inner_product_param {{
        num_output: 1 weight_filler {{ type: "msra" }} bias_filler {{ value: 3 }} }} }}"""
    net = build(before + single, tmp_path)
    with pytest.raises(CaffebenchError, match=r"'blind' \(InnerProduct\) has variance .* no scale gives it 1"):
        initialise(net, method="lsuv", seed=1)
    initialise(net, method="ortho", seed=1)


def test_an_output_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    net = build(NOISE.replace("std: 2", "std: 1e38") + convolution("hot", "data"), tmp_path)
    with pytest.raises(CaffebenchError, match=r"'hot'.* has variance (inf|nan) on the batch"):
        initialise(net, method="lsuv", seed=1)


def test_biases_that_alone_exceed_unit_variance_are_refused(tmp_path: Path) -> None:
    text = NOISE + convolution("biased", "data", 'bias_filler { type: "gaussian" std: 30 }')
    with pytest.raises(CaffebenchError, match=r"'biased'.* has biases of variance \d+"):
        initialise(build(text, tmp_path), method="lsuv", seed=1)


def test_shared_weights_are_initialised_once_and_several_tops_together(tmp_path: Path) -> None:
    net = build(
        NOISE
        + 'layer { name: "louder" type: "Power" bottom: "data" top: "louder" power_param { scale: 3 } }'
        + 'layer { name: "pair" type: "Convolution" bottom: "data" bottom: "louder" top: "soft" top: "loud"'
        + ' param { name: "w" } convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "msra" } } }'
        + convolution("twin", "data").replace("convolution_param", 'param { name: "w" } convolution_param'),
        tmp_path,
    )
    reports: list[Any] = []
    initialise(net, method="lsuv", seed=1, report=reports.append)
    both = np.concatenate([net.blobs["soft"].data.ravel(), net.blobs["loud"].data.ravel()])
    assert np.var(both, dtype=np.float64) == pytest.approx(1, abs=1e-4)
    assert reports[1] == SkippedInitEvent("lsuv", "twin", "Convolution", "shares the weights of pair")


SHARED = 'param { name: "w" } inner_product_param'
INNER = """
layer { name: "NAME" type: "InnerProduct" bottom: "BOTTOM" top: "NAME" inner_product_param {
        num_output: 144 weight_filler { type: "msra" } } }
"""


def inner(name: str, bottom: str, *, shared: bool = False) -> str:
    text = INNER.replace("NAME", name).replace("BOTTOM", bottom)
    return text.replace("inner_product_param", SHARED) if shared else text


TWO_BRANCHES = (
    NOISE
    + NOISE.replace('"data"', '"other"')
    + inner("owner", "data", shared=True)
    + inner("sharer", "other", shared=True)
    + 'layer { name: "both" type: "Concat" bottom: "owner" bottom: "sharer" top: "both" }'
    + inner("decision", "both")
)
TIED_STACK = (
    NOISE + inner("owner", "data", shared=True) + inner("sharer", "owner", shared=True) + inner("end", "sharer")
)
TIED_WORDS = (
    NOISE
    + 'layer { name: "words" type: "DummyData" top: "words" dummy_data_param { shape { dim: 64 }'
    + " data_filler { value: 3 } } }"
    + inner("owner", "data", shared=True)
    + 'layer { name: "embed" type: "Embed" bottom: "words" top: "embed" param { name: "w" }'
    + " embed_param { input_dim: 144 num_output: 144 bias_term: false } }"
    + 'layer { name: "sum" type: "Eltwise" bottom: "owner" bottom: "embed" top: "sum" }'
    + inner("end", "sum")
)


@pytest.mark.parametrize("text", [TWO_BRANCHES, TIED_STACK, TIED_WORDS], ids=["branches", "stack", "words"])
def test_weights_that_a_layer_further_on_shares_stay_as_they_were_made(tmp_path: Path, text: str) -> None:
    net = build(text, tmp_path)
    reports: list[Any] = []
    initialise(net, method="lsuv", seed=1, report=reports.append)
    owner, *_, last = [report for report in reports if isinstance(report, InitEvent)]
    unit = net.params["owner"][0].data.astype(np.float64) / owner.scale
    np.testing.assert_allclose(unit @ unit.T, np.eye(144), atol=1e-5)
    net.save(str(tmp_path / "net.caffemodel"))
    found = variances_measured_anew(text, tmp_path / "net.caffemodel", tmp_path)
    assert [found["owner"], found[last.layer]] == pytest.approx([1, 1], abs=0.1), "on other noise"


def test_kept_layers_keep_their_weights(tmp_path: Path) -> None:
    text = NOISE + convolution("fixed", "data").replace("convolution_param", "param { lr_mult: 0 } convolution_param")
    text += convolution("free", "fixed")
    definition = caffe_pb2().NetParameter()
    text_format.Parse(text, definition)
    net = build(text, tmp_path)
    before = net.params["fixed"][0].data.copy()
    reports: list[Any] = []
    initialise(net, method="lsuv", seed=1, report=reports.append, keep=frozen_layers(definition.layer))
    np.testing.assert_array_equal(net.params["fixed"][0].data, before)
    assert [getattr(report, "skipped", None) for report in reports] == ["kept as it is", None]


def test_a_net_without_linear_layers_is_left_alone(tmp_path: Path) -> None:
    net = build(NOISE + 'layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" }', tmp_path)
    reports: list[Any] = []
    initialise(net, method="lsuv", seed=1, report=reports.append)
    assert [report.skipped for report in reports] == ["running statistics, not weights"]


def test_biases_that_drown_the_weights_are_found_by_the_check(tmp_path: Path) -> None:
    """Single precision has steps of 1 at ten million: the measured variance is mostly rounding."""
    net = build(NOISE + convolution("drowned", "data", "bias_filler { value: 1e7 }"), tmp_path)
    with pytest.raises(CaffebenchError, match=r"'drowned'.* has variance .* after scaling: use smaller biases"):
        initialise(net, method="lsuv", seed=1)


def test_an_unknown_method_names_the_choices(tmp_path: Path) -> None:
    net = build(NOISE + convolution("conv", "data"), tmp_path)
    with pytest.raises(InputError, match="'xavier': choose one of lsuv, ortho, ortho-lsuv"):
        initialise(net, method="xavier", seed=1)


KERNELS = st.lists(st.integers(1, 5), min_size=1, max_size=3)


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 12), KERNELS, st.integers(0, 2**32 - 1))
def test_orthonormal_whatever_the_shape(groups: int, outputs: int, inputs: list[int], seed: int) -> None:
    weights = np.empty((groups * outputs, *inputs), np.float32)
    Orthonormal(weights, np.random.default_rng(seed), groups=groups).finish()
    for matrix in matrices(weights, groups).astype(np.float64):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-5)


def test_orthonormal_matrices_are_uniformly_distributed() -> None:
    """The moments of the Haar measure: E q = 0, E q^2 = 1/n, E det = 0, E trace^2 = 1."""
    generator = np.random.default_rng(0)
    drawn = np.empty((5000, 3, 3), np.float32)
    for matrix in drawn:
        Orthonormal(matrix, generator).finish()
    drawn = drawn.astype(np.float64)
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose((drawn**2).mean(axis=0), 1 / 3, atol=0.02)
    assert np.linalg.det(drawn).mean() == pytest.approx(0, abs=0.05)
    assert (np.trace(drawn, axis1=1, axis2=2) ** 2).mean() == pytest.approx(1, abs=0.1)


def test_every_architecture_of_the_generator(
    digits_root: Path, tmp_path: Path, every_file: Callable[[str], dict[str, str]]
) -> None:
    """One variant of each architecture on the digits, measured anew in one forward pass of a net of its own."""
    tried = set()
    for variant, written in sorted(every_file("digits").items()):
        solver = caffe_pb2().SolverParameter()
        text_format.Parse(written, solver)
        layers = solver.net_param.layer
        architecture = tuple((layer.name, layer.type, layer.convolution_param.num_output) for layer in layers)
        if architecture in tried:
            continue
        tried.add(architecture)
        for layer in layers:
            if layer.type == "Data":
                layer.data_param.source = str(digits_root / Path(*Path(layer.data_param.source).parts[-2:]))
        text = text_format.MessageToString(solver.net_param)
        net = build(text, tmp_path)
        reports: list[Any] = []
        initialise(net, method="lsuv", seed=1, report=reports.append, keep=frozen_layers(solver.net_param.layer))
        net.save(str(tmp_path / "net.caffemodel"))
        done = [report.layer for report in reports if isinstance(report, InitEvent)]

        fresh = build(text, tmp_path, tmp_path / "net.caffemodel")
        found = {}
        caffe.set_random_seed(1)  # the masks that the initialisation saw: on few outputs others weigh much
        for index, name in enumerate(fresh._layer_names):
            fresh._forward(index, index)
            if fresh.layers[index].type in LINEAR:
                found[name] = float(np.var(fresh.blobs[fresh.top_names[name][0]].data, dtype=np.float64))
        assert len(done) >= 3, variant
        assert {name: found[name] for name in done} == pytest.approx(dict.fromkeys(done, 1), abs=0.05), variant
    assert len(tried) >= 30
