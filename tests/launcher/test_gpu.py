"""The estimate of a GPU's memory, on nets that are counted by hand; what needs a card is left to gpu-acceptance."""

from __future__ import annotations

import pytest

from caffebench.launcher import gpu
from caffebench.launcher.gpu import GpuLoad, memory_note, training_bytes
from caffebench.launcher.plan import Plan

SOLVER = """
net_param {
  layer { name: "data" type: "DummyData" top: "data" top: "label"
    dummy_data_param { shape { dim: %(batch)d dim: 3 dim: 8 dim: 8 } shape { dim: %(batch)d } } }
  layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 10 } }
  layer { name: "relu" type: "ReLU" bottom: "fc" top: "fc" }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
}
base_lr: 0.01 lr_policy: "fixed" max_iter: 10 type: "%(type)s"
"""


@pytest.mark.parametrize(("type_", "histories"), [("SGD", 1), ("Adam", 2)])
def test_the_bytes_are_those_of_a_count_by_hand(type_, histories):
    batch, weights = 16, 3 * 8 * 8 * 10 + 10
    data = batch * 3 * 8 * 8 + batch  # no gradient
    blobs = batch * 10 + 1  # in place once, each with a gradient
    expected = 4 * (data + 2 * blobs + weights * (2 + histories + 1))
    assert training_bytes(SOLVER % {"batch": batch, "type": type_}) == expected


def test_a_net_that_caffe_refuses_is_not_counted():
    assert training_bytes(SOLVER.replace("InnerProduct", "NoSuchLayer") % {"batch": 1, "type": "SGD"}) is None


def test_what_does_not_fit_is_said_with_the_way_out(monkeypatch):
    solver = SOLVER.replace("DummyData", "Data").replace("dummy_data_param", "#") % {"batch": 1, "type": "SGD"}
    solver = solver.replace(
        "# { shape { dim: 1 dim: 3 dim: 8 dim: 8 } shape { dim: 1 } } }", "data_param { batch_size: 1024 } }"
    )
    plan = Plan(run="bs1024", prototxt="bs1024.prototxt", solver=solver, max_iter=10, seed=1)
    monkeypatch.setattr(gpu, "_ask", lambda _text, _device: {"need": 6.2 * 2**30, "free": 4 * 2**30})
    assert memory_note(plan, 0) == (
        "bs1024 needs about 6.2 GiB at batch 1024, and GPU 0 has 4.0 GiB free: halve batch_size and set iter_size: 2"
    )
    monkeypatch.setattr(gpu, "_ask", lambda _text, _device: {"need": 3 * 2**30, "free": 4 * 2**30})
    assert memory_note(plan, 0) is None


def test_without_cards_nothing_is_said():
    assert GpuLoad(()).line() == ""
