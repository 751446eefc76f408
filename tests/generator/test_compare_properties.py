"""What must hold of any net: no spelling makes a difference, and every number does."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffebench.engine.messages import caffe_messages
from caffebench.generator.compare import compare
from caffebench.generator.meaning import Prototxt, load_prototxt

NET = """
test_iter: 36 test_interval: 100 base_lr: 0.01 lr_policy: "step" gamma: 0.1 stepsize: 500 max_iter: 1000
momentum: 0.9 weight_decay: 0.0005 snapshot: 100 display: 20 iter_size: 2 random_seed: 3
net_param {
  layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
    transform_param { scale: 0.04 mean_value: 104 mean_value: 117 mean_value: 123 crop_size: 24 }
    data_param { batch_size: 16 backend: LMDB prefetch: 3 } }
  layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
    transform_param { scale: 0.04 mean_value: 104 mean_value: 117 mean_value: 124 }
    data_param { batch_size: 10 backend: LMDB } }
  layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 decay_mult: 1 }
    param { lr_mult: 2 decay_mult: 0.5 } convolution_param { num_output: 8 pad: 1 kernel_size: 3 stride: 2
    group: 1 dilation: 1 weight_filler { type: "gaussian" std: 0.01 } bias_filler { value: 0.1 } } }
  layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" relu_param { negative_slope: 0.01 } }
  layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "bn1"
    batch_norm_param { moving_average_fraction: 0.95 eps: 0.001 } }
  layer { name: "scale1" type: "Scale" bottom: "bn1" top: "bn1" scale_param { bias_term: true axis: 1 } }
  layer { name: "pool1" type: "Pooling" bottom: "bn1" top: "pool1" pooling_param { kernel_size: 3 stride: 2 } }
  layer { name: "a" type: "Convolution" bottom: "pool1" top: "a" convolution_param { num_output: 4
    kernel_size: 1 weight_filler { type: "xavier" } } }
  layer { name: "b" type: "Convolution" bottom: "pool1" top: "b" convolution_param { num_output: 4
    kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0 weight_filler { type: "uniform" min: -0.5 max: 0.5 } } }
  layer { name: "norm" type: "LRN" bottom: "b" top: "norm" lrn_param { local_size: 3 alpha: 0.1 beta: 0.5 } }
  layer { name: "cat" type: "Concat" bottom: "a" bottom: "norm" top: "cat" concat_param { axis: 1 } }
  layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "norm" top: "sum" eltwise_param { coeff: 1 coeff: -1 } }
  layer { name: "drop" type: "Dropout" bottom: "cat" top: "drop" dropout_param { dropout_ratio: 0.3 } }
  layer { name: "fc" type: "InnerProduct" bottom: "drop" top: "fc" inner_product_param { num_output: 10 } }
  layer { name: "fc_sum" type: "InnerProduct" bottom: "sum" top: "fc_sum" inner_product_param { num_output: 10 } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" loss_weight: 1 }
  layer { name: "aux" type: "SoftmaxWithLoss" bottom: "fc_sum" bottom: "label" top: "aux" loss_weight: 0.3 }
  layer { name: "top5" type: "Accuracy" bottom: "fc" bottom: "label" top: "top5" include { phase: TEST }
    accuracy_param { top_k: 5 } }
}
"""


def parsed() -> Any:
    from google.protobuf import text_format

    return text_format.Parse(NET, caffe_messages().SolverParameter())


def loaded(solver: Any) -> Prototxt:
    from google.protobuf import text_format

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.prototxt"
        path.write_text(text_format.MessageToString(solver))
        return load_prototxt(path)


def rename(solver: Any, names: random.Random) -> None:
    """New names for all layers and blobs, the same for the same."""
    new: dict[str, str] = {}
    for layer in solver.net_param.layer:
        for field in (layer.bottom, layer.top):
            field[:] = [new.setdefault(name, f"{names.random()}") for name in field]
        layer.name = f"l{names.random()}"


def toggle_in_place(solver: Any, choice: random.Random) -> None:
    """Each layer of one bottom and one top works in place or not, where that changes nobody's input."""
    renamed: dict[str, str] = {}
    layers = solver.net_param.layer
    for index, layer in enumerate(layers):
        read = layer.bottom[0] if layer.bottom else ""
        layer.bottom[:] = [renamed.get(name, name) for name in layer.bottom]
        if layer.type not in ("ReLU", "Scale", "Dropout", "BatchNorm"):
            continue
        later = {name for other in layers[index + 1 :] for name in other.bottom}
        top = layer.top[0]
        if choice.random() < 0.5:
            if top == read or read not in later:
                renamed[top] = layer.top[0] = layer.bottom[0]
        else:
            renamed[top] = layer.top[0] = f"own_{index}"


def shuffle(solver: Any, order: random.Random) -> None:
    """The layers in another order that still feeds each from those before it."""
    waiting = [type(layer)() for layer in solver.net_param.layer]
    for copy, layer in zip(waiting, solver.net_param.layer, strict=True):
        copy.CopyFrom(layer)
    writes = [(set(layer.top), set(layer.bottom) | set(layer.top)) for layer in waiting]
    before = {
        i: {j for j in range(i) if writes[j][0] & writes[i][1] or writes[i][0] & writes[j][1]}
        for i in range(len(waiting))
    }
    done: list[int] = []
    while len(done) < len(waiting):
        ready = [i for i in before if i not in done and before[i] <= set(done)]
        done.append(order.choice(ready))
    del solver.net_param.layer[:]
    solver.net_param.layer.extend(waiting[i] for i in done)


def numbers(message: Any) -> Iterator[tuple[Any, str, int | None]]:
    """Every number written in a message and those in it, as (message, field, index in a repeated field)."""
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from numbers(inner)
        elif descriptor.enum_type is None:
            many = not isinstance(value, (int, float, str))
            for index, one in enumerate(value if many else [value]):
                if isinstance(one, (int, float)) and not isinstance(one, bool):
                    yield message, descriptor.name, index if many else None


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sets(st.sampled_from([rename, toggle_in_place, shuffle]), min_size=1))
def test_no_spelling_makes_a_difference(seed: int, changes: set[Any]) -> None:
    solver = parsed()
    for change in sorted(changes, key=lambda one: str(one.__name__), reverse=True):
        change(solver, random.Random(seed))
    original, other = loaded(parsed()), loaded(solver)
    assert compare(original, other) == []
    assert compare(other, original) == []


COUNT = len(list(numbers(parsed())))


@pytest.mark.parametrize("which", range(COUNT))
def test_every_number_makes_a_difference(which: int) -> None:
    solver = parsed()
    message, name, index = list(numbers(solver))[which]
    if index is None:
        value = getattr(message, name)
        setattr(message, name, value + 1 if isinstance(value, int) else value * 1.001 + 1e-4)
    else:
        getattr(message, name)[index] += 1
    rename(solver, random.Random(which))
    found = compare(loaded(parsed()), loaded(solver))
    assert found
    assert all(name.split("_")[0] in one.what for one in found), "and the difference told is that one"
